"""Patches normalised by their own mean and deviation (He et al., section 4.1, "normalised pixels").

MAE leaves mean and deviation unsaid, so that its answers cannot be drawn without looking at the hidden truth. Here the
head says them too, as two more numbers.
"""

import torch
from jaxtyping import Float
from torch import Tensor


class Normalised:
    """Predict (x − µ)/σ, µ and ln σ."""

    @staticmethod
    def width(values: int) -> int:
        """Return the size of an answer for a patch of `values` numbers."""
        return values + 2

    @staticmethod
    def encode(patches: Float[Tensor, "n k"]) -> Float[Tensor, "n w"]:
        """Return what the head must say; the deviation is unbiased, with 1e-6 added to its square."""
        mean = patches.mean(-1, keepdim=True)
        std = (patches.var(-1, keepdim=True) + 1e-6).sqrt()
        return torch.cat([(patches - mean) / std, mean, std.log()], -1)

    @staticmethod
    def decode(answers: Float[Tensor, "n w"]) -> Float[Tensor, "n k"]:
        """Return the patches that the answers mean."""
        shape, mean, log_std = answers[:, :-2], answers[:, -2:-1], answers[:, -1:]
        return shape * log_std.clamp(max=4).exp() + mean
