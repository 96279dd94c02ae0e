"""Chamfer distance between small point sets (Fan et al., A Point Set Generation Network)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def chamfer(
    predicted: Float[Tensor, "n p 3"], true: Float[Tensor, "n m 3"], valid: Bool[Tensor, "n m"]
) -> Float[Tensor, " n"]:
    """Return the mean distance to the nearest point, both ways, summed; 0 for tokens without a valid point.

    valid: which of the padded true points count.
    """
    squared = (predicted[:, :, None] - true[:, None]).square().sum(-1)
    distance = (squared + 1e-8).sqrt().masked_fill(~valid[:, None], torch.inf)
    to_true = distance.amin(2).mean(1)
    to_predicted = distance.amin(1).masked_fill(~valid, 0).sum(1) / valid.sum(1).clamp(min=1)
    return torch.where(valid.any(1), to_true, 0.0) + to_predicted
