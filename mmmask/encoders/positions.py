"""Where a token stands: fixed sine and cosine waves of its position, a learnt map of its size."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PositionEmbedding(nn.Module):
    """Sine-cosine of three coordinates (Vaswani et al., section 3.5), a third of the width each, + a map of log-size.

    dim: width; what does not divide by 6 stays zero.
    """

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        waves = dim // 6
        self.padding = dim - 6 * waves
        self.register_buffer("frequencies", 100.0 ** (-torch.arange(waves) / max(waves, 1)), persistent=False)
        self.extent = nn.Linear(3, dim, bias=False)

    def forward(self, positions: Float[Tensor, "n 3"], extent: Float[Tensor, "n 3"]) -> Float[Tensor, "n d"]:
        """Return the embedding of tokens at `positions` of size `extent`, both in lattice units."""
        angles = (positions[:, :, None] * self.frequencies).flatten(1)
        waves = torch.cat([angles.sin(), angles.cos(), angles.new_zeros(len(angles), self.padding)], 1)
        return waves + self.extent(extent.log2())
