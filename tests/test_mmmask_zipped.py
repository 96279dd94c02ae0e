"""Training on data sets that are read as one, and on such where some samples are absent."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import succeed
from nano import NANO, make_packs
from retold import make_absent, make_overlay

import shard_tools
from mmmask.data.stream import Source, open_sources, split_path
from shard_tools.errors import Misuse

QUICK = ["--steps", "2", "--run.held_out", "2", "--model.depth", "1", "--model.decoder_depth", "1"]


@pytest.fixture(scope="module")
def overlay(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_overlay(built["image"], tmp_path_factory.mktemp("zipped") / "depth")


@pytest.fixture(scope="module")
def gapped(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    absent = {key for split in ("train", "val") for key in shard_tools.open(built["image"], split).keys[1:12:2]}
    return make_absent(built["image"], tmp_path_factory.mktemp("zipped") / "gapped", absent), absent


def test_an_overlay_brings_its_layer_to_every_token(built: dict[str, Path], overlay: Path) -> None:
    plain = make_packs({"image": built["image"]}).pack({"image": [0, 1, 2]}, 0, keep_views=True)
    zipped = make_packs({"image": Path(f"{built['image']}+{overlay}")}).pack({"image": [0, 1, 2]}, 0, keep_views=True)
    assert not zipped.dropped
    assert [key.split(": ")[1] for key in zipped.keys] == [key.split(": ")[1] for key in plain.keys]
    keys = shard_tools.open(built["image"]).keys
    for key, one, two in zip(plain.keys, plain.views["image"], zipped.views["image"], strict=True):
        assert {*two.layers} - {*one.layers} == {"depth"}
        assert np.allclose(two.layers["depth"], keys.index(key.split(": ")[1]) / 2)
        assert all(np.array_equal(two.layers[name], values, equal_nan=True) for name, values in one.layers.items())


@pytest.mark.slow
def test_a_run_on_a_zip_is_trained_drawn_and_reported(built: dict[str, Path], overlay: Path, tmp_path: Path) -> None:
    run, data = tmp_path / "run", f"{built['image']}+{overlay}"
    succeed("mmmask.train", "--config", NANO, "--data", data, "--output", run, *QUICK)
    assert json.loads((run / "data.json").read_text()) == [data]
    assert "depth" in json.loads((run / "spec.json").read_text())["image"]["layers"]
    assert json.loads((run / "results.json").read_text())["modalities"]["image"]["samples"] == 2
    succeed("mmmask.reconstruct", "--run", run, "--out", tmp_path / "a.png", "--count", "1")
    succeed("mmmask.report", "--run", run, "--out", tmp_path / "a.html", "--count", "1")
    page = (tmp_path / "a.html").read_text()
    assert all(shard_tools.open(root).manifest.name in page for root in (built["image"], overlay))


def test_what_is_no_overlay_is_not_trained_on_as_one(built: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"is no overlay, since it has the part .* give it to --data by itself"):
        open_sources([f"{built['image']}+{make_absent(built['image'], tmp_path / 'other', set())}"], "train")
    with pytest.raises(Misuse, match="cannot be read as one"):
        open_sources([f"{built['image']}+{built['audio']}"], "train")


def test_a_plus_in_a_name_is_no_zip(built: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "c++").symlink_to(built["image"])
    assert split_path(f"{tmp_path}/c++") == [f"{tmp_path}/c++"]
    assert split_path("a+b") == ["a", "b"]
    assert len(open_sources([f"{tmp_path}/c++"], "train")["image"]) > 0


# Absent samples


def test_absent_samples_are_in_no_pack_and_are_not_named(built: dict[str, Path], gapped: tuple[Path, set[str]]) -> None:
    root, absent = gapped
    packs = make_packs({"image": root})
    source, size = packs.sources["image"], packs.config.modalities["image"].samples
    train = shard_tools.open(root, "train")
    assert len(source) == len(train) - len(absent & {*train.keys}) < len(train)
    assert source.shards.sum() == len(source) and len(source.shards) == len(train.shards)
    drawn: list[str] = []
    for number in range(-(-len(source) // size)):
        pack = packs[number]
        assert not pack.dropped
        drawn += (key.split(": ")[1] for key in pack.keys)
    assert {*drawn} == {*train.keys} - absent


def test_without_absent_samples_the_order_is_as_ever(built: dict[str, Path]) -> None:
    data = [shard_tools.open(built[name], "train") for name in ("image", "image", "audio")]
    source = Source(data)
    assert source.shards.tolist() == [shard.samples for dataset in data for shard in dataset.shards]
    walk = [(dataset, place) for dataset in data for place in range(len(dataset))]
    assert [source.locate(index) for index in range(len(source))] == walk


def test_a_split_of_absent_samples_alone_is_as_none(built: dict[str, Path], tmp_path: Path) -> None:
    keys = {*shard_tools.open(built["image"], "val").keys}
    root = make_absent(built["image"], tmp_path / "gone", keys)
    assert not open_sources([str(root)], "val")
    assert len(open_sources([str(root)], "train")["image"]) == len(shard_tools.open(root, "train"))
