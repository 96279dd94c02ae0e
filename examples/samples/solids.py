"""Solids of a street as triangles, each with the material it is made of."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Material(NamedTuple):
    """How much light a surface met head on sends back, and how often any (glass lets most through); 0..1."""

    reflectivity: float
    opacity: float = 1.0


ASPHALT, PAVING, GRASS, PAINT = Material(0.16), Material(0.28), Material(0.38), Material(0.75)
BRICK, PLASTER, TILES, GLASS = Material(0.3), Material(0.5), Material(0.22), Material(0.08, 0.25)
BARK, LEAF, STEEL, SIGN = Material(0.25), Material(0.45, 0.9), Material(0.4), Material(0.98)
RUBBER, CLOTH, SKIN = Material(0.06), Material(0.35), Material(0.45)


def rectangle(length: float, width: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """Corners [4, 2] of a rectangle around (x, y), `length` along x and `width` along y."""
    return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [length / 2, width / 2] + [x, y]


def disc(radius: float, corners: int = 8) -> np.ndarray:
    """Corners [corners, 2] of a regular polygon around the origin."""
    angle = 2 * np.pi * np.arange(corners) / corners
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


@dataclass
class Mesh:
    """Triangles float32 [N, 3, 3] in metres and a `Material` row [N, 2] for each, gathered in pieces."""

    corners: list[np.ndarray] = field(default_factory=list)
    materials: list[np.ndarray] = field(default_factory=list)

    def add(self, triangles: np.ndarray, material: Material) -> None:
        """Add triangles [N, 3, 3] made of `material`."""
        self.corners.append(triangles.astype(np.float32))
        self.materials.append(np.tile(np.array(material, np.float32), (len(triangles), 1)))

    def prism(
        self, material: Material, bottom: np.ndarray, low: float, high: float, top: np.ndarray | None = None
    ) -> None:
        """Add what lies between polygon `bottom` [K, 2] at `low` and `top` (else the same) at `high`."""
        top = bottom if top is None else top
        floor, roof = (np.column_stack([ring, np.full(len(ring), z)]) for ring, z in ((bottom, low), (top, high)))
        floor_next, roof_next = np.roll(floor, -1, axis=0), np.roll(roof, -1, axis=0)
        sides = [np.stack(three, axis=1) for three in ((floor, floor_next, roof_next), (floor, roof_next, roof))]
        caps = [
            np.stack([np.broadcast_to(ring[0], ring[1:-1].shape), ring[1:-1], ring[2:]], 1) for ring in (floor, roof)
        ]
        self.add(np.concatenate(sides + caps), material)

    def place(self, other: "Mesh", x: float, y: float, heading: float = 0.0) -> None:
        """Add `other`, turned by `heading` radians about z and moved to (x, y)."""
        cos, sin = np.cos(heading), np.sin(heading)
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float32)
        self.corners += [piece @ turn + np.array([x, y, 0], np.float32) for piece in other.corners]
        self.materials += other.materials
