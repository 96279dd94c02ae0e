"""Model, teachers and loss terms as one module: a pack in, sums of errors out."""

from jaxtyping import Float
from torch import Tensor, nn

from ..batch import TokenBatch
from ..config import Config
from ..losses import LOSSES
from ..model import MaskedAutoencoder
from ..teachers import TEACHERS


class Objective(nn.Module):
    """What is optimised. The trained network is `model`."""

    def __init__(self, config: Config, model: MaskedAutoencoder) -> None:
        super().__init__()
        self.model = model
        self.weights = [loss.weight for loss in config.losses]
        sizes = (config.model.dim, config.model.decoder_dim)
        self.terms = nn.ModuleList(LOSSES[loss.name](model.adapters, *sizes) for loss in config.losses)
        self.teachers = nn.ModuleDict({name: TEACHERS[name](model) for name in config.teachers})

    def forward(self, batch: TokenBatch) -> dict[str, Float[Tensor, ""]]:
        """Return {modality: weighted sum of all terms over its targets in this pack}."""
        signals = self.model(batch)
        signals.teachers = {name: teacher(batch) for name, teacher in self.teachers.items()}
        sums: dict[str, Tensor] = {}
        for weight, term in zip(self.weights, self.terms, strict=True):
            for name, value in term(signals).items():
                sums[name] = sums.get(name, 0.0) + weight * value
        return sums

    def step(self) -> None:
        """Let the teachers follow, after the optimiser's step."""
        for teacher in self.teachers.values():
            teacher.update(self.model)
