"""Masking strategies: a score a token from chance, layers or the model; one sampler turns scores into a plan."""

import numpy as np
from jaxtyping import Float

from shard_tools.arguments import nearest
from shard_tools.errors import Misuse

from ..batch import View
from . import random
from .sampler import sample_plan

__all__ = ["STRATEGIES", "get_scores", "sample_plan"]

STRATEGIES = {"random": random.scores}


def get_scores(strategy: str, view: View, rng: np.random.Generator) -> Float[np.ndarray, " n"]:
    """Return a strategy's score a token: the higher, the sooner it is hidden. Raises Misuse for an unknown name."""
    if strategy not in STRATEGIES:
        raise Misuse(
            f"unknown masking strategy {strategy!r}{nearest(strategy, STRATEGIES)}; known: {', '.join(STRATEGIES)}"
        )
    return STRATEGIES[strategy](view, rng)
