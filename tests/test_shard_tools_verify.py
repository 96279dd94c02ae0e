"""verify finds each kind of damage, inspect says what is there, the command line keeps its manners."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_data import PARTS, make_dataset, make_samples

from shard_tools.cli import main
from shard_tools.inspect import summary
from shard_tools.manifest import read_manifest, write_manifest
from shard_tools.tar import encode_part
from shard_tools.verify import verify
from shard_tools.writer import ShardWriter

TRAIN = "shards/train-000000.tar"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("whole") / "d")


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "d"))


def flip(root: Path, at: int, name: str = TRAIN) -> None:
    data = bytearray((root / name).read_bytes())
    data[at] ^= 1
    (root / name).write_bytes(data)


def edit_manifest(root: Path, **changes: object) -> None:
    write_manifest(root, read_manifest(root).model_copy(update=changes))


def edit_table(root: Path, name: str, change: Callable[[list[dict]], list[dict]]) -> None:
    table = pq.ParquetFile(root / name).read()
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), table.schema), root / name)


def rewrite(root: Path, change: Callable[[int, dict, dict], None]) -> None:
    """Write the first shard again with other samples, so that only their contents are wrong."""
    samples = [sample for sample in make_samples() if sample[1] == "train-000000"]
    with ShardWriter(root, "train-000000", list(PARTS)) as writer:
        for number, (key, _, parts, row) in enumerate(samples):
            change(number, parts, row)
            writer.add(key, {part: encode_part(part, value) for part, value in parts.items()}, row)
        shard = writer.commit()
    assert shard is not None
    edit_manifest(root, shards=[shard, *read_manifest(root).shards[1:]])


def test_a_whole_data_set_has_no_findings(whole: Path) -> None:
    seen: list[int] = []
    assert verify(whole, seen.append) == []
    assert sum(seen) == sum(shard.bytes for shard in read_manifest(whole).shards)


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda root: (root / TRAIN).unlink(), "train-000000.tar: missing"),
    (lambda root: flip(root, 900), "its sha256 is not the manifest's"),
    (lambda root: flip(root, 0), "header of"),
    (lambda root: flip(root, 140), "header of|no tar header"),  # mtime
    (lambda root: (root / TRAIN).write_bytes((root / TRAIN).read_bytes()[:3000]), "3000 bytes, the manifest says"),
    (lambda root: (root / TRAIN).write_bytes((root / TRAIN).read_bytes() + b"x"), "a tar ends with"),
    (lambda root: (root / "shards/notes.txt").write_text("x"), "shards/notes.txt: not in the manifest"),
    (lambda root: (root / "index/x.parquet").write_text("x"), "index/x.parquet: not in the manifest"),
    (lambda root: (root / "index/train-000000.parquet").unlink(), "index/train-000000.parquet: missing"),
    (lambda root: (root / "index/train-000000.parquet").write_text("x"), "index/train-000000.parquet: not readable"),
    (lambda root: edit_table(root, "index/train-000000.parquet", lambda rows: rows[1:]), "3 rows, the manifest says 4"),
    (lambda root: edit_table(root, "index/train-000000.parquet", lambda rows: rows[::-1]), "where its index has"),
    (
        lambda root: edit_table(
            root, "index/train-000000.parquet", lambda rows: [{**rows[0], "label": "dogs"}, *rows[1:]]
        ),
        "differ in label",
    ),
    (lambda root: (root / "plan.parquet").unlink(), "plan.parquet: missing"),
    (lambda root: edit_table(root, "plan.parquet", lambda rows: rows[1:]), "not in plan.parquet"),
    (lambda root: edit_table(root, "plan.parquet", lambda rows: [*rows, rows[0]]), "a key comes twice"),
    (lambda root: edit_table(root, "rejected.parquet", lambda rows: []), "neither in a shard nor rejected"),
    (lambda root: edit_manifest(root, rejected=0), "1 rows, the manifest says 0"),
    (lambda root: edit_manifest(root, gaps=[]), "train-000002 is neither a shard nor a gap"),
    (lambda root: edit_manifest(root, splits={"train": 9, "val": 3}), "add up to"),
    (lambda root: edit_manifest(root, classes=["cats"]), "class 1, the manifest has 1"),
    (lambda root: (root / "README.md").unlink(), "README.md: missing"),
    (lambda root: rewrite(root, lambda number, parts, row: parts["json"].update(more=number)), "other keys than"),
    (
        lambda root: rewrite(
            root, lambda number, parts, row: parts.update({"saliency.npy": np.zeros((3, 3), np.uint8)})
        ),
        "does not fit the lattice",
    ),
    (
        lambda root: rewrite(root, lambda number, parts, row: parts.update({"saliency.npy": np.zeros((2, 3))})),
        "float64, the manifest says uint8",
    ),
    (lambda root: rewrite(root, lambda number, parts, row: parts.update(json=b'{"a":null}')), "null"),
    (lambda root: rewrite(root, lambda number, parts, row: parts.update(json=b"{")), "json: JSONDecodeError"),
    (
        lambda root: edit_table(
            root, "index/train-000000.parquet", lambda rows: [{**rows[0], "split": "val"}, *rows[1:]]
        ),
        "the index has split val",
    ),
    (
        lambda root: (
            shutil.copy(root / TRAIN, root / "shards/train-000001.tar"),
            shutil.copy(root / "index/train-000000.parquet", root / "index/train-000001.parquet"),
        ),
        "its key comes twice in the data set",
    ),
]


@pytest.mark.parametrize(("damage", "says"), DAMAGE)
def test_damage_is_found(root: Path, damage: Callable[[Path], object], says: str) -> None:
    damage(root)
    findings = verify(root)
    assert any(part in finding for part in says.split("|") for finding in findings), findings
    assert not any("\n" in finding for finding in findings)


def test_every_flipped_bit_is_found(root: Path) -> None:
    whole = (root / TRAIN).read_bytes()
    for at in np.random.default_rng(0).integers(0, len(whole), 30):
        flip(root, int(at))
        assert verify(root)
        (root / TRAIN).write_bytes(whole)


def test_summary(whole: Path) -> None:
    facts = summary(whole)
    assert facts["splits"]["train"] == {"samples": 8, "shards": 2, "bytes": facts["splits"]["train"]["bytes"]}
    assert facts["bytes"] == sum(path.stat().st_size for path in (whole / "shards").iterdir())
    assert facts["shapes"] == {"2×3": 12}
    assert facts["labels"] == {"<b>cats</b>": 6, "dogs": 6}
    assert facts["rejected"] == {"Corrupt": 1}
    assert facts["parts"]["note.txt"] == 0 and facts["parts"]["saliency.npy"] == 12 * 134


def run(argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["shard-tools", *argv])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_commands(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def shard_tools(*argv: str) -> tuple[int, str, str]:
        return run(list(argv), monkeypatch, capsys)

    code, out, _ = shard_tools("inspect", str(root), "--json")
    assert code == 0 and json.loads(out) == summary(root)
    code, out, _ = shard_tools("inspect", str(root))
    assert code == 0 and "<b>cats</b>" in out and "saliency.npy" in out and "Corrupt" in out
    code, out, _ = shard_tools("verify", str(root))
    assert code == 0 and "all is well: 3 shards, 12 samples" in out
    flip(root, 900)
    code, out, _ = shard_tools("verify", str(root))
    assert code == 1 and out.splitlines()[0].startswith("train-000000.tar: ")
    code, out, _ = shard_tools("verify", str(root), "--json")
    assert code == 1 and json.loads(out)["ok"] is False and json.loads(out)["findings"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["inspect", "nowhere"], "no data set here"),
        (["inspct", "x"], "did you mean inspect"),
        (["verify", "x", "--jsn"], "did you mean --json"),
        (["view", "x", "--out", "y", "--count", "0"], "at least 1"),
        (["view", "x"], "--out"),
        ([], "COMMAND"),
    ],
)
def test_misuse(
    argv: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(argv, monkeypatch, capsys)
    assert (code, out) == (2, "") and says in err and len(err.splitlines()) == 1
