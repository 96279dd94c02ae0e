"""Spectral flux of sound on the time-frequency lattice: where something begins.

Rectified difference of log mels, as in Böck and Widmer, "Maximum Filter Vibrato Suppression for Onset Detection", DAFx
2013 (without the filter).
"""

import numpy as np

from pipelines.layers.energy import CELL
from pipelines.layers.pool import cell_means, quantise
from shard_tools.schema import Layer

SPEC = Layer(
    kind="scalar",
    cell=list(CELL),
    dtype="uint8",
    scale=1 / 32,
    unit="natural log of mel power a frame",
    algorithm="rises of the log mels from the frame before, mean over the cell; none in the first frame",
)


def flux(mel: np.ndarray) -> np.ndarray:
    """Return the positive flux of log mels, float32 [frames, mels], as uint8 [ceil(frames / 4), mels / 16]."""
    rise = np.zeros_like(mel)
    np.maximum(mel[1:] - mel[:-1], 0, out=rise[1:])
    return quantise(cell_means(rise, CELL), SPEC.scale, SPEC.offset)
