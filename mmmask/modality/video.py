"""Video: tubes of pixels, a few frames deep."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from pydantic import Field, model_validator

from shard_tools import Manifest

from ..batch import MaskPlan, Values, View
from ..data.augment import centre_crop, random_crop
from ..data.decode import decode_clip
from .base import Modality, Options, Share, whole
from .dense import DenseAdapter, painted, tile
from .image import Image, grid_positions, token_layers

CELL = 16  # pixels of a lattice cell of format 1; one frame deep


class VideoOptions(Options):
    """How clips become tokens."""

    frames: int = Field(16, gt=0, description="frames of a view")
    stride: int = Field(1, gt=0, description="every which frame of the stored clip is read")
    size: int = Field(224, gt=0, description="side of the training crop, pixels")
    patch: int = Field(16, gt=0, description="side of a tube, pixels")
    tube: int = Field(2, gt=0, description="depth of a tube, frames")
    scale: tuple[Share, Share] = Field((0.5, 1.0), description="area share of the random crop, from and to")
    flip: bool = Field(True, description="mirror half of the crops")
    target: Literal["values", "normalised"] = Field("values", description="what the head predicts")

    @model_validator(mode="after")
    def _fits(self) -> "VideoOptions":
        whole("size", self.size, "patch", self.patch)
        whole("frames", self.frames, "tube", self.tube)
        return self


class Video(Modality):
    """Clips of frames × size × size pixels in tubes of tube × patch × patch, channels last."""

    name = "video"
    height = 1.3
    Options = VideoOptions

    @staticmethod
    def describe(manifests: Sequence[Manifest]) -> dict[str, Any]:
        """Return pixel mean and deviation, and the layers."""
        return Image.describe(manifests)

    def view(self, sample: dict[str, Any], rng: np.random.Generator, train: bool) -> View:
        """Read a stretch of the clip, one crop for all its frames; a shorter clip repeats its last frame."""
        o, facts = self.options, sample["json"]
        spare = max(facts["frames"] - o.frames * o.stride, 0)
        start = int(rng.integers(spare + 1)) if train else spare // 2
        frames = np.minimum(start + np.arange(o.frames) * o.stride, facts["frames"] - 1)
        h, w = facts["height"], facts["width"]
        crop = random_crop(rng, h, w, o.scale, o.flip) if train else centre_crop(h, w)
        pixels = crop.pixels(decode_clip(sample["mp4"], frames), (o.size, o.size))
        patches = rearrange(pixels, "(t f) c (y a) (x b) -> (t y x) (f a b c)", f=o.tube, a=o.patch, b=o.patch)
        n, side = len(patches), o.size // o.patch
        size = (float(o.tube * o.stride), o.patch / CELL, o.patch / CELL)
        grid = (o.frames // o.tube, side, side)
        return View(
            values={"patch": patches.contiguous()},
            positions=grid_positions(grid, size),
            extent=torch.tensor(size).expand(n, 3),
            segments=np.array([n]),
            readable=np.ones(n, bool),
            askable=np.ones(n, bool),
            layers=token_layers(sample, self.spec["layers"], crop, (h / CELL, w / CELL), grid, frames),
        )

    def nothing(self) -> Values:
        """Return no tubes."""
        return {"patch": torch.zeros(0, 3 * self.options.tube * self.options.patch**2, dtype=torch.uint8)}

    def adapter(self, dim: int, width: int) -> DenseAdapter:
        """Return a linear tokenizer and head."""
        pixels = self.options.tube * self.options.patch**2
        mean, std = tile(self.spec["mean"], pixels), tile(self.spec["std"], pixels)
        return DenseAdapter(mean, std, 1 / 255, self.options.target, dim, width)

    def draw(self, axes: Sequence[Any], view: View, plan: MaskPlan, truth: Values, guess: Values) -> None:
        """Show four frames of the clip, of its visible tubes, and of the clip with the hidden ones filled in."""
        o = self.options
        side = o.size // o.patch
        for ax, patches in zip(axes, painted(view, torch.from_numpy(plan.query), truth, guess, 0.5), strict=True):
            frames = rearrange(
                patches, "(t y x) (f a b c) -> (t f) (y a) (x b) c", y=side, x=side, f=o.tube, a=o.patch, b=o.patch
            )
            shown = frames[np.linspace(0, len(frames) - 1, 4).round().astype(int)]
            ax.imshow(rearrange(shown, "t h w c -> h (t w) c").clamp(0, 1))
            ax.axis("off")
