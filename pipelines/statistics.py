"""Sums that samples add up to, whatever the order of the workers.

A summary is nested dicts whose leaves are numbers or flat lists of numbers. Two merge by addition, except below the
keys `min` and `max`, and `categories`: a list of dicts that say how often each value occurs, None for too many values.
Summaries are merged in plan order, so that floating-point sums are the same in every build.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

Summary = dict[str, Any]
Categories = dict[str, int] | None

MAX_CATEGORIES = 256


def merge(a: Any, b: Any, combine: Callable[[Any, Any], Any] = operator.add) -> Any:
    """Return the summary of both. Keys that only one has are kept."""
    if isinstance(a, dict):
        both = {key: merge(a[key], b[key], COMBINED.get(key, combine)) for key in b if key in a}
        return {**a, **b, **both}
    return list(map(combine, a, b)) if isinstance(a, list) else combine(a, b)


def _merge_categories(a: Categories, b: Categories) -> Categories:
    """Return how often each value occurs in both, None for more than MAX_CATEGORIES: so they do not fill the memory."""
    if a is None or b is None:
        return None
    both = dict(a)
    for value, count in b.items():
        both[value] = both.get(value, 0) + count
    return both if len(both) <= MAX_CATEGORIES else None


COMBINED: dict[str, Callable[[Any, Any], Any]] = {"min": min, "max": max, "categories": _merge_categories}


def mean_std(summary: Summary) -> dict[str, list[float]]:
    """Return {'mean': […], 'std': […]} of what `sums.moments` summed; std is at least 1e-6."""
    count = np.maximum(summary["count"], 1)
    mean = np.asarray(summary["sum"]) / count
    std = np.sqrt(np.maximum(np.asarray(summary["square"]) / count - mean**2, 1e-12))
    return {"mean": mean.tolist(), "std": std.tolist()}
