"""verify finds each kind of damage, inspect says what is there, the command line keeps its manners."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_data import PARTS, make_dataset, make_samples

from shard_tools.cli import main
from shard_tools.compare import compare
from shard_tools.errors import Problem
from shard_tools.inspect import summary
from shard_tools.manifest import read_manifest, write_manifest
from shard_tools.processes import in_order
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


def break_text(file: Path) -> None:
    table = pq.read_table(file)
    wrong = pa.array([b"\xd1\x28"] * len(table)).cast(pa.string(), safe=False)
    pq.write_table(table.set_column(table.schema.get_field_index("label"), "label", wrong), file)


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


@pytest.mark.parametrize("workers", [2, 5])
def test_processes_find_what_one_finds(root: Path, workers: int) -> None:
    seen: list[int] = []
    assert verify(root, seen.append, workers=workers) == []
    assert seen == [shard.bytes for shard in read_manifest(root).shards]
    flip(root, 900)
    (root / "index/val-000000.parquet").write_bytes(b"")
    assert verify(root, workers=workers) == verify(root) != []


def die_at_two(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_process_that_is_killed_is_told() -> None:
    assert list(in_order(str, range(9), 2)) == list("012345678")
    with pytest.raises(Problem, match="most likely for want of memory"):
        list(in_order(die_at_two, range(9), 2))


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
    (lambda root: break_text(root / "index/train-000000.parquet"), "index/train-000000.parquet: not readable"),
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
    (
        lambda root: edit_table(
            root, "index/train-000000.parquet", lambda rows: [{**rows[0], "key": "other"}, *rows[1:]]
        ),
        "sample other: not in plan.parquet",
    ),
    (
        lambda root: edit_table(root, "plan.parquet", lambda rows: [rows[1], rows[0], *rows[2:]]),
        "another order than in plan.parquet",
    ),
    (
        lambda root: edit_table(root, "plan.parquet", lambda rows: [*rows[4:], *rows[:4]]),
        "train-000000.tar: not in plan.parquet where it would stand",
    ),
    (lambda root: edit_table(root, "plan.parquet", lambda rows: rows[4:]), "train-000000.tar: not in plan.parquet"),
    (
        lambda root: edit_table(root, "plan.parquet", lambda rows: [{**row, "label": None} for row in rows]),
        "plan.parquet: empty cells",
    ),
    (
        lambda root: pq.write_table(pq.read_table(root / "plan.parquet").drop_columns("group"), root / "plan.parquet"),
        "plan.parquet: its columns",
    ),
    (
        lambda root: edit_table(root, "rejected.parquet", lambda rows: [{**rows[0], "start": 1.0}]),
        "neither in a shard nor rejected",
    ),
    (
        lambda root: rewrite(root, lambda number, parts, row: parts["json"].update(label="cow")),
        "json: label 'cow', the index has '<b>cats</b>'",
    ),
    (lambda root: rewrite(root, lambda number, parts, row: parts["json"].pop("group")), "json: no group"),
    (lambda root: edit_manifest(root, columns={"lens": "int64"}), "its columns are not those of the manifest's parts"),
    (lambda root: edit_manifest(root, columns={"label": "string"}), "column label has the name of another column"),
    (
        lambda root: edit_manifest(root, parts={**PARTS, "../jpg": PARTS["jpg"]}),
        "part '../jpg': no name of a part",
    ),
]


@pytest.mark.parametrize(("damage", "says"), DAMAGE)
def test_damage_is_found(root: Path, damage: Callable[[Path], object], says: str) -> None:
    damage(root)
    findings = verify(root)
    assert any(part in finding for part in says.split("|") for finding in findings), findings
    assert not any("\n" in finding for finding in findings)


COLUMNS = {"city": "string", "year": "int64", "weight": "float64", "indoor": "bool"}
FACTS = {"city": "Ulm", "year": 1999, "weight": 0.5, "indoor": True}


def with_columns(root: Path, **in_json: object) -> Path:
    """Write a data set whose samples have columns of a list; json has these instead."""
    make_dataset(root)
    shards = []
    for old in read_manifest(root).shards:
        name = old.name.removesuffix(".tar")
        with ShardWriter(root, name, list(PARTS), COLUMNS) as writer:
            for key, shard, parts, row in make_samples():
                if shard == name:
                    facts = {**parts["json"], **FACTS, **in_json}
                    encoded = {part: encode_part(part, value) for part, value in {**parts, "json": facts}.items()}
                    writer.add(key, encoded, {**row, **FACTS})
            shard = writer.commit()
        assert shard is not None
        shards.append(shard)
    edit_manifest(root, columns=COLUMNS, shards=shards)
    return root


def test_columns_of_a_list(tmp_path: Path) -> None:
    assert verify(with_columns(tmp_path / "whole")) == []
    for number, (name, value) in enumerate({"city": "Bonn", "year": 2000, "weight": "0.5", "indoor": 1}.items()):
        findings = verify(with_columns(tmp_path / str(number), **{name: value}))
        assert len(findings) == 12 and f"json: {name} {value!r}, the index has {FACTS[name]!r}" in findings[0]


def test_absent_parts_are_fine(root: Path) -> None:
    rewrite(root, lambda number, parts, row: parts.update({"jpg": b"", "saliency.npy": b"", "cls": b"-1"}))
    assert [finding for finding in verify(root) if "sample" in finding] == []


def test_many_findings_are_cut_short(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "d")
    with ShardWriter(root, "train-000000", list(PARTS)) as writer:
        for number in range(100):
            _, _, parts, row = make_samples()[0]
            bad = {**parts, "json": {}, "saliency.npy": b"x"}
            writer.add(f"k{number}", {p: encode_part(p, v) for p, v in bad.items()}, {**row, "key": f"k{number}"})
        shard = writer.commit()
    assert shard is not None
    edit_manifest(root, shards=[shard, *read_manifest(root).shards[1:]])
    findings = verify(root)
    assert "train-000000.tar: and more of the kind" in findings
    assert len(findings) < 100


def test_row_groups_of_the_plan_do_not_matter(root: Path) -> None:
    for rows in (1, 3, 100):
        pq.write_table(pq.read_table(root / "plan.parquet"), root / "plan.parquet", row_group_size=rows)
        assert verify(root) == []


def test_every_flipped_bit_is_found(root: Path) -> None:
    whole = (root / TRAIN).read_bytes()
    for at in np.random.default_rng(0).integers(0, len(whole), 30):
        flip(root, int(at))
        assert verify(root)
        (root / TRAIN).write_bytes(whole)


def changed(root: Path, to: Path, change: Callable[[Path], object]) -> Path:
    shutil.copytree(root, to)
    change(to)
    return to


def set_build(root: Path, **changes: object) -> None:
    build = read_manifest(root).build
    edit_manifest(root, build=build.model_copy(update=changes))


def truncate_index(root: Path) -> None:
    table = pq.read_table(root / "index/val-000000.parquet")
    pq.write_table(table, root / "index/val-000000.parquet", compression="none")


DIFFERENCES: list[tuple[Callable[[Path], object], list[str]]] = [
    (
        lambda root: set_build(root, config={"name": "b", "quality": 90}),
        ["config.name: ", "config.quality: only in the"],
    ),
    (lambda root: set_build(root, versions={"mmmask": "2"}), ['versions.mmmask: "0" and "2"']),
    (
        lambda root: edit_manifest(root, statistics={"mean": [1.0]}),
        ["manifest.statistics.mean", "manifest.statistics.std"],
    ),
    (lambda root: (root / TRAIN).unlink(), ["in {root} it is missing", "other bytes"]),
    (lambda root: flip(root, 1600), ["in {root} it is damaged", "other bytes", "jpg: from byte 64 on"]),
    (
        lambda root: edit_manifest(root, shards=read_manifest(root).shards[:2]),
        ["val-000000.tar: only in"],
    ),
    (
        lambda root: rewrite(root, lambda number, parts, row: parts["json"].update(width=number + 24)),
        ["train-000000.tar: other bytes", "json: json.width: 24 and 25"],
    ),
    (
        lambda root: rewrite(root, lambda number, parts, row: parts["saliency.npy"].__setitem__((0, 0), 7)),
        ["train-000000.tar: other bytes", "saliency.npy: 1 of 6 values differ"],
    ),
    (
        lambda root: edit_table(root, "plan.parquet", lambda rows: [*rows[:2], {**rows[2], "group": "x"}, *rows[3:]]),
        ["plan.parquet: row 2 differs in group"],
    ),
    (
        lambda root: edit_table(root, "rejected.parquet", lambda rows: []),
        ["rejected.parquet: row 0 is only in the first"],
    ),
    (truncate_index, ["index/val-000000.parquet: the rows are the same"]),
]


@pytest.mark.parametrize(("change", "says"), DIFFERENCES)
def test_what_differs_is_said(
    whole: Path,
    tmp_path: Path,
    change: Callable[[Path], object],
    says: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = changed(whole, tmp_path / "other", change)
    differences = compare(whole, other)
    for text in says:
        wanted = text.format(root=other).split("|")
        assert any(part in line for part in wanted for line in differences), differences
    code, out, _ = run(["verify", str(whole), "--against", str(other)], monkeypatch, capsys)
    assert code == 1 and out.splitlines() == differences
    assert compare(other, whole)


def test_the_same_bytes_under_another_name(
    whole: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_manifest(root, name="another")
    seen: list[int] = []
    assert compare(whole, root, seen.append) == []
    assert sum(seen) == 2 * sum(shard.bytes for shard in read_manifest(whole).shards)
    code, out, _ = run(["verify", str(whole), "--against", str(root), "--json"], monkeypatch, capsys)
    assert code == 0 and json.loads(out)["identical"] is True and json.loads(out)["differences"] == []


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
    code, out, _ = shard_tools("verify", str(root), "--workers", "2", "--json")
    assert code == 1 and json.loads(out)["ok"] is False and json.loads(out)["findings"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["inspect", "nowhere"], "no data set here"),
        (["inspct", "x"], "did you mean inspect"),
        (["verify", "x", "--agianst", "y"], "did you mean --against"),
        (["verify", "x", "--jsn"], "did you mean --json"),
        (["verify", "x", "--against", "y", "--workers", "2"], "a comparison is one process"),
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
