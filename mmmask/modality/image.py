"""Images: square patches of pixels."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from shard_tools import Manifest
from shard_tools.schema import Layer

from ..batch import MaskPlan, Values, View
from ..data.augment import Crop, centre_crop, random_crop
from ..data.decode import decode_picture
from .base import Modality, Options, Share, average, whole
from .dense import DenseAdapter, painted, tile

CELL = 8  # pixels of a lattice cell of format 1


class ImageOptions(Options):
    """How images become tokens."""

    size: int = Field(224, gt=0, description="side of the training crop, pixels")
    patch: int = Field(16, gt=0, description="side of a patch, pixels")
    scale: tuple[Share, Share] = Field((0.2, 1.0), description="area share of the random crop, from and to")
    flip: bool = Field(True, description="mirror half of the crops")
    target: Literal["values", "normalised"] = Field("values", description="what the head predicts")

    @model_validator(mode="after")
    def _fits(self) -> "ImageOptions":
        whole("size", self.size, "patch", self.patch)
        return self


class Image(Modality):
    """Crops of size × size pixels in patches of patch × patch, channels last."""

    name = "image"
    height = 3.8
    Options = ImageOptions

    @staticmethod
    def describe(manifests: Sequence[Manifest]) -> dict[str, Any]:
        """Return pixel mean and deviation, and the layers."""
        return {
            "mean": average(manifests, "mean").tolist(),
            "std": average(manifests, "std").tolist(),
            "layers": {name: layer.model_dump() for m in manifests for name, layer in m.layers.items()},
        }

    def view(self, sample: dict[str, Any], rng: np.random.Generator, train: bool) -> View:
        """Crop, resize and cut one picture."""
        picture = decode_picture(sample.get("jpg") or sample["png"])
        h, w = picture.shape[-2:]
        crop = random_crop(rng, h, w, self.options.scale, self.options.flip) if train else centre_crop(h, w)
        o = self.options
        side = o.size // o.patch
        pixels = crop.pixels(picture, (o.size, o.size))
        patches = rearrange(pixels, "c (y a) (x b) -> (y x) (a b c)", a=o.patch, b=o.patch)
        return View(
            values={"patch": patches.contiguous()},
            positions=grid_positions((1, side, side), (1, o.patch / CELL, o.patch / CELL)),
            extent=torch.tensor([1.0, o.patch / CELL, o.patch / CELL]).expand(side * side, 3),
            segments=np.array([side * side]),
            readable=np.ones(side * side, bool),
            askable=np.ones(side * side, bool),
            layers=token_layers(sample, self.spec["layers"], crop, (h / CELL, w / CELL), (1, side, side)),
        )

    def nothing(self) -> Values:
        """Return no patches."""
        return {"patch": torch.zeros(0, 3 * self.options.patch**2, dtype=torch.uint8)}

    def adapter(self, dim: int, width: int) -> DenseAdapter:
        """Return a linear tokenizer and head."""
        pixels = self.options.patch**2
        mean, std = tile(self.spec["mean"], pixels), tile(self.spec["std"], pixels)
        return DenseAdapter(mean, std, 1 / 255, self.options.target, dim, width)

    def draw(self, axes: Sequence[Any], view: View, plan: MaskPlan, truth: Values, guess: Values) -> None:
        """Show the picture, its visible patches, and the picture with the hidden ones filled in."""
        side, patch = self.options.size // self.options.patch, self.options.patch
        for ax, patches in zip(axes, painted(view, torch.from_numpy(plan.query), truth, guess, 0.5), strict=True):
            ax.imshow(rearrange(patches, "(y x) (a b c) -> (y a) (x b) c", y=side, a=patch, b=patch).clamp(0, 1))
            ax.axis("off")


def grid_positions(grid: tuple[int, int, int], step: tuple[float, float, float]) -> Float[Tensor, "n 3"]:
    """Return the centres of a grid's tokens in lattice units, row-major; `step` is a token's size."""
    axes = [(torch.arange(n) + 0.5) * s for n, s in zip(grid, step, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2).float()


def token_layers(
    sample: dict[str, Any],
    specs: dict[str, Any],
    crop: Crop,
    cover: tuple[float, float],
    grid: tuple[int, int, int],
    frames: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Return each layer's value a token of a (t, y, x) grid; vectors give NAME_x and NAME_y.

    cover: the picture's height and width in lattice cells. frames: which lattice frames the view reads, for video;
    those of one token are averaged (flags: any; labels: the middle one's).
    """
    layers: dict[str, np.ndarray] = {}
    for name, spec in specs.items():
        layer = Layer(**spec)
        if (stored := sample.get(f"{name}.npy")) is None:
            continue
        values = layer.decode(stored if layer.kind == "vector" else stored[None])
        values = values[:, None] if frames is None else values[:, np.minimum(frames, values.shape[1] - 1)]
        tokens = crop.layer(torch.from_numpy(np.ascontiguousarray(values)), layer, cover, (grid[1], grid[2]))
        tokens = _over_frames(tokens.unflatten(1, (grid[0], -1)), layer.kind)
        names = [f"{name}_x", f"{name}_y"] if layer.kind == "vector" else [name]
        layers |= {channel: value.flatten().numpy() for channel, value in zip(names, tokens, strict=True)}
    return layers


def _over_frames(tokens: Float[Tensor, "c t f a b"], kind: str) -> Float[Tensor, "c t a b"]:
    """Return one value a token of its f frames' values."""
    if kind == "label":
        return tokens[:, :, tokens.shape[2] // 2]
    return tokens.amax(2) if kind == "flag" else tokens.mean(2)
