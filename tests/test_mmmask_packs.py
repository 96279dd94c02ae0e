"""Packs: which samples come when, how they are packed, and that packing changes nothing."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nano import equal, make_network, make_packs

from mmmask.batch import Segments, TokenBatch
from mmmask.data.collate import collate
from mmmask.data.order import WINDOW, Order, epoch_order
from mmmask.data.stream import Packs
from mmmask.encoders.attention import attend

SHARDS = st.lists(st.integers(1, 9), min_size=1, max_size=2 * WINDOW + 3)


@pytest.fixture(scope="module")
def packs(built: dict[str, Path]) -> Packs:
    return make_packs(built)


def same(a: TokenBatch, b: TokenBatch) -> bool:
    """Whether two packs hold the same tokens under the same masks."""
    tensors = ("positions", "extent", "modality", "context", "query", "weight", "layers")
    return (
        all(equal(getattr(a, name), getattr(b, name)) for name in tensors)
        and all(equal(a.spans[name].values, b.spans[name].values) for name in a.spans)
        and np.array_equal(a.segment, b.segment)
        and (a.targets, a.keys, a.dropped) == (b.targets, b.keys, b.dropped)
    )


# Order


@given(SHARDS, st.integers(0, 99), st.integers(0, 99))
def test_an_epoch_is_every_sample_once(shards: list[int], seed: int, epoch: int) -> None:
    assert sorted(epoch_order(np.array(shards), seed, epoch)) == list(range(sum(shards)))


@given(SHARDS, st.integers(0, 99), st.lists(st.integers(0, 300), min_size=1, max_size=9))
def test_a_place_of_the_walk_does_not_depend_on_the_way_to_it(shards: list[int], seed: int, places: list[int]) -> None:
    order = Order(np.array(shards), seed)
    walk = [order[place] for place in range(301)]
    assert [Order(np.array(shards), seed)[place] for place in places] == [walk[place] for place in places]
    assert [order[place] for place in places] == [walk[place] for place in places]


def test_epochs_and_seeds_differ_and_shards_are_mixed_in_windows() -> None:
    shards = np.full(3 * WINDOW, 10)
    first = epoch_order(shards, 0, 0)
    assert not np.array_equal(first, epoch_order(shards, 0, 1))
    assert not np.array_equal(first, epoch_order(shards, 1, 0))
    for start in range(0, len(first), WINDOW * 10):
        assert len(set(first[start : start + WINDOW * 10] // 10)) == WINDOW, "a window reads its own shards to the end"


# Packs by number


def test_a_pack_is_a_function_of_its_number(packs: Packs, built: dict[str, Path]) -> None:
    other, copy = make_packs(built), pickle.loads(pickle.dumps(packs))
    forward = [packs[number] for number in (0, 1, 5)]
    for number, pack in zip((5, 1, 0), reversed(forward), strict=True):
        assert same(pack, other[number]) and same(pack, copy[number])
    assert not same(forward[0], forward[1])
    assert not same(forward[0], make_packs(built, "seed=1")[0])


def test_a_pack_has_every_modality_and_masks_it_by_its_ratio(packs: Packs) -> None:
    pack = packs[0]
    assert list(pack.spans) == ["audio", "image", "lidar", "table", "video"] and not pack.dropped
    assert len(pack.keys) == sum(settings.samples for settings in packs.config.modalities.values())
    for name, where in pack.queries():
        span, settings = pack.spans[name], packs.config.modalities[name]
        assert where.stop - where.start == len(span.query) == pack.targets[name]
        share = len(span.query) / (len(span.query) + len(span.context))
        assert abs(share - settings.ratio) < 0.1, name
    assert torch.equal(pack.modality[pack.query], pack.modality[pack.query].sort().values)
    assert not set(pack.context.tolist()) & set(pack.query.tolist())


def test_over_an_epoch_every_sample_is_drawn_once(packs: Packs) -> None:
    size, each = len(packs.sources["image"]), packs.config.modalities["image"].samples
    assert size % each == 0
    keys = [key for number in range(size // each) for key in packs[number].keys if "/image" in key]
    assert len(set(keys)) == len(keys) == size


# Attention in segments


def naive(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, segment: np.ndarray) -> torch.Tensor:
    """Softmax attention over all tokens, with what is outside a token's segment masked out."""
    apart = torch.from_numpy(segment[:, None] != segment[None])
    scores = torch.einsum("qhk,nhk->hqn", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("hqn,nhk->qhk", scores.masked_fill(apart, -torch.inf).softmax(-1), v)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.booleans(), st.integers(0, 99))
def test_attention_is_softmax_inside_each_segment(lengths: list[int], shuffled: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    segment = np.repeat(rng.permutation(50)[: len(lengths)], lengths)
    segment = rng.permutation(segment) if shuffled else segment
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = ([torch.empty(len(segment), 2, 4) for _ in "qkv"] for _ in "ab")
    for a, b in zip(ours, theirs, strict=True):
        b.copy_(a.normal_(generator=generator))
        a.requires_grad_(), b.requires_grad_()
    out, expected = attend(*ours, Segments(segment)), naive(*theirs, segment)
    assert torch.allclose(out, expected, atol=1e-5)
    weight = torch.randn(out.shape, generator=generator)
    (out * weight).sum().backward(), (expected * weight).sum().backward()
    assert all(torch.allclose(a.grad, b.grad, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_equal_segments_in_order_are_one_dense_call() -> None:
    assert Segments(np.repeat([3, 5, 9], 4)).dense == 3
    assert Segments(np.array([0, 1, 0, 1])).dense == 0
    assert Segments(np.array([0, 0, 1])).dense == 0
    nothing = torch.zeros(0, 2, 4)
    assert attend(nothing, nothing, nothing, Segments(np.zeros(0, np.int64))).shape == (0, 2, 4)


# Packing changes nothing


def test_a_sample_is_answered_in_a_pack_as_it_is_alone(packs: Packs) -> None:
    model = make_network(packs).model.eval()
    places = {name: [0, 1, 2] for name in packs.sources}
    together = packs.pack(places, 0, keep_views=True)
    with torch.inference_mode():
        packed = model(together).predictions
        for name in packs.sources:
            alone = []
            for view, plan in zip(together.views[name], together.plans[name], strict=True):
                views, plans = ({other: [] for other in packs.sources} for _ in "ab")
                views[name], plans[name] = [view], [plan]
                empty = {other: modality.nothing() for other, modality in packs.modalities.items()}
                alone.append(model(collate(views, plans, empty)).predictions[name])
            for answer, values in packed[name].items():
                expected = torch.cat([one[answer] for one in alone])
                assert len(values) and torch.allclose(values, expected, atol=1e-5), (name, answer)


@pytest.mark.parametrize("absent", ["audio", "image", "lidar", "table", "video"])
def test_a_pack_without_a_modality_still_gives_its_parameters_gradients(packs: Packs, absent: str) -> None:
    objective = make_network(packs)
    pack = packs.pack({name: [0] for name in packs.sources if name != absent}, 0)
    errors = objective(pack)
    assert errors[absent] == 0 and pack.targets[absent] == 0
    sum(errors.values()).backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if f".adapters.{absent}." in name:
            assert (parameter.grad == 0).all(), name
    assert any((p.grad != 0).any() for n, p in objective.named_parameters() if ".adapters." in n)
