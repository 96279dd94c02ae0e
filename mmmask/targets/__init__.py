"""Targets of dense tokens: what is to be predicted of a standardised patch, and back to values."""

from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from .normalised import Normalised
from .values import Values


class Target(Protocol):
    """Maps patches [n, k] to what the head must say [n, width(k)], and such answers back to patches."""

    @staticmethod
    def width(values: int) -> int:
        """Return the size of an answer for a patch of `values` numbers."""

    @staticmethod
    def encode(patches: Float[Tensor, "n k"]) -> Float[Tensor, "n w"]:
        """Return what the head must say."""

    @staticmethod
    def decode(answers: Float[Tensor, "n w"]) -> Float[Tensor, "n k"]:
        """Return the patches that the answers mean."""


TARGETS: dict[str, type[Target]] = {"values": Values, "normalised": Normalised}
