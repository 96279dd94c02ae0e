"""The values themselves, standardised by the data set's mean and deviation."""

from jaxtyping import Float
from torch import Tensor


class Values:
    """Predict the patch as it is."""

    @staticmethod
    def width(values: int) -> int:
        """Return the size of an answer for a patch of `values` numbers."""
        return values

    @staticmethod
    def encode(patches: Float[Tensor, "n k"]) -> Float[Tensor, "n w"]:
        """Return what the head must say."""
        return patches

    @staticmethod
    def decode(answers: Float[Tensor, "n w"]) -> Float[Tensor, "n k"]:
        """Return the patches that the answers mean."""
        return answers
