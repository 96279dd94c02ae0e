"""Hidden tokens are left out of the encoder (MAE)."""

from jaxtyping import Float
from torch import Tensor, nn


class Drop(nn.Module):
    """The encoder reads the context alone."""

    keeps_hidden = False

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, tokens: Float[Tensor, "n d"], gate: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Return the context unchanged."""
        return tokens
