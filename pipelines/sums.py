"""Moments of the many numbers of pictures, sounds and sweeps, compiled."""

import numpy as np
from numba import float32, float64, types, uint8

from pipelines.compiled import compiled
from pipelines.statistics import Summary, whole


def moments(values: np.ndarray, one: float = 1.0) -> Summary:
    """Return count, sum, sum of squares, min and max over the rows (NaN left out), as lists of C numbers.

    values: uint8, float32 or float64 [N, C]. one: the value that stands for 1, as 255 does in pictures. Sums are as
    `statistics.whole` has them.
    """
    count, total, square, least, most = _moments(values, one).tolist()
    return {"count": list(map(int, count)), "sum": whole(total), "square": whole(square), "min": least, "max": most}


@compiled(*(float64[:, ::1](types.Array(dtype, 2, "A", readonly=True), float64) for dtype in (uint8, float32, float64)))
def _moments(values: np.ndarray, one: float) -> np.ndarray:
    """Return [count, sum, sum of squares, min, max] of each column, [5, C]: a column after the other, in one pass."""
    found = np.empty((5, values.shape[1]))
    for column in range(values.shape[1]):
        count, total, square, least, most = 0, 0.0, 0.0, np.inf, -np.inf
        for row in range(len(values)):
            value = np.float64(values[row, column])
            if np.isfinite(value):
                count += 1
                total += value
                square += value * value
                least, most = min(least, value), max(most, value)
        found[0, column], found[1, column], found[2, column] = count, total / one, square / one**2
        found[3, column], found[4, column] = least / one, most / one
    return found
