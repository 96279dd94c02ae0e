"""Audio: patches of a log-mel spectrogram."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from pydantic import Field, model_validator

from shard_tools import Manifest
from shard_tools.schema import Layer

from ..batch import MaskPlan, Values, View
from ..data.augment import Crop
from .base import Modality, Options, Positive, average, whole
from .dense import DenseAdapter, painted
from .image import grid_positions

CELL = (4, 16)  # frames and mels of a lattice cell of format 1
MELS = 128


class AudioOptions(Options):
    """How spectrograms become tokens."""

    frames: int = Field(1024, gt=0, description="frames (10 ms) of a view at most; shorter sounds keep their length")
    patch: tuple[Positive, Positive] = Field((16, 16), description="frames and mels of a patch")
    target: Literal["values", "normalised"] = Field("values", description="what the head predicts")

    @model_validator(mode="after")
    def _fits(self) -> "AudioOptions":
        whole("mels", MELS, "the patch's", self.patch[1])
        if self.frames < self.patch[0]:
            raise ValueError(f"frames {self.frames} are fewer than the patch's {self.patch[0]}")
        return self


class Audio(Modality):
    """Stretches of at most `frames` frames; the length of a view is the sound's own, in whole patches."""

    name = "audio"
    height = 1.8
    Options = AudioOptions

    @staticmethod
    def describe(manifests: Sequence[Manifest]) -> dict[str, Any]:
        """Return one mean and deviation of all log mels, and the layers."""
        mean, std = average(manifests, "mean"), average(manifests, "std")
        spread = np.sqrt((std**2 + mean**2).mean() - mean.mean() ** 2)
        layers = {name: layer.model_dump() for m in manifests for name, layer in m.layers.items()}
        return {"mean": float(mean.mean()), "std": float(spread), "layers": layers}

    def view(self, sample: dict[str, Any], rng: np.random.Generator, train: bool) -> View:
        """Cut a stretch; what does not fill a patch is left off, what is shorter than one repeats its last frame."""
        o = self.options
        step, bands = o.patch
        mel = sample["mel.npy"]
        if len(mel) < step:
            mel = np.pad(mel, ((0, step - len(mel)), (0, 0)), mode="edge")
        length = min(len(mel), o.frames) // step * step
        start = int(rng.integers(len(mel) - length + 1)) if train else (len(mel) - length) // 2
        patches = rearrange(mel[start : start + length], "(t a) (f b) -> (t f) (a b)", a=step, b=bands)
        size = (1.0, step / CELL[0], bands / CELL[1])
        n = len(patches)
        grid = (1, length // step, MELS // bands)
        return View(
            values={"patch": torch.from_numpy(np.ascontiguousarray(patches))},
            positions=grid_positions(grid, size),
            extent=torch.tensor(size).expand(n, 3),
            segments=np.array([n]),
            readable=np.ones(n, bool),
            askable=np.ones(n, bool),
            layers=self._layers(sample, len(mel), start, length, grid),
            canvas={"grid": grid},
        )

    def _layers(
        self, sample: dict[str, Any], frames: int, start: int, length: int, grid: tuple[int, int, int]
    ) -> dict[str, np.ndarray]:
        crop = Crop(start / frames, 0.0, length / frames, 1.0)
        layers = {}
        for name, spec in self.spec["layers"].items():
            if (stored := sample.get(f"{name}.npy")) is not None:
                values = torch.from_numpy(Layer(**spec).decode(stored))[None, None]
                cover = (frames / CELL[0], MELS / CELL[1])
                layers[name] = crop.layer(values, Layer(**spec), cover, grid[1:]).flatten().numpy()
        return layers

    def nothing(self) -> Values:
        """Return no patches."""
        return {"patch": torch.zeros(0, self.options.patch[0] * self.options.patch[1], dtype=torch.float16)}

    def adapter(self, dim: int, width: int) -> DenseAdapter:
        """Return a linear tokenizer and head."""
        ones = torch.ones(self.options.patch[0] * self.options.patch[1])
        return DenseAdapter(ones * self.spec["mean"], ones * self.spec["std"], 1.0, self.options.target, dim, width)

    def draw(self, axes: Sequence[Any], view: View, plan: MaskPlan, truth: Values, guess: Values) -> None:
        """Show the spectrogram, time to the right and low mels below, its visible patches, and the filled one."""
        step, bands = self.options.patch
        low, high = float(truth["patch"].min()), float(truth["patch"].max())
        for ax, patches in zip(axes, painted(view, torch.from_numpy(plan.query), truth, guess, torch.nan), strict=True):
            mel = rearrange(patches, "(t f) (a b) -> (f b) (t a)", f=view.canvas["grid"][2], a=step, b=bands)
            ax.imshow(mel, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high, interpolation="nearest")
            ax.set(xticks=[], yticks=[], facecolor="0.5")
