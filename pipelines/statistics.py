"""Sums that samples add up to, the same in whatever order they are added.

A summary is nested dicts whose leaves are numbers or flat lists of numbers. They merge by addition, except below the
keys `min` and `max`, and `categories`: a list of dicts that say how often each value occurs, None for too many values.
What is added must be whole numbers, since sums of others depend on their order: `whole` makes some of sums.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from numbers import Integral
from typing import Any

import numpy as np

from shard_tools.errors import Problem

Summary = dict[str, Any]
Categories = dict[str, int] | None

MAX_CATEGORIES = 256
UNITS = 2.0**300  # of a sum that stand for 1: squares of the smallest float32 are still seen


def whole(sums: Iterable[float]) -> list[int]:
    """Return sums of floats, finite and at most 1e200 in size, in units of 2⁻³⁰⁰."""
    return [int(number * UNITS) for number in sums]


def real(sums: list[int]) -> np.ndarray:
    """Return sums in units of 2⁻³⁰⁰ as floats."""
    return np.array([number / int(UNITS) for number in sums])


def merged(summaries: Iterable[Summary | None]) -> Summary | None:
    """Return the summary of all that are not None, None where all are."""
    known = [summary for summary in summaries if summary is not None]
    return merge(known) if known else None


def _total(numbers: Sequence[int]) -> int:
    """Return the sum of whole numbers. Raises Problem for others."""
    total = sum(numbers)
    if not isinstance(total, Integral):
        raise Problem(f"a summary adds {total}: sums must be whole numbers, as pipelines.statistics.whole makes them")
    return total


def merge(summaries: Sequence[Any], combine: Callable[[Any], Any] = _total) -> Any:
    """Return the summary of all. Keys that only some have are kept. combine: numbers to one. Raises see `_total`."""
    if isinstance(summaries[0], dict):
        keys = dict.fromkeys(chain.from_iterable(summaries))
        return {key: merge([one[key] for one in summaries if key in one], COMBINED.get(key, combine)) for key in keys}
    return list(map(combine, zip(*summaries, strict=True))) if isinstance(summaries[0], list) else combine(summaries)


def _merge_categories(counted: Iterable[Categories]) -> Categories:
    """Return how often each value occurs in all, None for more than MAX_CATEGORIES: so they do not fill the memory."""
    total: dict[str, int] = {}
    for counts in counted:
        if counts is None:
            return None
        for value, count in counts.items():
            total[value] = total.get(value, 0) + count
        if len(total) > MAX_CATEGORIES:
            return None
    return total


COMBINED: dict[str, Callable[[Any], Any]] = {"min": min, "max": max, "categories": _merge_categories}


def mean_std(summary: Summary) -> dict[str, list[float]]:
    """Return {'mean': […], 'std': […]} of what `sums.moments` summed; std is at least 1e-6."""
    count = np.maximum(summary["count"], 1)
    mean = real(summary["sum"]) / count
    std = np.sqrt(np.maximum(real(summary["square"]) / count - mean**2, 1e-12))
    return {"mean": mean.tolist(), "std": std.tolist()}
