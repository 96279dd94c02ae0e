"""Hidden tokens enter the encoder as one learnt token (BEiT; Xie et al., SimMIM, section 3.2)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class MaskToken(nn.Module):
    """The encoder reads context and queries; a query's value is replaced, its position is not."""

    keeps_hidden = True

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(dim).normal_(std=0.02))

    def forward(self, tokens: Float[Tensor, "n d"], gate: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """Return gate · tokens + (1 − gate) · the mask token."""
        return tokens * gate[:, None] + self.token * (1 - gate)[:, None]
