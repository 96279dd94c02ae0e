"""The contract between the trainer and a modality: cut a sample into tokens; embed, predict, judge and draw them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from shard_tools import Manifest

from ..batch import MaskPlan, Values, View


class Options(BaseModel):
    """A modality's own options; keys of `modalities.NAME` in a training config."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def whole(what: str, size: int, part: str, by: int) -> None:
    """Raise ValueError unless `size` is a multiple of `by`."""
    if size % by:
        raise ValueError(f"{what} {size} is not a multiple of {part} {by}")


Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class Adapter(nn.Module, ABC):
    """A modality's tokenizer and head: the only parameters that know what a token is made of."""

    @abstractmethod
    def tokenize(self, values: Values) -> Float[Tensor, "n d"]:
        """Embed tokens by their values."""

    def place(self, values: Values) -> Float[Tensor, "n d"] | None:
        """Embed what is known of a place without its value (a table's column), for the encoder. None: nothing."""
        return None

    def ask(self, values: Values) -> Float[Tensor, "n w"] | None:
        """Embed the same for the decoder."""
        return None

    @abstractmethod
    def predict(self, decoded: Float[Tensor, "q w"], values: Values) -> Values:
        """Return the answers at decoded queries; of `values` only what is known of the places may be read."""

    @abstractmethod
    def loss(self, predictions: Values, values: Values) -> Float[Tensor, " q"]:
        """Return the training error of each query."""

    @abstractmethod
    def decode(self, predictions: Values) -> Values:
        """Return the answers in value space (pixels 0..1, log mels, cells, probabilities and metres)."""

    @abstractmethod
    def truth(self, values: Values) -> Values:
        """Return the tokens' own values in value space."""

    @abstractmethod
    def trivial(self, context: Values, values: Values) -> Values:
        """Predict `values`' places, in value space, by the context's mean token (a table: by its columns' means)."""

    @abstractmethod
    def errors(self, guess: Values, truth: Values) -> dict[str, Float[Tensor, " q"]]:
        """Return value-space errors of each query, by name; NaN where one has no meaning. Their means are added."""


class Modality(ABC):
    """Everything the trainer knows of one modality. Named by the entry points of the group `mmmask.adapters`.

    options: its part of the config. spec: what it must know of the data sets (statistics), kept with the run.
    """

    name: ClassVar[str]
    Options: ClassVar[type[Options]]
    height: ClassVar[float]  # inches of a row of pictures

    def __init__(self, options: Any, spec: dict[str, Any]) -> None:
        self.options = options
        self.spec = spec

    @staticmethod
    @abstractmethod
    def describe(manifests: Sequence[Manifest]) -> dict[str, Any]:
        """Return the spec of some data sets, as JSON."""

    @abstractmethod
    def view(self, sample: dict[str, Any], rng: np.random.Generator, train: bool) -> View:
        """Cut one decoded sample into tokens; augmented by `rng` in training, always the same otherwise."""

    @abstractmethod
    def nothing(self) -> Values:
        """Return the values of zero tokens: what a pack without this modality runs its tokenizer and head on."""

    @abstractmethod
    def adapter(self, dim: int, width: int) -> Adapter:
        """Return the tokenizer and head for an encoder of `dim` and a decoder of `width`."""

    @abstractmethod
    def draw(self, axes: Sequence[Any], view: View, plan: MaskPlan, truth: Values, guess: Values) -> None:
        """Draw input, what was left of it, and the reconstruction on three matplotlib axes.

        truth: of all tokens; guess: of the plan's queries; both in value space.
        """


def average(manifests: Sequence[Manifest], key: str) -> np.ndarray:
    """Return a statistic of several data sets, weighed by their training samples."""
    weights = [max(manifest.splits.get("train", 0), 1) for manifest in manifests]
    return np.average([manifest.statistics[key] for manifest in manifests], axis=0, weights=weights)
