"""A slow copy of the network that reads every token (Tarvainen and Valpola, Mean teachers; V-JEPA, section 3.1)."""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..batch import Segments, TokenBatch


class Ema(nn.Module):
    """Exponential moving average of tokenizers and encoder; says its layer-normed latents at the queries.

    model: has `embed(batch, tokens)`, and `encoder`. momentum: of the average, a step.
    """

    def __init__(self, model: nn.Module, momentum: float = 0.996) -> None:
        super().__init__()
        self.momentum = momentum
        self.network = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, batch: TokenBatch) -> Float[Tensor, "q d"]:
        """Return the latents of the uncorrupted pack at its queries."""
        every = {name: torch.arange(len(span), device=batch.positions.device) for name, span in batch.spans.items()}
        tokens = self.network.embed(batch, every, torch.arange(len(batch.positions), device=batch.positions.device))
        latents = self.network.encoder(tokens, Segments(batch.segment).to(batch.positions.device)).latents
        return F.layer_norm(latents[batch.query], latents.shape[-1:])

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model by 1 − momentum."""
        source = dict(model.named_parameters())
        for name, slow in self.network.named_parameters():
            slow.lerp_(source[name], 1 - self.momentum)
