"""What modalities of equal, densely filled patches share (image, video, audio): one linear tokenizer and head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..batch import Values, View
from ..losses.mse import mse
from ..targets import TARGETS
from .base import Adapter


class DenseAdapter(Adapter):
    """Patches of k numbers, standardised by fixed means and deviations.

    mean, std: of each of the k numbers of a patch, in value space (pixels 0..1, log mels).
    scale: what one unit of the stored payload is in value space (1/255 for uint8 pixels).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Float[Tensor, " k"], std: Float[Tensor, " k"], scale: float, target: str, dim: int, width: int
    ) -> None:
        super().__init__()
        self.scale = scale
        self.target = TARGETS[target]
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())
        self.embed = nn.Linear(len(mean), dim)
        self.head = nn.Linear(width, self.target.width(len(mean)))

    def standardise(self, values: Values) -> Float[Tensor, "n k"]:
        """Return patches of mean 0 and deviation 1 over the data set."""
        return (self.truth(values)["patch"] - self.mean) / self.std

    def tokenize(self, values: Values) -> Float[Tensor, "n d"]:
        """Embed patches linearly."""
        return self.embed(self.standardise(values))

    def predict(self, decoded: Float[Tensor, "q w"], values: Values) -> Values:
        """Return what the target asks for."""
        return {"answer": self.head(decoded).float()}

    def loss(self, predictions: Values, values: Values) -> Float[Tensor, " q"]:
        """Return the mean squared error of the answer."""
        return mse(predictions["answer"], self.target.encode(self.standardise(values)))

    def decode(self, predictions: Values) -> Values:
        """Return patches in value space."""
        return {"patch": self.target.decode(predictions["answer"]) * self.std + self.mean}

    def truth(self, values: Values) -> Values:
        """Return patches in value space."""
        return {"patch": values["patch"].float() * self.scale}

    def trivial(self, context: Values, values: Values) -> Values:
        """Return the mean patch of the context, for each place."""
        mean = self.truth(context)["patch"].mean(0)
        return {"patch": mean.expand(len(values["patch"]), -1)}

    def errors(self, guess: Values, truth: Values) -> dict[str, Float[Tensor, " q"]]:
        """Return the mean squared error of a patch in value space."""
        return {"mse": mse(guess["patch"], truth["patch"])}


def painted(view: View, query: Tensor, truth: Values, guess: Values, hidden: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return three lists of patches [n, k]: the input, it with `hidden` at the queries, it with the guess there."""
    patches = truth["patch"]
    masked, filled = patches.clone(), patches.clone()
    masked[query] = hidden
    filled[query] = guess["patch"].to(filled.dtype)
    return patches, masked, filled


def tile(values: list[float], repeats: int) -> Tensor:
    """Return per-channel numbers for a patch whose last, fastest axis is the channel."""
    return torch.tensor(values).repeat(repeats)
