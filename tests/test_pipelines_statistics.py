"""The sums that statistics are made of."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.statistics import mean_std, merge, real, whole
from pipelines.sums import moments
from shard_tools.errors import Problem


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_leave_out_what_is_no_number(dtype):
    values = np.random.default_rng(0).normal(size=(300, 3)).astype(dtype)
    values[::7, 0], values[5, 1], values[:, 2] = np.nan, -np.inf, np.nan
    found = moments(values)
    for column in range(2):
        known = values[np.isfinite(values[:, column]), column].astype(np.float64)
        assert (found["count"][column], found["min"][column]) == (len(known), known.min())
        assert found["max"][column] == known.max()
        assert real(found["sum"])[column] == pytest.approx(known.sum())
        assert real(found["square"])[column] == pytest.approx((known**2).sum())
    assert {name: column[2] for name, column in found.items()} == {
        "count": 0, "sum": 0, "square": 0, "min": np.inf, "max": -np.inf,
    }  # fmt: skip
    assert found == moments(np.asfortranarray(values)) == moments(np.repeat(values, 2, 1)[:, ::2])


def test_moments_of_colours_count_white_as_one():
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 3), np.uint8)
    pixels.flags.writeable = False
    found = moments(pixels, 255)
    assert found["max"] == (pixels.max(0) / 255).tolist()
    assert real(found["sum"]).tolist() == (pixels.sum(0) / 255).tolist()
    np.testing.assert_allclose(mean_std(found)["std"], (pixels / 255).std(0))


@given(st.lists(st.floats(-1e38, 1e38, allow_subnormal=False), min_size=1), st.randoms())
def test_sums_do_not_depend_on_their_order(values, random):
    sums = whole(values)
    mixed = random.sample(sums, len(sums))
    assert real([sum(sums)]) == real([sum(mixed)]) == pytest.approx([math.fsum(values)], rel=1e-15, abs=1e-80)


def test_moments_of_nothing():
    assert moments(np.zeros((4, 0)))["sum"] == []
    assert moments(np.zeros((0, 2)))["count"] == [0, 0]


def test_summaries_merge_by_addition_but_for_bounds_and_categories():
    a = {"count": [2, 1], "min": [0.5, 3.0], "max": [2.0, 3.0], "categories": [{"x": 2}, None], "only": {"a": 1}}
    b = {"count": [1, 1], "min": [1.0, 2.0], "max": [4.0, 2.0], "categories": [{"x": 1, "y": 1}, {"z": 1}]}
    assert merge([a, b]) == {
        "count": [3, 2], "min": [0.5, 2.0], "max": [4.0, 3.0], "categories": [{"x": 3, "y": 1}, None], "only": {"a": 1},
    }  # fmt: skip
    with pytest.raises(Problem, match=r"a summary adds 0\.75: sums must be whole numbers"):
        merge([{"count": [1], "sum": [0.25]}, {"count": [1], "sum": [0.5]}])
    many = {"categories": [{str(number): 1 for number in range(200)}]}
    more = {"categories": [{str(number): 1 for number in range(100, 300)}]}
    assert merge([many, more]) == {"categories": [None]}
