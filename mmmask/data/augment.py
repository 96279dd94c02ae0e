"""One crop, flip and resize for payload and layers alike: what keeps a mask on the thing it was made for."""

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
        samples = 1 if layer.kind == "label" else 2  # points a token and axis that are read
        ys = (self.top + self.height * _centres(grid[0] * samples)) * cover[0] / h
        xs = (self.left + self.width * _centres(grid[1] * samples)) * cover[1] / w
        xs = xs.flip(0) if self.flip else xs
        where = torch.stack(torch.meshgrid(xs * 2 - 1, ys * 2 - 1, indexing="xy"), -1)
        read = F.grid_sample(
            values.transpose(0, 1),
            where.expand(values.shape[1], -1, -1, -1),
            mode="bilinear" if layer.kind in ("scalar", "vector") else "nearest",
            padding_mode="border",
            align_corners=False,
        ).transpose(0, 1)
        read = F.max_pool2d(read, samples) if layer.kind == "flag" else F.avg_pool2d(read, samples)
        if layer.kind == "vector":
            cell = torch.tensor(layer.cell[-2:], dtype=torch.float32)
            per_cell = torch.tensor(
                [grid[1] / (self.width * cover[1]), grid[0] / (self.height * cover[0])]
            ) / cell.flip(0)
            per_cell[0] *= -1 if self.flip else 1
            read = read * per_cell[:, None, None, None]
        return read


def _centres(n: int) -> Tensor:
    """Return the centres of n equal parts of 0..1."""
    return (torch.arange(n) + 0.5) / n


def random_crop(rng: np.random.Generator, h: int, w: int, scale: tuple[float, float], flip: bool) -> Crop:
    """Draw a box of an area share in `scale` and an aspect of 3/4 to 4/3, as torchvision's RandomResizedCrop."""
    area = h * w * rng.uniform(*scale)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    height, width = min((area / aspect) ** 0.5 / h, 1.0), min((area * aspect) ** 0.5 / w, 1.0)
    top, left = rng.uniform(0, 1 - height), rng.uniform(0, 1 - width)
    return Crop(top, left, height, width, bool(flip and rng.random() < 0.5))


def centre_crop(h: int, w: int) -> Crop:
    """Return the largest square in the middle."""
    side = min(h, w)
    return Crop((h - side) / 2 / h, (w - side) / 2 / w, side / h, side / w)
