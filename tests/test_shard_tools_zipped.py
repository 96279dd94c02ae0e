"""Data sets of the same keys read as one, and what is refused."""

import pickle
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shard_tools
from shard_tools.manifest import write_manifest
from shard_tools.schema import Build, Layer, Manifest, Part
from shard_tools.tar import encode_part
from shard_tools.writer import ShardWriter

Shards = Mapping[str, Sequence[str]]  # shard → its keys
KEYS = {"train-000000": ["a-0", "a-1"], "train-000002": ["b-0"], "val-000000": ["c-0", "c-1", "c-2"]}


def make(root: Path, name: str, parts: Sequence[str], shards: Shards = KEYS, layers: Sequence[str] = ()) -> Path:
    """Write a data set whose parts say which data set, part and key they belong to; layers are parts too."""
    written = []
    for shard, keys in shards.items():
        with ShardWriter(root, shard, [*parts, *(f"{layer}.npy" for layer in layers)], {"seen": "int64"}) as writer:
            for number, key in enumerate(keys):
                row = {"label": "", "group": key, "source": f"{name}/{key}", "start": 0.0, "end": -1.0, "seen": number}
                texts: dict[str, bytes] = {part: f"{name} {part} {key}".encode() for part in parts}
                arrays = {f"{layer}.npy": encode_part("x.npy", np.full(2, number, np.uint8)) for layer in layers}
                writer.add(key, texts | arrays, {"key": key, "split": shard.split("-")[0], "shape": [2], **row})
            if committed := writer.commit():
                written.append(committed)
    splits = {split: sum(shard.samples for shard in written if shard.split == split) for split in ("train", "val")}
    names = [*parts, *(f"{layer}.npy" for layer in layers)]
    manifest = Manifest(
        name=name,
        modality="image",
        parts={part: Part(description=f"{part} of {name}") for part in names},
        layers={layer: Layer(kind="scalar", cell=[8], dtype="uint8", algorithm=name) for layer in layers},
        columns={"seen": "int64"},
        splits={split: count for split, count in splits.items() if count},
        statistics={"of": name},
        build=Build(config={}, digest="0" * 64, versions={}),
        shards=written,
    )
    write_manifest(root, manifest)
    return root


def test_an_overlay_adds_its_layers(tmp_path: Path) -> None:
    base = make(tmp_path / "base", "base", ["jpg", "json.bin"])
    overlay = make(tmp_path / "overlay", "overlay", [], layers=["saliency"])
    data = shard_tools.open([base, overlay])
    assert isinstance(data, shard_tools.Zipped) and len(data) == 6 and data.bounds.tolist() == [0, 2, 3, 6]
    assert data.keys == shard_tools.open(base).keys and data.find("c-1") == 4
    assert list(data.manifest.parts) == ["jpg", "json.bin", "saliency.npy"] and list(data.manifest.layers) == [
        "saliency"
    ]
    assert data.manifest.statistics == {"of": "base"} and data.manifest.splits == {"train": 3, "val": 3}
    sample = data.get("c-1")
    assert sample["jpg"] == b"base jpg c-1" and sample["saliency.npy"].tolist() == [1, 1] and sample["__key__"] == "c-1"
    assert data.row(4)["source"] == "base/c-1" and data.row(4)["saliency.npy.size"] > 0 and data.row(4)["seen"] == 1
    assert [found["__key__"] for found in data] == data.keys
    assert data.raw(-1)["json.bin"] == b"base json.bin c-2"
    with pytest.raises(IndexError):
        data[6]


@pytest.mark.parametrize("named", [True, False])
def test_parts_that_several_have_are_named_for_them(tmp_path: Path, named: bool) -> None:
    front = make(tmp_path / "a", "Front (left)", ["jpg", "txt"], layers=["saliency"])
    lidar = make(tmp_path / "b", "lidar", ["coords.bin", "txt"], layers=["saliency", "ground"])
    data = shard_tools.open({"front": front, "lidar": lidar} if named else [front, str(lidar)], "val")
    one = "front" if named else "front_left"
    parts = [f"{one}.saliency.npy", f"{one}.txt", "coords.bin", "ground.npy", "jpg", "lidar.saliency.npy", "lidar.txt"]
    assert sorted(data.manifest.parts) == sorted(data[0].keys() - {"__key__"}) == sorted(parts)
    assert data[0][f"{one}.txt"] == "Front (left) txt c-0" and data[0]["lidar.txt"] == "lidar txt c-0"
    assert {name: layer.algorithm for name, layer in data.manifest.layers.items()} == {
        f"{one}.saliency": "Front (left)",
        "ground": "lidar",
        "lidar.saliency": "lidar",
    }
    copy = pickle.loads(pickle.dumps(data))
    assert copy.raw(0) == data.raw(0) and copy.split == "val" and len(copy) == 3
    assert copy.root == data.root == f"{front}+{lidar}" and isinstance(copy, shard_tools.Zipped)


