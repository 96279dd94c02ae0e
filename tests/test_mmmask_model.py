"""The network: nothing hidden is read, timm's weights fit, targets can be undone, every choice on an axis trains."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from nano import make_network, make_packs

from mmmask.batch import Segments, TokenBatch
from mmmask.data.stream import Packs
from mmmask.encoders.vit import VisionTransformer
from mmmask.losses.chamfer import chamfer
from mmmask.model import MaskedAutoencoder
from mmmask.targets import TARGETS
from mmmask.training.optim import learning_rate, make_optimizer

LATENTS = ("teachers=[ema]", "losses=[{name: latents}, {name: reconstruction, weight: 0.5}]")
CHOICES = {
    "drop": (),
    "mask_token": ("model.corruption=mask_token",),
    "ema latents": LATENTS,
    "mask_token, ema latents": ("model.corruption=mask_token", *LATENTS),
    "normalised": tuple(f"modalities.{name}.view.target=normalised" for name in ("image", "video", "audio")),
}


@pytest.fixture(scope="module")
def packs(built: dict[str, Path]) -> Packs:
    return make_packs(built)


# No leak


def scramble(pack: TokenBatch, modality: str, rows: torch.Tensor) -> None:
    """Change all that some tokens hold, but not what is known of their places."""
    rng = torch.Generator().manual_seed(1)
    for name, values in pack.spans[modality].values.items():
        if name == "column":
            continue
        if values.dtype.is_floating_point:
            values[rows] = values[rows] * -1.5 + torch.randn(values[rows].shape, generator=rng).to(values.dtype)
        elif name == "category":
            values[rows] = torch.where(values[rows] >= 0, 0, values[rows])
        else:
            values[rows] = (1 - values[rows].to(torch.uint8)).to(values.dtype)


def answers(model: MaskedAutoencoder, pack: TokenBatch) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        predictions = model(pack).predictions
    return {f"{name}.{key}": value for name, of in predictions.items() for key, value in of.items()}


@pytest.mark.parametrize("choice", ["drop", "mask_token"])
def test_no_answer_depends_on_what_is_hidden(built: dict[str, Path], choice: str) -> None:
    packs = make_packs(built, *CHOICES[choice])
    model, pack = make_network(packs).model.eval(), packs[0]
    before = answers(model, pack)
    for name, span in pack.spans.items():
        read = torch.zeros(len(span), dtype=torch.bool)
        read[span.context] = True
        assert not read.all()
        scramble(pack, name, torch.nonzero(~read)[:, 0])
    after = answers(model, pack)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_answers_depend_on_what_is_read_in_their_own_sample_alone(packs: Packs) -> None:
    model = make_network(packs).model.eval()
    for name in packs.sources:
        pack = packs.pack({other: [0] for other in packs.sources}, 0)
        before = answers(model, pack)
        scramble(pack, name, pack.spans[name].context)
        after = answers(model, pack)
        for key in before:
            assert torch.equal(before[key], after[key]) == (not key.startswith(f"{name}.")), (name, key)


def test_a_hidden_token_keeps_its_place_in_the_encoder(built: dict[str, Path]) -> None:
    packs = make_packs({"image": built["image"]}, "model.corruption=mask_token")
    model, pack = make_network(packs).model.eval(), packs[0]
    with torch.inference_mode():
        latents = model.encode(pack).latents
    assert len(latents) == len(pack.context) + len(pack.query)
    hidden = latents[len(pack.context) :][: len(pack.query) // packs.config.modalities["image"].samples]
    assert torch.pdist(hidden).min() > 1e-3, "at different places, different latents"


# timm's weights


def test_blocks_are_timms_own() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("vit_tiny_patch16_224", pretrained=False, depth=2, num_classes=0).eval()
    ours = VisionTransformer(dim=192, depth=2, heads=3).eval()
    weights = {k: v for k, v in theirs.state_dict().items() if k.startswith(("blocks.", "norm."))}
    for value in weights.values():  # timm's first weights are small: an error would hide in them
        value.copy_(torch.randn_like(value) * 0.2)
    theirs.load_state_dict(weights, strict=False)
    assert ours.load_state_dict(weights) == torch.nn.modules.module._IncompatibleKeys([], [])
    tokens = torch.randn(2, 17, 192)
    with torch.no_grad():
        expected = theirs.norm(theirs.blocks(tokens))
        packed = ours(tokens.flatten(0, 1), Segments(np.repeat([0, 1], 17)), maps=True)
        last = ours.norm(packed.maps[-1])
    assert torch.allclose(packed.latents, expected.flatten(0, 1), atol=1e-5)
    assert len(packed.maps) == 2 and torch.equal(last, packed.latents)


# Targets and errors


@given(st.integers(0, 99), st.floats(-5, 5), st.floats(0.01, 20))
def test_targets_can_be_undone(seed: int, mean: float, std: float) -> None:
    patches = torch.randn(7, 48, generator=torch.Generator().manual_seed(seed)) * std + mean
    for name, target in TARGETS.items():
        answer = target.encode(patches)
        assert answer.shape == (7, target.width(48))
        assert torch.allclose(target.decode(answer), patches, atol=1e-4 * (std + abs(mean))), name


def test_normalised_targets_have_no_mean_and_unit_deviation() -> None:
    patches = torch.rand(5, 64)
    answer = TARGETS["normalised"].encode(patches)
    assert torch.allclose(answer[:, :-2].mean(1), torch.zeros(5), atol=1e-5)
    assert torch.allclose(answer[:, :-2].std(1), torch.ones(5), atol=1e-3)
    flat = TARGETS["normalised"].encode(torch.full((1, 64), 0.3))
    assert flat.isfinite().all() and torch.allclose(TARGETS["normalised"].decode(flat), torch.full((1, 64), 0.3))


@given(st.integers(0, 99))
def test_chamfer_is_the_mean_nearest_distance_both_ways(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, true = rng.normal(size=(4, 3, 3)).astype(np.float32), rng.normal(size=(4, 5, 3)).astype(np.float32)
    valid = rng.random((4, 5)) < 0.5
    valid[0] = False
    told = chamfer(*(torch.from_numpy(part) for part in (predicted, true, valid)))
    assert told[0] == 0
    for row in range(1, 4):
        if valid[row].any():
            distance = np.linalg.norm(predicted[row][:, None] - true[row][valid[row]][None], axis=-1)
            assert np.isclose(told[row], distance.min(1).mean() + distance.min(0).mean(), atol=1e-3)


# Training


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_learns_a_pack(built: dict[str, Path], choice: str) -> None:
    packs = make_packs(built, *CHOICES[choice])
    objective, pack = make_network(packs), packs[0]
    optimizer = make_optimizer(objective, packs.config.optim)
    history = []
    for _ in range(25):
        optimizer.zero_grad()
        sums = objective(pack)
        loss = sum(sums[name] / pack.targets[name] for name in sums)
        loss.backward()
        optimizer.step()
        objective.step()
        history.append(loss.item())
    assert np.isfinite(history).all() and history[-1] < 0.8 * history[0], history


def test_the_teacher_follows_slowly_and_is_not_trained(built: dict[str, Path]) -> None:
    packs = make_packs({"image": built["image"]}, *LATENTS)
    objective = make_network(packs)
    networks = (objective.teachers["ema"].network, objective.model)
    slow, fast = (network.encoder.blocks[0].mlp.fc1.weight for network in networks)
    assert torch.equal(slow, fast) and not slow.requires_grad
    with torch.no_grad():
        fast.add_(1)
    objective.step()
    assert torch.allclose(fast - slow, torch.full_like(slow, 0.996), atol=1e-5)
    trained = {id(p) for group in make_optimizer(objective, packs.config.optim).param_groups for p in group["params"]}
    assert id(fast) in trained and id(slow) not in trained


def test_the_learning_rate_warms_up_and_falls(packs: Packs) -> None:
    optim = packs.config.optim.model_copy(update={"warmup": 10, "lr": 1.0, "min_lr": 0.1})
    rates = [learning_rate(step, 100, optim) for step in range(100)]
    assert np.allclose(rates[:10], np.arange(1, 11) / 10) and np.isclose(rates[10], 1.0)
    assert (np.diff(rates[10:]) < 0).all() and np.isclose(rates[-1], 0.1)


def test_only_the_matrices_of_linear_layers_decay(packs: Packs) -> None:
    objective = make_network(packs)
    decayed, free = make_optimizer(objective, packs.config.optim).param_groups
    assert decayed["weight_decay"] == packs.config.optim.weight_decay and free["weight_decay"] == 0
    assert all(p.ndim == 2 for p in decayed["params"])
    names = {id(p): name for name, p in objective.named_parameters()}
    spared = {names[id(p)] for p in free["params"]}
    assert {"model.mask_token", "model.modality.weight", "model.encoder.norm.weight"} <= spared
    assert len(decayed["params"]) + len(free["params"]) == len(names)
