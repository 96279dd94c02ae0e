"""A street along x with what stands and moves in it, placed by chance; metres, seconds, roadway at z = 0."""

from dataclasses import dataclass

import numpy as np

from examples.samples import solids
from examples.samples.solids import Material, Mesh, disc, rectangle

ENDS = (-90.0, 170.0)
KERB = 0.12
LANE = 1.75  # from the middle of the street to the middle of a lane


@dataclass(frozen=True)
class Mover:
    """Something that goes along the street: its shape, where it is at time 0, and metres a second along x."""

    shape: Mesh
    x: float
    y: float
    speed: float


class Street:
    """Houses, gardens, trees, poles and parked cars, which stand, and cars and walkers, which move."""

    def __init__(self, rng: np.random.Generator, ego_speed: float) -> None:
        """Build a street for an observer who drives along it at `ego_speed` in the right lane."""
        half_width = rng.uniform(6, 7)
        pavement = rng.uniform(2, 3.5)
        self.standing = Mesh()
        lay_ground(self.standing, half_width, pavement)
        for side in (-1, 1):
            line_houses(self.standing, side, half_width + pavement, rng)
            line_kerb(self.standing, side, half_width, rng)
            park_cars(self.standing, side, half_width, rng)
        self.movers = [*traffic(ego_speed, rng), *walkers(half_width, pavement, rng)]

    def at(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Triangles float32 [N, 3, 3] and their materials [N, 2] at `time`."""
        scene = Mesh(list(self.standing.corners), list(self.standing.materials))
        for mover in self.movers:
            scene.place(mover.shape, mover.x + mover.speed * time, mover.y, 0.0 if mover.speed > 0 else np.pi)
        return np.concatenate(scene.corners), np.concatenate(scene.materials)


def lay_ground(mesh: Mesh, half_width: float, pavement: float) -> None:
    """Roadway with a broken line, raised pavements, grass behind."""
    length, middle = ENDS[1] - ENDS[0], sum(ENDS) / 2
    mesh.prism(solids.ASPHALT, rectangle(length, 2 * half_width, middle), -1, 0)
    for x in np.arange(*ENDS, 9.0):
        mesh.prism(solids.PAINT, rectangle(3, 0.15, x), 0, 0.005)
    for side in (-1, 1):
        inner, outer = half_width, half_width + pavement
        mesh.prism(solids.PAVING, rectangle(length, pavement, middle, side * (inner + outer) / 2), -1, KERB)
        mesh.prism(solids.GRASS, rectangle(length, 90, middle, side * (outer + 45)), -1, KERB - 0.03)


def line_houses(mesh: Mesh, side: int, front: float, rng: np.random.Generator) -> None:
    """Houses and gaps along one side, `front` metres from the middle; before some, a hedge."""
    x = ENDS[0] + rng.uniform(0, 8)
    while x < ENDS[1] - 16:
        length, depth, height, setback = rng.uniform((8, 8, 3.5, 1), (16, 12, 9, 7))
        mesh.place(house(length, depth, height, rng), x + length / 2, side * (front + setback + depth / 2))
        if setback > 3 and rng.random() < 0.6:
            hedge = rectangle(length - 2, 0.6, x + length / 2, side * (front + 0.5))
            mesh.prism(solids.LEAF, hedge, 0, rng.uniform(0.8, 1.6))
        x += length + (rng.uniform(8, 14) if rng.random() < 0.2 else rng.uniform(0.5, 5))


def line_kerb(mesh: Mesh, side: int, half_width: float, rng: np.random.Generator) -> None:
    """Trees, lamps and signs on the pavement, half a metre behind the kerb."""
    makers = (tree, lamp, sign)
    x = ENDS[0] + rng.uniform(0, 10)
    while x < ENDS[1]:
        maker = makers[rng.choice(len(makers), p=(0.5, 0.3, 0.2))]
        mesh.place(maker(rng), x, side * (half_width + 0.6), -side * np.pi / 2)
        x += rng.uniform(7, 18)


def park_cars(mesh: Mesh, side: int, half_width: float, rng: np.random.Generator) -> None:
    """Cars at the kerb, with gaps."""
    x = ENDS[0] + rng.uniform(0, 10)
    while x < ENDS[1]:
        mesh.place(car(rng), x, side * (half_width - 1.1), rng.choice([0, np.pi]) + rng.normal(0, 0.02))
        x += rng.uniform(5.2, 6.5) if rng.random() < 0.55 else rng.uniform(10, 30)


def traffic(ego_speed: float, rng: np.random.Generator) -> list[Mover]:
    """Cars ahead of and behind the observer at nearly its speed, and others that come towards it."""
    same, towards = (-28, 14, 33), range(-10, 150, 30)
    return [
        *(Mover(car(rng), x, -LANE, ego_speed * rng.uniform(0.97, 1.03)) for x in same if rng.random() < 0.7),
        *(Mover(car(rng), x, LANE, -rng.uniform(7, 9)) for x in towards if rng.random() < 0.7),
    ]


def walkers(half_width: float, pavement: float, rng: np.random.Generator) -> list[Mover]:
    """Twenty people on the pavements, in both directions."""
    return [
        Mover(
            walker(rng),
            rng.uniform(-40, 90),
            rng.choice([-1, 1]) * (half_width + rng.uniform(1, pavement - 0.3)),
            rng.choice([-1, 1]) * rng.uniform(0.8, 1.8),
        )
        for _ in range(20)
    ]


def house(length: float, depth: float, height: float, rng: np.random.Generator) -> Mesh:
    """Walls, a gable roof with eaves, and rows of windows to the front and the back."""
    mesh = Mesh()
    mesh.prism(solids.PLASTER if rng.random() < 0.5 else solids.BRICK, rectangle(length, depth), 0, height)
    eaves, ridge = rectangle(length + 0.6, depth + 0.6), rectangle(length + 0.6, 0.1)
    mesh.prism(solids.TILES, eaves, height, height + rng.uniform(0.25, 0.45) * depth, ridge)
    for sill in np.arange(1, height - 1.6, 2.8):
        for x in np.arange(-length / 2 + 1.5, length / 2 - 1, 2.6):
            mesh.prism(solids.GLASS, rectangle(1.2, depth + 0.06, x), sill, sill + 1.4)
    return mesh


def tree(rng: np.random.Generator) -> Mesh:
    """A trunk under a ball of loose leaves, through which part of the light passes."""
    mesh = Mesh()
    trunk, radius = rng.uniform(2.2, 3.2), rng.uniform(1.3, 2.4)
    mesh.prism(solids.BARK, disc(rng.uniform(0.12, 0.25)), 0, trunk + 0.6 * radius, disc(0.08))
    outward = rng.normal(size=(int(160 * radius**2), 1, 3))
    outward *= radius * rng.uniform(0.5, 1, (len(outward), 1, 1)) / np.linalg.norm(outward, axis=2, keepdims=True)
    leaves = outward + rng.normal(0, 0.14, (len(outward), 3, 3)) + [0, 0, trunk + 0.8 * radius]
    mesh.add(leaves, solids.LEAF)
    return mesh


def lamp(rng: np.random.Generator) -> Mesh:
    """A pole with an arm of 1.5 m along x."""
    mesh = Mesh()
    height = rng.uniform(5, 8)
    mesh.prism(solids.STEEL, disc(0.11), 0, height, disc(0.06))
    mesh.prism(solids.STEEL, rectangle(1.6, 0.1, 0.7), height, height + 0.1)
    mesh.prism(solids.STEEL, rectangle(0.6, 0.25, 1.4), height - 0.12, height)
    return mesh


def sign(rng: np.random.Generator) -> Mesh:
    """A traffic sign that throws nearly all light back, on a thin pole; its face looks along y."""
    mesh = Mesh()
    height = rng.uniform(2, 2.6)
    mesh.prism(solids.STEEL, disc(0.04), 0, height + 0.6)
    mesh.prism(solids.SIGN, rectangle(0.65, 0.03), height, height + 0.65)
    return mesh


def car(rng: np.random.Generator) -> Mesh:
    """Body, cabin of glass under a roof, four wheels, number plates; it looks along x."""
    mesh = Mesh()
    length, width, height = rng.uniform((3.8, 1.7, 1.4), (4.8, 1.9, 1.75))
    paint = Material(rng.uniform(0.1, 0.7))
    waist = 0.58 * height
    mesh.prism(paint, rectangle(length, width), 0.22, waist, rectangle(0.97 * length, 0.95 * width))
    roof = rectangle(0.38 * length, 0.8 * width, -0.08 * length)
    mesh.prism(solids.GLASS, rectangle(0.62 * length, 0.93 * width, -0.06 * length), waist, height - 0.04, roof)
    mesh.prism(paint, roof, height - 0.04, height)
    mesh.prism(solids.SIGN, rectangle(length + 0.04, 0.5), 0.45, 0.57)
    for x in (-0.3 * length, 0.3 * length):
        mesh.prism(solids.RUBBER, rectangle(0.62, width + 0.02, x), 0, 0.5, rectangle(0.4, width + 0.02, x))
    return mesh


def walker(rng: np.random.Generator) -> Mesh:
    """Legs in mid-stride, trunk, head; it stands on the pavement and looks along x."""
    mesh = Mesh()
    tall, stride = rng.uniform(1.55, 1.9), rng.uniform(0.1, 0.35)
    hip, shoulder = KERB + 0.47 * tall, KERB + 0.82 * tall
    for y, ahead in ((-0.1, stride), (0.1, -stride)):
        foot, top = (rectangle(0.16, 0.15, x, y) for x in (ahead, 0))
        mesh.prism(solids.CLOTH, foot, KERB, hip, top)
    mesh.prism(solids.CLOTH, rectangle(0.24, 0.38), hip, shoulder, rectangle(0.26, 0.5))
    mesh.prism(solids.SKIN, disc(0.1), shoulder + 0.04, KERB + tall)
    return mesh
