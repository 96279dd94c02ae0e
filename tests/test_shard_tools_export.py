"""Exports: the side files of other readers, checked by what they say of the tars and by the readers that are there."""

import json
import os
import struct
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds
import yaml
from conftest import MODALITIES

import shard_tools
from shard_tools.cli import main
from shard_tools.errors import Misuse, Problem
from shard_tools.export import FORMATS, export
from shard_tools.verify import verify


@pytest.fixture(params=MODALITIES)
def data(request: pytest.FixtureRequest, built: dict[str, Path]) -> shard_tools.Dataset:
    return shard_tools.open(built[request.param])


def members(tar: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(tar) as file:
        return file.getmembers()


def files(root: Path) -> dict[str, bytes]:
    """Return every file below a folder that is not a link."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


# Each format


def test_dali_gets_the_index_of_its_own_tool(data: shard_tools.Dataset, tmp_path: Path) -> None:
    names = export("dali", data.root, tmp_path / "out")
    assert names == [f"{shard.name[:-4]}.idx" for shard in data.shards] == sorted(os.listdir(tmp_path / "out"))
    for shard, name in zip(data.shards, names, strict=True):
        lines = [f"v1.2 {shard.samples}"]  # as wds2idx of DALI 2.4 has it, and as its bytes were when it was run
        samples: dict[str, list[str]] = {}
        for member in members(Path(data.root, "shards", shard.name)):
            key, part = member.name.split(".", 1)
            samples.setdefault(key, []).append(f"{part} {member.offset_data} {member.size} {member.name}")
        lines += [" ".join(parts) for parts in samples.values()]
        assert (tmp_path / "out" / name).read_text() == "\n".join(lines) + "\n"


def test_energon_finds_description_shards_and_their_indexes(data: shard_tools.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = export("energon", data.root, out)
    assert all((out / name).is_file() for name in names)
    shards = {f"shards/{shard.name}": shard for shard in data.shards}
    assert json.loads((out / ".nv-meta/.info.json").read_text()) == {
        "shard_counts": {
            name: shard.samples for name, shard in shards.items()
        }  # others than its own fields are refused
    }
    assert yaml.safe_load((out / ".nv-meta/split.yaml").read_text()) == {
        "split_parts": {
            "train": [name for name, shard in shards.items() if shard.split == "train"],
            "val": [name for name, shard in shards.items() if shard.split == "val"],
            "test": [],
        },
        "exclude": [],
    }
    assert yaml.safe_load((out / ".nv-meta/dataset.yaml").read_text()) == {
        "__module__": "megatron.energon",
        "__class__": "CrudeWebdataset",
    }
    for name, shard in shards.items():
        link = out / name
        assert link.is_symlink() and not os.path.isabs(os.readlink(link))
        tar = members(link)
        first = {member.name.split(".")[0]: member.offset for member in reversed(tar)}
        starts = [first[key] for key in dict.fromkeys(member.name.split(".")[0] for member in tar)]
        end = tar[-1].offset_data + -(-tar[-1].size // 512) * 512
        expected = struct.pack(f"{shard.samples + 1}Q", *starts, end)
        assert (out / f"{name}.idx").read_bytes() == expected
        assert link.read_bytes()[end:] == bytes(1024)
    opened = wds.WebDataset(sorted(str(out / name) for name in shards), shardshuffle=False)  # the links are read
    assert [sample["__key__"] for sample in opened] == data.keys


@pytest.mark.parametrize("beside", [True, False])
def test_wids_gets_lists_that_lead_to_the_shards(built: dict[str, Path], tmp_path: Path, beside: bool) -> None:
    root = tmp_path / "photos"
    root.symlink_to(built["image"]) if not beside else copy(built["image"], root)
    out = root if beside else tmp_path / "out"
    before = files(root)
    assert export("wids", root, out) == ["wids-train.json", "wids-val.json"]
    data = shard_tools.open(root)
    for split in ("train", "val"):
        told = json.loads((out / f"wids-{split}.json").read_text())
        assert (told["__kind__"], told["wids_version"], told["name"]) == ("wids-shard-index-v1", 1, f"image-{split}")
        shards = [shard for shard in data.shards if shard.split == split]
        assert [(s["nsamples"], s["filesize"]) for s in told["shardlist"]] == [(s.samples, s.bytes) for s in shards]
        for entry, shard in zip(told["shardlist"], shards, strict=True):
            path = os.path.normpath(out / entry["url"])  # as wids merges it with the folder of its list
            assert os.path.samefile(path, root / "shards" / shard.name)
            assert not beside or entry["url"] == f"shards/{shard.name}"
    after = files(root)
    assert {name: after[name] for name in before} == before
    assert not verify(root)


def test_hugging_face_gets_the_type_of_every_part(
    data: shard_tools.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    out = tmp_path / "out"
    export("hf", data.root, out)
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    kinds = loaded["train"].features
    expected: dict[str, Any] = {
        "jpg": datasets.Image(),
        "mp4": datasets.Video(),
        "arrow": datasets.Value("binary"),
        "cls": datasets.ClassLabel(names=data.manifest.classes),
        "mel.npy": datasets.Array2D((None, 128), "float16"),
        "points.npy": datasets.Array2D((None, 4), "uint16"),
        "coords.npy": datasets.Array2D((None, 3), "int16"),
        "count.npy": datasets.List(datasets.Value("uint16")),
        "saliency.npy": nested(datasets, "uint8", data[0].get("saliency.npy")),
        "motion.npy": nested(datasets, "uint8", data[0].get("motion.npy")),
        "regions.npy": nested(datasets, "uint16", data[0].get("regions.npy")),
    }
    assert set(kinds) == {*data.manifest.parts, "__key__", "__url__"}
    for part in expected.keys() & kinds.keys():
        assert kinds[part] == expected[part], part
    assert {name: str(kind.dtype) for name, kind in kinds["json"].items()} == {
        name: {"str": "string", "int": "int64", "float": "float64"}[type(value).__name__]
        for name, value in data[0]["json"].items()
    }
    theirs = loaded["validation"]
    theirs = theirs.cast_column("mp4", datasets.Video(decode=False)) if "mp4" in kinds else theirs
    for row, sample in zip(theirs, shard_tools.open(data.root, "val"), strict=True):
        assert (row["__key__"], row["json"]) == (sample["__key__"], sample["json"])
        assert row.get("cls") == sample.get("cls")
        for part in sample.keys() - {"__key__", "json", "cls", "jpg", "mp4", "arrow"}:
            np.testing.assert_array_equal(np.array(row[part], sample[part].dtype), sample[part])
        if "jpg" in row:
            assert row["jpg"].size == (sample["json"]["width"], sample["json"]["height"])


def nested(datasets: Any, dtype: str, array: np.ndarray | None) -> Any:
    kind = datasets.Value(dtype)
    for _ in range(0 if array is None else array.ndim):
        kind = datasets.List(kind)
    return kind


def test_the_card_of_a_data_set_may_be_typed_in_place(built: dict[str, Path], tmp_path: Path) -> None:
    root = copy(built["image"], tmp_path / "photos")
    before = files(root)
    assert export("hf", root, root) == ["README.md"]
    after = files(root)
    assert {name for name in after if after[name] != before.get(name)} == {"README.md"}
    head = yaml.safe_load(after["README.md"].decode().split("---\n")[1])
    assert {kind["name"] for kind in head["dataset_info"]["features"]} >= {"jpg", "saliency.npy"}
    assert not verify(root)
    assert export("hf", root, root) and files(root) == after


# What holds for all


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_leaves_the_data_set_alone_and_is_the_same_again(
    name: str, built: dict[str, Path], tmp_path: Path
) -> None:
    before = files(built["audio"])
    for out in ("a", "b"):
        export(name, built["audio"], tmp_path / out)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(built["audio"]) == before


@pytest.mark.parametrize("name", ["energon", "hf"])
def test_copies_stand_alone_also_far_away(name: str, built: dict[str, Path], tmp_path: Path, s3: str) -> None:
    names = export(name, built["image"], tmp_path / "near", copy=True)
    assert set(files(tmp_path / "near")) == set(names)
    far = f"{s3}/export-{name}"
    with pytest.raises(Misuse, match="only local files can be linked; give --copy"):
        export(name, built["image"], far)
    assert export(name, built["image"], far, copy=True) == names
    import s3fs

    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    for path, data in files(tmp_path / "near").items():
        assert fs.cat_file(f"{far}/{path}") == data
    fs.put(f"{built['audio']}/", f"{s3}/audio-{name}", recursive=True)
    export(name, f"{s3}/audio-{name}", tmp_path / "back", copy=True)
    export(name, built["audio"], tmp_path / "direct", copy=True)
    assert files(tmp_path / "back") == files(tmp_path / "direct")
    assert export("wids", f"{s3}/audio-{name}", tmp_path / "lists")
    told = json.loads((tmp_path / "lists" / "wids-val.json").read_text())
    assert told["shardlist"][0]["url"] == f"{s3}/audio-{name}/shards/val-000000.tar"


def test_an_output_that_cannot_be_is_refused(built: dict[str, Path], tmp_path: Path) -> None:
    root = built["image"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(root)
    for name, out, message in [
        ("dali", root, "is the data set; this format needs a folder of its own"),
        ("energon", tmp_path / "link", "is the data set; this format needs a folder of its own"),
        ("wids", root / "shards", "lies in the data set; give another folder"),
        ("dali", tmp_path / "link" / "new", "lies in the data set; give another folder"),
        ("hf", built["audio"], "is not empty; give a new folder"),
        ("wids", tmp_path / "full", "is not empty; give a new folder"),
        ("wids", tmp_path / "full" / "note.txt", "is not a folder"),
        ("wids", f"memory://far-{tmp_path.name}", "cannot refer to local shards"),
    ]:
        with pytest.raises(Misuse, match=message):
            export(name, root, out)
    with pytest.raises(Misuse, match="nothing to copy, since dali refers to the shards"):
        export("dali", root, tmp_path / "empty", copy=True)
    with pytest.raises(Misuse, match="no data set here"):
        export("dali", tmp_path / "empty", tmp_path / "new")
    with pytest.raises(Problem, match=r"/proc/new: the export failed: .*No such file"):
        export("dali", root, "/proc/new")
    assert files(tmp_path / "full") == {"note.txt": b"mine"} and not os.listdir(tmp_path / "empty")


def test_the_command_says_what_it_wrote(
    built: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shard-tools", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(str(end.value.code)), *capsys.readouterr()

    code, told, _ = command("export", "dali", built["audio"], "--output", tmp_path / "a", "--json")
    files = ["train-000000.idx", "val-000000.idx"]
    assert (code, json.loads(told)) == (0, {"format": "dali", "output": str(tmp_path / "a"), "files": files})
    code, told, _ = command("export", "wids", built["audio"], "--output", tmp_path / "b")
    assert (code, told) == (0, f"{tmp_path}/b: 2 files for wids, of {built['audio']}\n")
    code, told, error = command("export", "energn", built["audio"], "--output", tmp_path / "c")
    assert (code, told) == (2, "") and "did you mean energon?" in error and error.count("\n") == 1


def copy(source: Path, target: Path) -> Path:
    """Copy a data set, whose files are read only to the tests, into a folder of the test."""
    for name, data in files(source).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    return target
