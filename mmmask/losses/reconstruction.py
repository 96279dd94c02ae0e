"""The masked autoencoder's own loss: each modality's head against the truth at the targets."""

from jaxtyping import Float
from torch import Tensor, nn

from ..batch import Signals


class Reconstruction(nn.Module):
    """Sum over targets of each modality's own error of its predictions."""

    def __init__(self, adapters: nn.ModuleDict, dim: int, width: int) -> None:
        super().__init__()
        self.adapters = [dict(adapters.items())]  # in a list: the adapters belong to the model, not to this term

    def forward(self, signals: Signals) -> dict[str, Float[Tensor, ""]]:
        """Return {modality: weighted sum}."""
        sums = {}
        for name, where in signals.batch.queries():
            span = signals.batch.spans[name]
            errors = self.adapters[0][name].loss(signals.predictions[name], span.at(span.query))
            sums[name] = (errors * signals.batch.weight[where]).sum()
        return sums
