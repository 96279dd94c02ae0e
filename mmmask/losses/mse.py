"""Mean squared error of a token."""

from jaxtyping import Float
from torch import Tensor


def mse(predicted: Float[Tensor, "n k"], true: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Return the mean over a token's numbers of the squared difference."""
    return (predicted - true).square().mean(-1)
