"""Predict what the EMA teacher sees at the hidden tokens (V-JEPA; Wei et al., Latent MIM): L1 on its latents."""

from jaxtyping import Float
from torch import Tensor, nn

from ..batch import Signals


class Latents(nn.Module):
    """Smooth error between a linear map of the decoded queries and the teacher `ema`."""

    def __init__(self, adapters: nn.ModuleDict, dim: int, width: int) -> None:
        super().__init__()
        self.predict = nn.Linear(width, dim)

    def forward(self, signals: Signals) -> dict[str, Float[Tensor, ""]]:
        """Return {modality: weighted sum}."""
        errors = (self.predict(signals.decoded) - signals.teachers["ema"]).abs().mean(-1) * signals.batch.weight
        return {name: errors[where].sum() for name, where in signals.batch.queries()}
