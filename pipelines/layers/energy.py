"""Energy of sound on the time-frequency lattice: where there is something to hear."""

import numpy as np

from pipelines.layers.pool import cell_means, quantise
from shard_tools.schema import Layer

CELL = (4, 16)  # frames, mels: 40 ms by an eighth of the spectrum

SPEC = Layer(
    kind="scalar",
    cell=list(CELL),
    dtype="uint8",
    scale=0.1,
    offset=-16.0,
    unit="natural log of mel power; silence is -15.9",
    algorithm="mean of the log mels over the cell",
)


def energy(mel: np.ndarray) -> np.ndarray:
    """Return the energy of log mels, float32 [frames, mels], as uint8 [ceil(frames / 4), mels / 16]."""
    return quantise(cell_means(mel, CELL), SPEC.scale, SPEC.offset)
