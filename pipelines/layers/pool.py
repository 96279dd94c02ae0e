"""Means over the cells of a lattice."""

from collections.abc import Sequence

import numpy as np


def cell_means(values: np.ndarray, cell: Sequence[int]) -> np.ndarray:
    """Return the mean of each cell, float32 [ceil(n / cell), …]; the last cell of an axis may be smaller."""
    exact = np.uint32 if values.dtype == np.uint8 else np.float64
    sums, areas = values, np.ones((), np.float32)
    for axis, size in enumerate(cell):
        starts = np.arange(0, values.shape[axis], size)
        sums = np.add.reduceat(sums, starts, axis=axis, dtype=exact)
        areas = np.multiply.outer(areas, np.diff(starts, append=values.shape[axis]))
    return (sums / areas).astype(np.float32)


def quantise(values: np.ndarray, scale: float, offset: float) -> np.ndarray:
    """Return values as uint8 that stand for stored * scale + offset, clipped to what they can hold."""
    return np.clip(np.rint((values - offset) / scale), 0, 255).astype(np.uint8)
