"""The decoder of MAE: latents and queries in one sequence, a few blocks of self-attention (He et al., section 3)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..batch import EncoderOutput, TokenBatch
from ..encoders.block import Block


class SelfAttention(nn.Module):
    """A narrow transformer over context and queries."""

    def __init__(self, dim: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(
        self, encoded: EncoderOutput, queries: Float[Tensor, "q w"], places: Float[Tensor, "c w"], batch: TokenBatch
    ) -> Float[Tensor, "q w"]:
        """Return the decoded queries.

        queries: mask token + where each query stands. places: where each context token stands.
        """
        latents = self.embed(encoded.latents[: len(places)]) + places
        x = torch.cat([latents, queries.to(latents.dtype)])
        for block in self.blocks:
            x = block(x, batch.decode)
        return self.norm(x[len(places) :])
