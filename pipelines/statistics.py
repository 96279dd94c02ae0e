"""Sums that samples add up to, whatever the order of the workers.

A summary is nested dicts whose leaves are numbers or flat lists of numbers. Two merge by addition, except below the
keys `min` and `max`. Summaries are merged in plan order, so that floating-point sums are the same in every build.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Summary = dict[str, Any]


def merge(a: Any, b: Any, combine: Callable[[Any, Any], Any] = np.add) -> Any:
    """Return the summary of both. Keys that only one has are kept."""
    if isinstance(a, dict):
        by_name = {"min": np.minimum, "max": np.maximum}
        return {
            key: merge(a[key], b[key], by_name.get(key, combine)) if key in a and key in b else a.get(key, b.get(key))
            for key in [*a, *(key for key in b if key not in a)]
        }
    return combine(a, b).tolist()


def moments(values: np.ndarray) -> Summary:
    """Return count, sum, sum of squares, min and max over the rows of [N, C] (NaN left out), as lists of C floats.

    What has many numbers takes those of `sums`, which are compiled; tables need not wait for Numba.
    """
    columns = np.ascontiguousarray(values.T, np.float64)  # one after the other: NumPy is slow along short rows
    known = np.isfinite(columns)
    zeroed = np.where(known, columns, 0.0)
    return {
        "count": known.sum(1).tolist(),
        "sum": zeroed.sum(1).tolist(),
        "square": np.square(zeroed).sum(1).tolist(),
        "min": np.where(known, columns, np.inf).min(1, initial=np.inf).tolist(),
        "max": np.where(known, columns, -np.inf).max(1, initial=-np.inf).tolist(),
    }


def mean_std(summary: Summary) -> dict[str, list[float]]:
    """Return {'mean': […], 'std': […]} of what `moments` summed; std is at least 1e-6."""
    count = np.maximum(summary["count"], 1)
    mean = np.asarray(summary["sum"]) / count
    std = np.sqrt(np.maximum(np.asarray(summary["square"]) / count - mean**2, 1e-12))
    return {"mean": mean.tolist(), "std": std.tolist()}
