"""Masks: exact counts, nothing missing, the highest scores first."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmmask.batch import View
from mmmask.masking import STRATEGIES, get_scores, sample_plan
from shard_tools.errors import Misuse


@st.composite
def views(draw: st.DrawFn) -> View:
    segments = np.array(draw(st.lists(st.integers(1, 12), min_size=1, max_size=6)))
    n = int(segments.sum())
    readable = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    askable = readable | np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    nothing = {"value": torch.zeros(n)}
    return View(nothing, torch.zeros(n, 3), torch.ones(n, 3), segments, readable, askable)


RATIOS = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 2**32 - 1)


@given(views(), RATIOS, SEEDS)
def test_counts_are_exact_and_nothing_missing_is_read_or_asked(view: View, ratio: float, seed: int) -> None:
    plan = sample_plan(view, get_scores("random", view, np.random.default_rng(seed)), ratio)
    segment = np.repeat(np.arange(len(view.segments)), view.segments)
    hidden = plan.query[view.readable[plan.query]]
    for number in range(len(view.segments)):
        readable = int(view.readable[segment == number].sum())
        wanted = min(max(int(np.floor(ratio * readable + 0.5)), 1), readable - 1) if readable else 0
        assert (segment[hidden] == number).sum() == wanted
        assert (segment[plan.context] == number).sum() == readable - wanted
    assert not set(plan.context) & set(plan.query)
    assert (np.diff(plan.context) > 0).all() and (np.diff(plan.query) > 0).all()
    assert view.readable[plan.context].all() and view.askable[plan.query].all()
    assert set(np.flatnonzero(view.askable & ~view.readable)) <= set(plan.query), "a fake token is always asked for"
    assert len(plan.weight) == len(plan.query) and (plan.weight == 1).all()


@given(views(), RATIOS, st.data())
def test_higher_scores_are_hidden_first(view: View, ratio: float, data: st.DataObject) -> None:
    n = len(view)
    scores = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))) / 4  # with ties
    plan = sample_plan(view, scores, ratio)
    segment = np.repeat(np.arange(len(view.segments)), view.segments)
    hidden = plan.query[view.readable[plan.query]]
    for number in range(len(view.segments)):
        of_hidden, of_context = (scores[rows[segment[rows] == number]] for rows in (hidden, plan.context))
        assert not len(of_hidden) or not len(of_context) or of_hidden.min() >= of_context.max()


@given(views(), RATIOS, SEEDS)
def test_a_seed_gives_one_plan(view: View, ratio: float, seed: int) -> None:
    first, second = (sample_plan(view, get_scores("random", view, np.random.default_rng(seed)), ratio) for _ in "ab")
    assert np.array_equal(first.context, second.context) and np.array_equal(first.query, second.query)


@pytest.mark.parametrize(
    "n, ratio, hidden", [(250, 0.8, 200), (196, 0.75, 147), (3, 0.5, 2), (1, 0.9, 0), (2, 0.01, 1)]
)
def test_counts_of_known_sizes(n: int, ratio: float, hidden: int) -> None:
    every = np.ones(n, bool)
    view = View({"value": torch.zeros(n)}, torch.zeros(n, 3), torch.ones(n, 3), np.array([n]), every, every)
    plan = sample_plan(view, np.arange(n, dtype=float), ratio)
    assert plan.query.tolist() == list(range(n - hidden, n))


def test_random_masking_hides_every_token_about_as_often() -> None:
    n, ratio, rounds = 20, 0.75, 800
    every = np.ones(n, bool)
    view = View({"value": torch.zeros(n)}, torch.zeros(n, 3), torch.ones(n, 3), np.array([n]), every, every)
    rng, often = np.random.default_rng(0), np.zeros(n)
    for _ in range(rounds):
        often[sample_plan(view, get_scores("random", view, rng), ratio).query] += 1
    assert np.abs(often / rounds - ratio).max() < 5 * np.sqrt(ratio * (1 - ratio) / rounds)


def test_an_unknown_strategy_is_answered_with_the_nearest() -> None:
    every = np.ones(2, bool)
    view = View({"value": torch.zeros(2)}, torch.zeros(2, 3), torch.ones(2, 3), np.array([2]), every, every)
    with pytest.raises(Misuse, match="did you mean random"):
        get_scores("rondom", view, np.random.default_rng(0))
    assert set(STRATEGIES) == {"random"}
