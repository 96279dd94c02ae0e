"""Hostile files through the real `shard-build`, and as shards for readers: accepted or refused for the right reason.

The files are in `hostile/`, a module a modality, made by code.
"""

import importlib
import json
import shutil
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import command, succeed
from hostile import ACCEPTED, LOST, Hostile, archives, fickle
from hostile.image import picture
from shard_data import make_dataset

import shard_tools
from pipelines.engine import build
from pipelines.inputs.columns import printable
from shard_tools.errors import Problem
from shard_tools.reader import CorruptSample
from shard_tools.tar import decode_part
from shard_tools.verify import verify, walk

BUILDS = {
    "image": ("image", "names"),
    "video": ("video",),
    "lidar": ("lidar",),
    "audio": ("audio",),
    "table": ("table",),
}
LEAST = 150
TARS = list(archives.files())


def files_of(modality: str) -> list[Hostile]:
    return [file for module in BUILDS[modality] for file in importlib.import_module(f"hostile.{module}").files()]


def put(modality: str, folder: Path) -> dict[str, set[str]]:
    """Put a modality's files into folder/in, and tars of pictures into folder/tars; return source → expected."""
    expected = {}
    for file in files_of(modality):
        assert not (folder / "in" / file.name).exists()
        file.write(folder / "in")
        expected[printable(f"in/{file.name}")] = set(file.expected)
    if modality == "image":
        (folder / "tars").mkdir()
        for name, data, inside in TARS:
            (folder / "tars" / f"{name}.tar").write_bytes(data)
            expected |= {f"tars/{name}.tar/{member}".rstrip("/"): set(own) for member, own in inside.items()}
    return expected


def fates(output: Path) -> dict[str, dict[str, str]]:
    """Return what became of each source: 'accepted' or class of reject → its message. No piece of it has two fates."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    pieces = set()
    for row in shard_tools.open(output).index.select(["source", "start", "end"]).to_pylist():
        found[row["source"]][ACCEPTED] = ""
        pieces.add((row["source"], row["start"], row["end"]))
    for row in pq.read_table(output / "rejected.parquet").to_pylist():
        found[row["source"]][row["error"]] = row["message"]
        assert row["message"] and "\n" not in row["message"], row
        assert (row["source"], row["start"], row["end"]) not in pieces, f"in a shard and rejected: {row}"
        pieces.add((row["source"], row["start"], row["end"]))
    return found


def check(found: dict[str, dict[str, str]], expected: dict[str, set[str]]) -> None:
    wrong = [
        f"{source!r}: {found.get(source, LOST)}, expected {sorted(expected.get(source, ()))}"
        for source in sorted(expected.keys() | found.keys())
        if not (found.get(source) or {LOST: ""}).keys() <= expected.get(source, set())
    ]
    assert not wrong, "\n".join(wrong)
    assert not {"Internal", "Crash"} & {fate for own in found.values() for fate in own}


@pytest.mark.slow
@pytest.mark.parametrize("modality", BUILDS)
def test_each_file_is_accepted_or_rejected_for_the_right_reason(tmp_path: Path, modality: str) -> None:
    expected = put(modality, tmp_path)
    output = tmp_path / "out"
    flags = ["--modality", modality, "--output", output, "--workers", "2", "--timeout", "20", "--json"]
    inputs = [tmp_path / "in", *(tmp_path / "tars").glob("*.tar")]
    built = command("pipelines.cli", *flags, "--input", *inputs)
    assert built.returncode == 0 and "Traceback" not in built.stderr, built.stderr[-3000:]
    json.loads(built.stdout)
    succeed("shard_tools.cli", "verify", output)
    shutil.rmtree(tmp_path / "in")  # some are large
    found = fates(output)
    print(f"{len(expected)} hostile files of {modality}: {sum(ACCEPTED in own for own in found.values())} accepted")
    check(found, expected)


def test_there_are_enough() -> None:
    assert sum(len(files_of(modality)) for modality in BUILDS) + len(TARS) >= LEAST


def test_files_that_change_between_probe_and_build(tmp_path: Path, cluster: None) -> None:
    for name in fickle.CHANGES:
        path = tmp_path / "in" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture("PNG"))
    build(modality=fickle.Fickle, inputs=[tmp_path / "in"], output=tmp_path / "out")
    assert not verify(tmp_path / "out")
    check(fates(tmp_path / "out"), {f"in/{name}.png": set(own) for name, (_, own) in fickle.CHANGES.items()})


@pytest.mark.parametrize("name, data", [tar[:2] for tar in TARS], ids=[tar[0] for tar in TARS])
def test_a_tar_that_is_no_shard_of_ours_is_found_out(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(Problem):
        list(walk(memoryview(data)))
    root = make_dataset(tmp_path)
    (root / "shards" / "train-000000.tar").write_bytes(data)
    assert verify(root)
    dataset = shard_tools.open(root, split="train")
    for position in range(4):
        with pytest.raises(CorruptSample):
            dataset[position]


@pytest.mark.parametrize("part, data", list(archives.parts()))
def test_a_part_that_is_not_what_its_name_says_is_an_error_and_no_more(part: str, data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_part(part, data)