@pytest.mark.parametrize(
    ("shards", "says"),
    [
        ({**KEYS, "train-000000": ["a-1", "a-0"]}, "sample 0 has the key a-0 in the first and a-1 in the second"),
        ({**KEYS, "val-000000": ["c-0", "c-1", "d"]}, "sample 5 has the key c-2 in the first and d in the second"),
        ({**KEYS, "train-000000": ["a-0"]}, "train-000000.tar with 2 samples .* train-000000.tar with 1 samples"),
        ({**KEYS, "val-000001": ["d-0"]}, "no more shards where the second has val-000001.tar with 1"),
        ({"train-000000": ["a-0", "a-1"], "train-000001": ["b-0"]}, "train-000002.tar .* train-000001.tar"),
        ({"train-000000": ["a-0", "a-1"]}, "train-000002.tar with 1 samples where the second has no more shards"),
    ],
)
def test_what_differs_is_named(tmp_path: Path, shards: Shards, says: str) -> None:
    first, second = make(tmp_path / "a", "a", ["x"]), make(tmp_path / "b", "b", ["y"], shards)
    with pytest.raises(shard_tools.Misuse, match=says) as caught:
        shard_tools.open([first, second])
    assert str(first) in str(caught.value) and str(second) in str(caught.value) and "\n" not in str(caught.value)


def test_names_must_tell_data_sets_apart(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a", "same", ["txt", "x"]), make(tmp_path / "b", "same", ["txt", "y"])
    with pytest.raises(shard_tools.Misuse, match=r"both bring a part same.txt; give each a name"):
        shard_tools.open([first, second])
    with pytest.raises(shard_tools.Misuse, match="'Front!'"):
        shard_tools.open({"Front!": first, "b": second})
    with pytest.raises(shard_tools.Misuse, match="the list is empty"):
        shard_tools.open([])
    with pytest.raises(shard_tools.Misuse, match="no split"):
        shard_tools.open([first, second], "test")
    clash = make(tmp_path / "c", "c", ["a.txt"])
    with pytest.raises(shard_tools.Misuse, match=r"both bring a part a\.txt"):
        shard_tools.open({"a": first, "b": second, "c": clash})


def test_damage_names_the_data_set(tmp_path: Path) -> None:
    base = make(tmp_path / "base", "base", ["txt"])
    other = make(tmp_path / "other", "other", ["txt"], layers=["ground"])
    tar = other / "shards" / "val-000000.tar"
    tar.write_bytes(tar.read_bytes().replace(b"NUMPY", b"NUMPI"))
    data = shard_tools.open([base, other])
    assert data[0]["ground.npy"].tolist() == [0, 0]
    with pytest.raises(
        shard_tools.CorruptSample, match=f"val-000000.tar: sample c-0: ground.npy: .*in {other}"
    ) as caught:
        data[3]
    assert (caught.value.shard, caught.value.key, caught.value.part) == ("val-000000.tar", "c-0", "ground.npy")
    tar.unlink()
    with pytest.raises(shard_tools.CorruptSample, match=f"not readable.*in {other}") as caught:
        shard_tools.open([base, other]).raw(4)
    assert caught.value.part in data.manifest.parts


keys = st.lists(st.from_regex(r"[a-z0-9_-]{1,6}", fullmatch=True), min_size=1, max_size=9, unique=True)
parts = st.sets(st.sampled_from(["a", "b", "a.b", "c.bin"]), min_size=1)


def deal(names: Sequence[str], cuts: Sequence[int]) -> dict[str, list[str]]:
    """Return shard → keys: the keys in order, a shard for each span between two cuts."""
    edges = [0, *sorted({cut % len(names) for cut in cuts} - {0}), len(names)]
    return {f"train-{number:06d}": [*names[edges[number] : edges[number + 1]]] for number in range(len(edges) - 1)}


@settings(max_examples=25)
@given(keys, st.lists(st.integers(0, 9), max_size=3), parts, parts, st.randoms(use_true_random=False))
def test_zipping_is_the_union(names: list[str], cuts: list[int], one: set[str], two: set[str], chance: object) -> None:
    shards = deal(names, cuts)
    with TemporaryDirectory() as folder:
        first = make(Path(folder, "1"), "one", sorted(one), shards)
        second = make(Path(folder, "2"), "two", sorted(two), shards)
        data = shard_tools.open([first, second])
        assert data.keys == names and [shard.samples for shard in data.shards] == [
            len(keys) for keys in shards.values()
        ]
        for position, key in enumerate(names):
            wanted = {part: f"one {part} {key}" for part in one - two} | {
                part: f"two {part} {key}" for part in two - one
            }
            wanted |= {f"{name}.{part}": f"{name} {part} {key}" for part in one & two for name in ("one", "two")}
            assert {part: data.decode() for part, data in data.raw(position).items()} == wanted
            assert data[position] == {"__key__": key} | {part: text.encode() for part, text in wanted.items()}
        other = [*names]
        chance.shuffle(other)  # type: ignore[attr-defined]
        if other != names:
            shutil.rmtree(second)
            make(second, "two", sorted(two), deal(other, cuts))
            at = next(position for position in range(len(names)) if names[position] != other[position])
            with pytest.raises(shard_tools.Misuse, match=f"sample {at} has the key {names[at]} .* {other[at]} in"):
                shard_tools.open([first, second])
