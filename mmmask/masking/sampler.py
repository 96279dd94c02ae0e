"""From scores and a ratio to a plan with exact counts."""

import numpy as np
from jaxtyping import Float

from ..batch import MaskPlan, View


def sample_plan(view: View, scores: Float[np.ndarray, " n"], ratio: float) -> MaskPlan:
    """Hide the highest-scored readable tokens of each segment; ask for them and for what is only askable.

    Of m readable tokens of a segment, floor(ratio·m + ½) are hidden, at least 1 and at most m − 1 (none of one).
    ratio: in (0, 1). Integers only after the rounding: int(250·(1 − .8)) would be 49.
    """
    segment = np.repeat(np.arange(len(view.segments)), view.segments)
    readable = np.bincount(segment, view.readable, len(view.segments)).astype(np.int64)
    hide = np.minimum(np.maximum(np.floor(ratio * readable + 0.5).astype(np.int64), 1), np.maximum(readable - 1, 0))
    # The readable tokens of each segment come first, highest score first; rank counts from the segment's start.
    order = np.lexsort((-scores, ~view.readable, segment))
    rank = np.empty(len(view), np.int64)
    rank[order] = np.arange(len(view)) - np.repeat(np.cumsum(view.segments) - view.segments, view.segments)
    hidden = view.readable & (rank < hide[segment])
    query = np.flatnonzero((hidden | ~view.readable) & view.askable)
    return MaskPlan(np.flatnonzero(view.readable & ~hidden), query, np.ones(len(query), np.float32))
