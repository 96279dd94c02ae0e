"""LiDAR sweeps: occupied coarse voxels, with the fine occupancy and the points inside them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from shard_tools import Manifest
from shard_tools.schema import Layer

from ..batch import MaskPlan, Values, View
from ..losses.chamfer import chamfer
from ..losses.mse import mse
from .base import Adapter, Modality, Options, Positive, average, whole

BASE = np.array([0.1, 0.1, 0.2])  # metres of a base voxel of format 1


class LidarOptions(Options):
    """How sweeps become tokens."""

    voxel: tuple[Positive, Positive, Positive] = Field(
        (8, 8, 40), description="base voxels (.1 × .1 × .2 m) of a token: x, y, z"
    )
    cells: tuple[Positive, Positive, Positive] = Field(
        (4, 4, 20), description="occupancy cells of a token, dividing its voxels: x, y, z"
    )
    floor: float = Field(-5.0, description="metres; tokens are stacked from this height up")
    range: float = Field(50.0, gt=0, description="metres to the sensor, along x and y, that are read")
    tokens: int = Field(1024, gt=1, description="most tokens of a view; the ones nearest to a centre are kept")
    points: int = Field(64, gt=0, description="most points of a token that are read and compared with")
    guesses: int = Field(10, gt=0, description="points the head predicts a token")
    fake: float = Field(0.1, ge=0, description="empty voxels asked for as well, as a share of the occupied ones")

    @model_validator(mode="after")
    def _fits(self) -> "LidarOptions":
        for axis, size, cells in zip("xyz", self.voxel, self.cells, strict=True):
            whole(f"voxel {axis}", size, "cells", cells)
        return self


class Lidar(Modality):
    """Occupied voxels as tokens; some empty ones are asked for too (Voxel-MAE, section 3.2).

    values: `cells` uint8 [n, cells], 1 where a fine cell is occupied; `points` [n, points, 4]: x, y, z in −1..1 of the
    token's voxel, and intensity; `valid` [n, points].
    """

    name = "lidar"
    height = 4.0
    Options = LidarOptions

    @staticmethod
    def describe(manifests: Sequence[Manifest]) -> dict[str, Any]:
        """Return how points are stored, intensity's mean and deviation, and the layers."""
        part = manifests[0].parts["points.npy"]
        return {
            "scale": part.scale,
            "offset": part.offset,
            "intensity": [float(average(manifests, "mean")[3]), float(average(manifests, "std")[3])],
            "layers": {name: layer.model_dump() for m in manifests for name, layer in m.layers.items()},
        }

    def view(self, sample: dict[str, Any], rng: np.random.Generator, train: bool) -> View:
        """Coarsen the base voxels, keep the tokens nearest to a centre, add fake ones; mirrored by chance."""
        o = self.options
        points = sample["points.npy"] * np.float32(self.spec["scale"]) + np.float32(self.spec["offset"])
        voxel = sample["coords.npy"].astype(np.int64)
        layers = {
            name: Layer(**spec).decode(stored)
            for name, spec in self.spec["layers"].items()
            if (stored := sample.get(f"{name}.npy")) is not None
        }
        voxel[:, 2] -= round(o.floor / BASE[2])
        points[:, 2] -= np.float32(o.floor)
        if train and rng.random() < 0.5:
            points[:, 1] *= -1
            voxel[:, 1] = -1 - voxel[:, 1]

        coarse = voxel // o.voxel
        near = (np.abs((coarse[:, :2] + 0.5) * o.voxel[:2] * BASE[:2]) <= o.range).all(1) & (coarse[:, 2] >= 0)
        token, member = _unique(coarse[near])
        if len(token) < 2:
            raise ValueError(
                f"{len(token)} occupied voxels within {o.range:g} m and above {o.floor:g} m; two are needed"
            )
        token, member = _nearest(token, member, o.tokens, rng if train else None)
        base_member = np.full(len(voxel), -1)
        base_member[near] = member

        n, size = len(token), np.array(o.voxel)
        inside = base_member >= 0
        cell = np.ravel_multi_index(((voxel[inside] % size) // (size // o.cells)).T, o.cells)
        cells = np.zeros((n, int(np.prod(o.cells))), np.uint8)
        cells[base_member[inside], cell] = 1

        owner = np.repeat(base_member, sample["count.npy"])
        kept, valid = _points(points, owner, token, size * BASE, o.points, rng)
        pooled = {name: _pool(value[inside], base_member[inside], n) for name, value in layers.items()}

        fake = _empty_neighbours(token, round(o.fake * n), rng)
        centre = np.concatenate([token, fake]) + 0.5
        pad = lambda a: np.concatenate([a, np.zeros((len(fake), *a.shape[1:]), a.dtype)])  # noqa: E731
        real = np.arange(n + len(fake)) < n
        return View(
            values={k: torch.from_numpy(pad(v)) for k, v in {"cells": cells, "points": kept, "valid": valid}.items()},
            positions=torch.from_numpy(centre * size).float(),
            extent=torch.tensor(o.voxel).float().expand(len(centre), 3),
            segments=np.array([len(centre)]),
            readable=real,
            askable=np.ones(len(centre), bool),
            layers={name: pad(value) for name, value in pooled.items()},
            canvas={"token": np.concatenate([token, fake]), "metres": size * BASE},
        )

    def nothing(self) -> Values:
        """Return no voxels."""
        points = self.options.points
        return {
            "cells": torch.zeros(0, int(np.prod(self.options.cells)), dtype=torch.uint8),
            "points": torch.zeros(0, points, 4),
            "valid": torch.zeros(0, points, dtype=torch.bool),
        }

    def adapter(self, dim: int, width: int) -> "LidarAdapter":
        """Return a point-set tokenizer and a head of occupancy and points."""
        return LidarAdapter(self.options, self.spec["intensity"], dim, width)

    def draw(self, axes: Sequence[Any], view: View, plan: MaskPlan, truth: Values, guess: Values) -> None:
        """Show the sweep from above with its points coloured by height, what was read, and the predicted points."""
        corner = torch.from_numpy(view.canvas["token"] * view.canvas["metres"]).float()
        metres = torch.from_numpy(view.canvas["metres"]).float()

        def world(points: Tensor, rows: Tensor) -> Tensor:
            return corner[rows][:, None] + (points + 1) / 2 * metres

        every, context, query = (torch.arange(len(view)), torch.from_numpy(plan.context), torch.from_numpy(plan.query))
        occupied = 1 - (1 - guess["cells"]).prod(1) > 0.5  # at least one cell is likelier taken than not
        shown = [
            world(truth["points"], every)[truth["valid"]],
            world(truth["points"][context], context)[truth["valid"][context]],
            torch.cat(
                [
                    world(truth["points"][context], context)[truth["valid"][context]],
                    world(guess["points"], query)[occupied].flatten(0, 1),
                ]
            ),
        ]
        reach = shown[0][:, :2].abs().max().item()
        for ax, points in zip(axes, shown, strict=True):
            ax.scatter(-points[:, 1], points[:, 0], c=points[:, 2], s=1.5, cmap="viridis", vmin=0, vmax=6, linewidths=0)
            ax.set(xticks=[], yticks=[], aspect="equal", facecolor="0.08", xlim=(-reach, reach), ylim=(-reach, reach))


class LidarAdapter(Adapter):
    """A small PointNet over a voxel's points (Qi et al.) with its fine occupancy; a head of cells and points."""

    def __init__(self, options: LidarOptions, intensity: list[float], dim: int, width: int) -> None:
        super().__init__()
        cells = int(np.prod(options.cells))
        self.guesses = options.guesses
        self.register_buffer("metres", torch.tensor(np.array(options.voxel) * BASE / 2).float(), persistent=False)
        self.intensity = intensity
        self.point = nn.Sequential(nn.Linear(4, dim // 2), nn.GELU(), nn.Linear(dim // 2, dim))
        self.occupancy = nn.Linear(cells, dim)
        self.cells = nn.Linear(width, cells)
        self.points = nn.Linear(width, options.guesses * 3)

    def tokenize(self, values: Values) -> Float[Tensor, "n d"]:
        """Embed the greatest response over a voxel's points, and its occupied cells."""
        points = values["points"].float()
        mean, std = self.intensity
        scaled = torch.cat([points[..., :3], (points[..., 3:] - mean) / std], -1)
        # Padding repeats the first point, so that it cannot win the maximum.
        return self.point(scaled).amax(1) + self.occupancy(values["cells"].float())

    def predict(self, decoded: Float[Tensor, "q w"], values: Values) -> Values:
        """Return occupancy logits and points in −1..1 of the voxel."""
        points = self.points(decoded).float().unflatten(1, (self.guesses, 3)).tanh()
        return {"cells": self.cells(decoded).float(), "points": points}

    def loss(self, predictions: Values, values: Values) -> Float[Tensor, " q"]:
        """Return binary cross-entropy of the cells, times ten for their rarity, + chamfer distance of the points."""
        occupancy = F.binary_cross_entropy_with_logits(
            predictions["cells"], values["cells"].float(), reduction="none"
        ).mean(1)
        return 10 * occupancy + chamfer(predictions["points"], values["points"].float()[..., :3], values["valid"])

    def decode(self, predictions: Values) -> Values:
        """Return probabilities of the cells and the points as they are."""
        return {"cells": predictions["cells"].sigmoid(), "points": predictions["points"]}

    def truth(self, values: Values) -> Values:
        """Return occupied cells as 0 and 1, the points, and which of them count."""
        return {
            "cells": values["cells"].float(),
            "points": values["points"].float()[..., :3],
            "valid": values["valid"],
        }

    def trivial(self, context: Values, values: Values) -> Values:
        """Return the context's mean occupancy of each cell and its mean point."""
        seen, n = self.truth(context), len(values["cells"])
        mean_point = seen["points"][seen["valid"]].mean(0)
        return {"cells": seen["cells"].mean(0).expand(n, -1), "points": mean_point.expand(n, 1, 3)}

    def errors(self, guess: Values, truth: Values) -> dict[str, Float[Tensor, " q"]]:
        """Return the Brier score of the cells, and the chamfer distance in metres for voxels that hold points."""
        distance = chamfer(guess["points"] * self.metres, truth["points"] * self.metres, truth["valid"])
        return {
            "occupancy": mse(guess["cells"], truth["cells"]),
            "points": distance.masked_fill(~truth["valid"].any(1), torch.nan),
        }


def _nearest(
    token: np.ndarray, member: np.ndarray, most: int, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the `most` tokens nearest to the sensor, or to a random token; member becomes −1 for those that go."""
    if len(token) <= most:
        return token, member
    centre = token[rng.integers(len(token)), :2] if rng else np.array([-0.5, -0.5])
    keep = np.sort(np.argsort(((token[:, :2] - centre) ** 2).sum(1), kind="stable")[:most])
    renumber = np.full(len(token), -1)
    renumber[keep] = np.arange(most)
    return token[keep], renumber[member]


def _points(
    points: np.ndarray, owner: np.ndarray, token: np.ndarray, metres: np.ndarray, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw up to `most` points a token: [n, most, 4], in −1..1 of the voxel, padded with the first, and which count."""
    order = rng.permutation(np.flatnonzero(owner >= 0))
    order = order[np.argsort(owner[order], kind="stable")]
    counts = np.bincount(owner[order], minlength=len(token))
    first = np.cumsum(counts) - counts
    slot = np.arange(most)
    valid = slot < counts[:, None]
    rows = order[first[:, None] + np.where(valid, slot, 0)]
    kept = points[rows].astype(np.float32)
    kept[..., :3] = (kept[..., :3] - (token * metres)[:, None]) / metres * 2 - 1
    return kept, valid


def _pool(values: np.ndarray, member: np.ndarray, n: int) -> np.ndarray:
    """Return the mean of base voxels' values a token."""
    return (np.bincount(member, values, n) / np.maximum(np.bincount(member, minlength=n), 1)).astype(np.float32)


def _empty_neighbours(token: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw empty voxels beside occupied ones: up to `count`, without repeats."""
    steps = rng.integers(-2, 3, (4 * count, 3)) * [1, 1, 0]
    tried, _ = _unique(token[rng.integers(len(token), size=4 * count)] + steps)
    empty = tried[~np.isin(_code(tried), _code(token))]
    return empty[rng.permutation(len(empty))[:count]]


def _code(voxels: np.ndarray) -> np.ndarray:
    """Return one integer a voxel, ordered as the rows are; coordinates within ±2^20."""
    x, y, z = (voxels + (1 << 20)).T
    return (x << 42) | (y << 21) | z


def _unique(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different rows, sorted, and which of them each row is: np.unique over rows, ten times as fast."""
    _, first, member = np.unique(_code(voxels), return_index=True, return_inverse=True)
    return voxels[first], member
