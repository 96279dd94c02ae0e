"""Attention inside the segments of a packed sequence."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..batch import Segments


def attend(
    q: Float[Tensor, "n h k"], k: Float[Tensor, "n h k"], v: Float[Tensor, "n h k"], segments: Segments
) -> Float[Tensor, "n h k"]:
    """Return softmax(q kᵀ / √k) v inside each segment; dense per segment length, without padding."""
    if count := segments.dense:
        q, k, v = (x.unflatten(0, (count, -1)).transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)
    out = torch.empty_like(q)
    for index in segments.groups:
        dense = (x[index].transpose(1, 2) for x in (q, k, v))
        out[index] = F.scaled_dot_product_attention(*dense).transpose(1, 2)
    return out
