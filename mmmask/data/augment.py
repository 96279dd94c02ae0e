"""One crop, flip and resize for payload and layers alike: what keeps a mask on the thing it was made for."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from shard_tools.schema import Layer


@dataclass(frozen=True, slots=True)
class Crop:
    """A box of a picture in fractions of its height and width, perhaps mirrored left to right."""

    top: float
    left: float
    height: float
    width: float
    flip: bool = False

    def pixels(self, picture: UInt8[Tensor, "*t c h w"], size: tuple[int, int]) -> UInt8[Tensor, "*t c a b"]:
        """Cut the box out and resize it to `size` (height, width), antialiased."""
        h, w = picture.shape[-2:]
        top, left = round(self.top * h), round(self.left * w)
        height, width = max(round(self.height * h), 1), max(round(self.width * w), 1)
        box = picture[..., top : top + height, left : left + width]
        frames = box if box.ndim == 4 else box[None]
        out = F.interpolate(frames, size, mode="bilinear", antialias=True, align_corners=False)
        out = out.flip(-1) if self.flip else out
        return out if box.ndim == 4 else out[0]

    def layer(
        self, values: Float[Tensor, "c t h w"], layer: Layer, cover: tuple[float, float], grid: tuple[int, int]
    ) -> Float[Tensor, "c t a b"]:
        """Bring a decoded layer to a token grid (rows, columns) over the box, by its kind.

        cover: height and width of the picture in lattice cells; the last cells may hang over its edge.
        Vectors (dx, dy) change sign with the flip and length with the resize: they come out in grid cells of the crop.
        """
        h, w = values.shape[-2:]
        in_rows = _reads(layer.kind, self.height * cover[0] / grid[0])
        in_columns = _reads(layer.kind, self.width * cover[1] / grid[1])
        ys = (self.top + self.height * _spread(in_rows, grid[0])) * cover[0] / h
        xs = (self.left + self.width * _spread(in_columns, grid[1])) * cover[1] / w
        xs = xs.flip(0) if self.flip else xs
        where = torch.stack(torch.meshgrid(xs * 2 - 1, ys * 2 - 1, indexing="xy"), -1)
        read = F.grid_sample(
            values.transpose(0, 1),
            where.expand(values.shape[1], -1, -1, -1),
            mode="bilinear" if layer.kind in ("scalar", "vector") else "nearest",
            padding_mode="border",
            align_corners=False,
        ).transpose(0, 1)
        token = (len(in_rows), len(in_columns))
        read = F.max_pool2d(read, token) if layer.kind == "flag" else F.avg_pool2d(read, token)
        if layer.kind == "vector":
            cell = torch.tensor(layer.cell[-2:], dtype=torch.float32)
            per_cell = torch.tensor(
                [grid[1] / (self.width * cover[1]), grid[0] / (self.height * cover[0])]
            ) / cell.flip(0)
            per_cell[0] *= -1 if self.flip else 1
            read = read * per_cell[:, None, None, None]
        return read


def _reads(kind: str, cells: float) -> Float[Tensor, " k"]:
    """Return where a layer is read along a token, 0..1, that is `cells` lattice cells long: none is passed over.

    Labels at the centre. Flags from edge to edge, for any touch. Others at centres of equal parts, for the mean.
    """
    if kind == "label":
        return torch.tensor([0.5])
    if kind == "flag":
        return torch.linspace(1e-3, 1 - 1e-3, math.ceil(cells) + 1)  # on the edge itself the neighbour could be read
    parts = max(math.ceil(cells), 2)
    return (torch.arange(parts) + 0.5) / parts


def _spread(reads: Float[Tensor, " k"], tokens: int) -> Float[Tensor, " n"]:
    """Return the places 0..1 along a row of tokens where each is read at `reads`."""
    return ((torch.arange(tokens)[:, None] + reads) / tokens).flatten()


def random_crop(rng: np.random.Generator, h: int, w: int, scale: tuple[float, float], flip: bool) -> Crop:
    """Draw a box of an area share in `scale` and an aspect of 3/4 to 4/3, as torchvision's RandomResizedCrop."""
    area = h * w * rng.uniform(*scale)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    # Whole pixels, so that payload and layers are cut at the same place.
    height, width = (max(round(side), 1) for side in ((area / aspect) ** 0.5, (area * aspect) ** 0.5))
    height, width = min(height, h), min(width, w)
    top, left = int(rng.integers(h - height + 1)), int(rng.integers(w - width + 1))
    return Crop(top / h, left / w, height / h, width / w, bool(flip and rng.random() < 0.5))


def centre_crop(h: int, w: int) -> Crop:
    """Return the largest square in the middle."""
    side = min(h, w)
    return Crop((h - side) // 2 / h, (w - side) // 2 / w, side / h, side / w)
