"""The commands of shard-tools that list, show, count and make data sets of others, through the command line."""

import contextlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shard_data import CLASSES, make_dataset, make_one, make_samples

import shard_tools
from shard_tools.arguments import run
from shard_tools.cli import _main
from shard_tools.manifest import read_manifest, write_card, write_manifest
from shard_tools.schema import PLAN, REJECTED, Build, Manifest, Part
from shard_tools.tar import encode_part
from shard_tools.verify import verify
from shard_tools.writer import ShardWriter


class Said(NamedTuple):
    code: int
    out: str
    err: str
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def tools(*argv: object) -> Said:
    """Run shard-tools."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        run("shard-tools", _main, [str(word) for word in argv])
    out.flush()
    raw = out.buffer.getvalue()  # type: ignore[attr-defined]
    return Said(int(end.value.code or 0), raw.decode("utf-8", "replace"), err.getvalue(), raw)


def done(*argv: object) -> Said:
    said = tools(*argv)
    assert said.code == 0, said.err
    return said


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def samples(root: str | Path) -> list[tuple[str, str, dict[str, bytes]]]:
    """Return split, key and stored parts of every sample, in order."""
    data = shard_tools.open(root)
    return [(data.row(i)["split"], data.keys[i], data.raw(i)) for i in range(len(data))]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("commands") / "d")


KEYS = [key for key, *_ in make_samples()]


# ls


def test_sigterm_ends_a_command_in_one_line() -> None:
    program = "import signal; from shard_tools.arguments import run; run('x', lambda _: (print(1), signal.pause()))"
    line = [sys.executable, "-u", "-c", program]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout and command.stdout.readline() == "1\n"
        command.terminate()
        assert command.communicate()[1] == "x: interrupted\n" and command.returncode == 130


def test_ls(root: Path) -> None:
    lines = done("ls", root).out.splitlines()
    assert lines[0] == "\t".join([KEYS[0], "train", "train-000000", "2×3", CLASSES[0], "in/<script>0.png"])
    assert [line.split("\t")[0] for line in lines] == KEYS
    rows = [json.loads(line) for line in done("ls", root, "--json", "--long", "--split", "val").out.splitlines()]
    assert [row["key"] for row in rows] == KEYS[8:]
    assert rows[0]["shape"] == [2, 3] and rows[0]["cls.size"] == 1 and rows[0]["group"] == KEYS[8]
    assert "jpg.offset" not in rows[0]
    assert len(done("ls", root, "--shard", "train-000001.tar", "--limit", 3).out.splitlines()) == 3


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("label = 'dogs'", 6),
        ("label = 'dogs' AND shard = 'val-000000'", 2),
        ('"saliency.npy.size" > 134', 0),
        ("shape[2] = 3 AND starts_with(key, 'cat_1')", 3),
        ("start >= 0 OR source IS NULL", 12),
    ],
)
def test_conditions(root: Path, where: str, count: int) -> None:
    assert len(done("ls", root, "--where", where).out.splitlines()) == count


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("labl = 'dogs'", "no column labl (did you mean label?)"),
        ("jpg.size > 3", '"jpg.size"'),
        ("label =", "Parser Error"),
        ("1 = 1; DROP TABLE x", "Parser Error"),
        ("label", "Could not convert"),
        ("count(*) > 1", "aggregates"),
        ("key IN (SELECT content FROM read_text('/etc/hostname'))", "disabled by configuration"),
        ("key IN (SELECT key FROM 'secret.parquet')", "disabled by configuration"),
        ("", "Parser Error"),
    ],
)
def test_conditions_that_are_none(root: Path, where: str, says: str) -> None:
    said = tools("ls", root, "--where", where)
    assert (said.code, said.out) == (2, "") and says in said.err and len(said.err.splitlines()) == 1


def test_ls_stops_when_its_reader_does(root: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m shard_tools.cli ls {root} | head -n 1", shell=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(KEYS[0]) and done.stderr == ""


@pytest.mark.parametrize("command", ["ls", "cat"])  # one prints, one has rich print
def test_an_output_that_takes_nothing_is_no_traceback(root: Path, command: str) -> None:
    words = [sys.executable, "-m", "shard_tools.cli", command, str(root), *([KEYS[0]] if command == "cat" else [])]
    for redirection, code, says in (("| true", 0, ""), (">&-", 0, ""), ("> /dev/full", 1, "No space left on device")):
        line = f"set -o pipefail; {shlex.join(words)} {redirection}"
        ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert ended.returncode == code and says in ended.stderr and len(ended.stderr.splitlines()) == bool(says)


def test_names_of_others_cannot_steer_a_terminal(tmp_path: Path) -> None:
    root = small(tmp_path / "d", [("a", "train", "g", b"1")], source="\x1b[2Jx\ty\n")
    assert done("ls", root).out.splitlines() == ["a\ttrain\ttrain-000000\t1\tl\t\\x1b[2Jx\\ty\\n"]
    assert "\x1b[2J" not in done("cat", root, "a").out


# cat


def test_cat(root: Path, tmp_path: Path) -> None:
    raw = shard_tools.open(root).raw(0)
    shown = done("cat", root, KEYS[0], "--json").json
    assert shown["json"]["width"] == 24 and shown["row"]["label"] == CLASSES[0]
    layer = shown["parts"]["saliency.npy"]
    assert (layer["dtype"], layer["shape"], layer["bytes"]) == ("uint8", [2, 3], 134)
    assert layer["min"] <= layer["mean"] <= layer["max"]
    assert shown["parts"]["note.txt"] == {"bytes": 0, "what": "empty"}
    text = done("cat", root, KEYS[0]).out
    assert "uint8 [2, 3]" in text and "in/<script>0.png" in text
    assert done("cat", root, KEYS[0], "--part", "jpg").raw == raw["jpg"]
    done("cat", root, KEYS[0], "--part", "jpg", "--out", tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == raw["jpg"]
    done("cat", root, KEYS[0], "--out", tmp_path / "all")
    assert files(tmp_path / "all") == {f"{KEYS[0]}.{part}": data for part, data in raw.items()}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["cat_0-000000000"], "did you mean cat_0-0000000000?"),
        ([KEYS[0], "--part", "jpgg"], "did you mean jpg?"),
        ([KEYS[0], "--out", __file__], "no folder (File exists)"),
        ([KEYS[0], "--part", "jpg", "--out", "no/where"], "not in a folder"),
    ],
)
def test_cat_says_what_is_not_there(root: Path, argv: list[str], says: str) -> None:
    said = tools("cat", root, *argv)
    assert (said.code, said.out) == (2, "") and says in said.err and len(said.err.splitlines()) == 1


# stats


def test_stats(root: Path, tmp_path: Path) -> None:
    figures = done("stats", root, "--json", "--samples", 5).json
    of_all = {one["title"]: one for one in figures["of_all"]}
    of_some = {one["title"]: one for one in figures["of_some"]}
    data = shard_tools.open(root)
    jpg = [len(data.raw(i)["jpg"]) for i in range(len(data))]
    found = of_all["bytes of jpg"]
    assert (found["min"], found["max"], found["count"]) == (min(jpg), max(jpg), 12)
    assert found["mean"] == pytest.approx(np.mean(jpg)) and sum(found["counts"]) == 12
    assert len(found["edges"]) == len(found["counts"]) + 1 <= 25
    assert of_all["cells"]["min"] == of_all["cells"]["max"] == 6
    assert figures["labels"] == dict.fromkeys(CLASSES, 6) and figures["read"] == 5
    layer = of_some["layer saliency: value a cell"]
    assert layer["count"] == 5 * 6 and layer["max"] <= 255 * 0.25
    assert of_some["json: width"]["min"] == 24
    text = done("stats", root).out
    assert "bytes of jpg" in text and "<b>cats</b>" in text and "█" in text
    page = tmp_path / "stats.html"
    done("stats", root, "--out", page)
    html = page.read_text()
    assert "<svg" in html and "&lt;b&gt;cats" in html and "<b>cats" not in html and "<script" not in html
    assert 'src="' not in html and "http" not in html.replace("http-equiv", "")
    assert "did" not in tools("stats", root, "--out", tmp_path / "x.png").out
    assert "ends in .html" in tools("stats", root, "--out", tmp_path / "x.png").err


def test_stats_of_a_table(tmp_path: Path) -> None:
    table = pa.table({"age": [1.0, None, 3.0, 4.0], "name": ["a", "b", None, "d"], "full": [0.0, 0.0, 0.0, 0.0]})
    with pa.ipc.new_stream(stream := pa.BufferOutputStream(), table.schema) as writer:
        writer.write_table(table)
    root = make_one(tmp_path / "d", "table", {"arrow": stream.getvalue().to_pybytes(), "json": {"rows": 4}}, {}, [4, 3])
    of_some = {one["title"]: one for one in done("stats", root, "--json").json["of_some"]}
    age = of_some["column age"]
    assert (age["count"], age["min"], age["max"], age["mean"]) == (3, 1.0, 4.0, pytest.approx(8 / 3))
    assert of_some["column age: missing"]["mean"] == of_some["column name: missing"]["mean"] == 0.25
    assert of_some["column full"]["count"] == 4
    assert not {"column name", "column full: missing"} & of_some.keys()


@given(st.lists(st.floats(0, 1e15), min_size=1, max_size=50))
def test_bins_lose_nothing(values: list[float]) -> None:
    from shard_tools.stats import Sizes

    sizes = Sizes("x")
    for block in np.array_split(np.array(values), 3):
        sizes.add(block)
    histogram = sizes.histogram()
    assert histogram is not None
    assert sum(histogram.counts) == len(values) == histogram.count
    assert (histogram.min, histogram.max) == (min(values), max(values))
    assert histogram.edges == sorted(histogram.edges) and len(histogram.counts) <= 24


# split, merge, filter, reshard, sample


def small(
    root: Path, made: list[tuple[str, str, str, bytes]], *, per_shard: int = 3, source: str = "s", rejected: int = 0
) -> Path:
    """Write a data set of (key, split, group, payload) and return its root."""
    parts = {"bin": Part(description="b"), "json": Part(description="j"), "gone.npy": Part(description="absent")}
    shards, plan = [], []
    for split in ("train", "val"):
        own = [one for one in made if one[1] == split]
        for number in range(0, len(own), per_shard):
            name = f"{split}-{number // per_shard:06d}"
            with ShardWriter(root, name, list(parts), {"n": "int64"}) as writer:
                for key, _, group, payload in own[number : number + per_shard]:
                    facts = {
                        "source": source,
                        "label": "l",
                        "group": group,
                        "start": 0.0,
                        "end": -1.0,
                        "n": len(payload),
                    }
                    row = {"key": key, "split": split, "shape": [1], **facts}
                    writer.add(key, {"bin": payload, "gone.npy": b"", "json": encode_part("json", facts)}, row)
                    plan.append({**{field: row.get(field) for field in PLAN.names}, "shard": name})
                shard = writer.commit()
            assert shard is not None
            shards.append(shard)
    pq.write_table(pa.Table.from_pylist(plan, PLAN), root / "plan.parquet")
    numbers = {field.name: -1 for field in REJECTED if not pa.types.is_string(field.type)}
    lost = [{**dict.fromkeys(REJECTED.names, ""), **numbers, "source": f"{root.name}{i}"} for i in range(rejected)]
    pq.write_table(pa.Table.from_pylist(lost, REJECTED), root / "rejected.parquet")
    manifest = Manifest(
        name=root.name,
        modality="made",
        parts=parts,
        layers={},
        columns={"n": "int64"},
        splits={split: sum(one[1] == split for one in made) for split in ("train", "val")},
        statistics={"mean": [0.5, 1.0], "tables": {root.name: 1}},
        rejected=rejected,
        build=Build(config={"seed": 0}, digest="0", versions={}),
        shards=shards,
    )
    write_card(root, manifest)
    write_manifest(root, manifest)
    assert verify(root) == []
    return root


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


payloads = st.binary(max_size=1500)
data_sets = st.lists(
    st.tuples(st.sampled_from(["train", "val"]), st.sampled_from(["g", "h", "i", "j"]), payloads),
    min_size=2,
    max_size=14,
).map(lambda rows: [(f"k{number}", *row) for number, row in enumerate(rows)])


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(made=data_sets, per_shard=st.integers(1, 5), size=st.integers(2000, 9000), count=st.integers(1, 5))
def test_no_sample_is_lost_doubled_or_changed(
    made: list[tuple[str, str, str, bytes]], per_shard: int, size: int, count: int
) -> None:
    with folder() as here:
        root = small(here / "d", made, per_shard=per_shard)
        before = samples(root)

        parts = [
            Path(one["output"]) for one in done("split", root, "--by", "group", "--output", here / "s", "--json").json
        ]
        assert sorted(chain.from_iterable(map(samples, parts)), key=str) == sorted(before, key=str)
        if len(parts) > 1:
            done("merge", *parts, "--output", here / "m")
            assert sorted(samples(here / "m"), key=str) == sorted(before, key=str)
            assert verify(here / "m") == []

        done("reshard", root, "--shard-size", size, "--shard-samples", count, "--output", here / "r")
        assert samples(here / "r") == before
        assert all(s.samples <= count and (s.bytes <= size or s.samples == 1) for s in read_manifest(here / "r").shards)

        said = tools("filter", root, "--where", '"bin.size" > 700 AND n < 1400', "--output", here / "f")
        kept = [one for one in before if 700 < len(one[2]["bin"]) < 1400]
        assert said.code == (0 if kept else 1)
        if kept:
            assert samples(here / "f") == kept

        done("sample", root, len(before) // 2, "--seed", count, "--output", here / "n")
        drawn = samples(here / "n")
        assert len(drawn) == len(before) // 2 and [one for one in before if one in drawn] == drawn
        for made_of_it in (*parts, here / "r", here / "n"):
            assert verify(made_of_it) == []


def test_the_same_choice_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        done("filter", root, "--where", "label = 'dogs'", "--output", tmp_path / name / "d")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_what_was_split_by_split_is_merged_to_the_same_shards(root: Path, tmp_path: Path) -> None:
    done("reshard", root, "--output", tmp_path / "r")
    done("split", root, "--by", "split", "--output", tmp_path / "s")
    done("merge", tmp_path / "s/train", tmp_path / "s/val", "--output", tmp_path / "m")
    for name in ("shards/train-000000.tar", "index/val-000000.parquet", "plan.parquet"):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "r" / name).read_bytes()


def test_manifest_of_what_was_derived(root: Path, tmp_path: Path) -> None:
    source = read_manifest(root)
    done("filter", root, "--where", "label = 'dogs'", "--output", tmp_path / "f")
    manifest = read_manifest(tmp_path / "f")
    assert (manifest.name, manifest.splits) == ("f", {"train": 4, "val": 2})
    assert (manifest.parts, manifest.layers, manifest.classes) == (source.parts, source.layers, source.classes)
    config = manifest.build.config
    assert config["command"] == "filter" and config["where"] == "label = 'dogs'"
    assert config["from"][0] == {
        "name": source.name,
        "samples": "6 of 12",
        "digest": source.build.digest,
        "config": source.build.config,
        "versions": source.build.versions,
    }
    assert manifest.statistics == source.statistics and "not computed of this choice" in config["statistics"]
    assert (manifest.rejected, manifest.gaps) == (0, [])
    done("reshard", root, "--output", tmp_path / "r")
    whole = read_manifest(tmp_path / "r")
    assert whole.rejected == 1 and "whose samples are all here" in whole.build.config["statistics"]
    assert pq.read_table(tmp_path / "r/rejected.parquet").equals(pq.read_table(root / "rejected.parquet"))
    assert (tmp_path / "f/README.md").exists() and "f" in done("inspect", tmp_path / "f").out


def test_shares_keep_groups_together_and_add_up(tmp_path: Path) -> None:
    made = [(f"k{i}", "train", f"g{i // 3}", b"x") for i in range(120)]
    root = small(tmp_path / "d", made, per_shard=50)
    said = done("split", root, "--by", "70%", "20%", "--output", tmp_path / "s", "--json").json
    assert [sum(one["samples"].values()) for one in said] == pytest.approx([84, 24, 12], abs=3)
    groups = [set(shard_tools.open(one["output"]).index["group"].to_pylist()) for one in said]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 40
    other = done("split", root, "--by", "50%", "--seed", 1, "--output", tmp_path / "t", "--json").json
    assert [sum(one["samples"].values()) for one in other] == pytest.approx([60, 60], abs=3)


def test_labels_become_folders(root: Path, tmp_path: Path) -> None:
    said = done("split", root, "--by", "label", "--output", tmp_path / "s")
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["b-cats-b", "dogs"]
    assert "dogs: 6 samples (train 4, val 2) in 2 shards" in said.out
    from shard_tools.choose import _folders

    names = _folders(["..", "../x", "", "A b", "a-b", "a b", "none", "a-b-2"])
    assert len(set(names.values())) == 8 and all(name.strip("./") == name and name for name in names.values())


def test_merging_interleaves_and_keeps_every_statistic(tmp_path: Path) -> None:
    one = small(tmp_path / "one", [(f"a{i}", "train", f"g{i}", b"x") for i in range(6)], rejected=2)
    two = small(tmp_path / "two", [(f"b{i}", "train", f"h{i}", b"x") for i in range(3)], rejected=1)
    done("merge", one, two, "--output", tmp_path / "m")
    assert [key for _, key, _ in samples(tmp_path / "m")] == ["a0", "b0", "a1", "a2", "b1", "a3", "a4", "b2", "a5"]
    manifest = read_manifest(tmp_path / "m")
    assert manifest.statistics == {"mean": [0.5, 1.0], "tables": {"one": 1, "two": 1}}
    assert manifest.rejected == 3 and verify(tmp_path / "m") == []


def change(root: Path, to: Path, **changes: object) -> Path:
    shutil.copytree(root, to)
    write_manifest(to, read_manifest(to).model_copy(update=changes))
    return to


def test_what_cannot_be_merged(root: Path, tmp_path: Path) -> None:
    manifest = read_manifest(root)
    layer = manifest.layers["saliency"]
    others: dict[str, dict[str, object]] = {
        "modality image and video": {"modality": "video"},
        "parts: jpg is of description": {"parts": {**manifest.parts, "jpg": Part(description="another")}},
        "of the parts, note.txt is in": {"parts": {k: v for k, v in manifest.parts.items() if k != "note.txt"}},
        "layers: saliency is of version 1 and 2": {"layers": {"saliency": layer.model_copy(update={"version": 2})}},
        "of the columns, lens is in": {"columns": {"lens": "int64"}},
        "classes differ": {"classes": ["a", "b"]},
        "is there more than once": {},
    }
    for number, (says, changes) in enumerate(others.items()):
        other = change(root, tmp_path / str(number), **changes)
        said = tools("merge", root, other, "--output", tmp_path / "m")
        assert said.code == 2 and says in said.err and len(said.err.splitlines()) == 1, said.err
        assert not (tmp_path / "m").exists()


def test_only_what_is_ours_is_replaced(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    for flags in ([], ["--overwrite"]):
        said = tools("sample", root, 3, "--output", out, *flags)
        assert said.code == 2 and "holds no data set of ours" in said.err
    assert files(out) == {"thesis.tex": b"x"}
    done("sample", root, 5, "--output", tmp_path / "d")
    first = files(tmp_path / "d")
    assert "holds a data set already" in tools("sample", root, 3, "--output", tmp_path / "d").err
    assert files(tmp_path / "d") == first
    done("sample", root, 3, "--output", tmp_path / "d", "--overwrite")
    assert len(samples(tmp_path / "d")) == 3 and verify(tmp_path / "d") == []
    (tmp_path / "d/manifest.json").unlink()  # as a killed run leaves it
    assert "an unfinished data set" in tools("sample", root, 3, "--output", tmp_path / "d").err
    done("sample", root, 5, "--output", tmp_path / "d", "--overwrite")
    assert files(tmp_path / "d") == first
    for inside in (root, root / "x", root.parent):
        said = tools("sample", root, 3, "--output", inside, "--overwrite")
        assert said.code == 2 and "lie in one another" in said.err
    assert verify(root) == []
    assert "is a file" in tools("sample", root, 3, "--output", out / "thesis.tex").err
    said = tools("sample", root, 3, "--output", out / "thesis.tex/x")
    assert said.code == 1 and "cannot be written" in said.err and len(said.err.splitlines()) == 1


def test_a_damaged_source_leaves_nothing(root: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(root, tmp_path / "broken"))
    data = bytearray((broken / "shards/val-000000.tar").read_bytes())
    data[0] ^= 1
    (broken / "shards/val-000000.tar").write_bytes(data)
    said = tools("reshard", broken, "--output", tmp_path / "r")
    assert said.code == 1 and "val-000000.tar: no header of" in said.err
    assert files(tmp_path / "r") == {}
    (broken / "shards/val-000000.tar").unlink()
    assert "not readable" in tools("reshard", broken, "--output", tmp_path / "r").err
    assert files(tmp_path / "r") == {}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["filter", "D", "--where", "label = 'birds'", "--output", "O"], "no sample was chosen"),
        (["filter", "D", "--output", "O"], "--where"),
        (["split", "D", "--by", "labels", "--output", "O"], "did you mean label?"),
        (["split", "D", "--by", "70%", "40%", "--output", "O"], "110%"),
        (["split", "D", "--by", "99.9%", "--output", "O"], "too few groups"),
        (["sample", "D", "13", "--output", "O"], "has 12 samples, not 13"),
        (["sample", "D", "0", "--output", "O"], "at least 1"),
        (["reshard", "D", "--shard-size", "1x", "--output", "O"], "give bytes"),
        (["merge", "D", "--output", "O"], "two data sets"),
        (["ls", "D", "--split", "trian"], "did you mean train?"),
        (["ls", "D", "--shard", "trian-000000"], "did you mean train-000000?"),
        (["ls", "nowhere"], "no data set here"),
    ],
)
def test_misuse(root: Path, tmp_path: Path, argv: list[str], says: str) -> None:
    places = {"D": str(root), "O": str(tmp_path / "out")}
    said = tools(*(places.get(word, word) for word in argv))
    assert said.code in (1, 2) and says in said.err and len(said.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_everything_works_on_urls(root: Path, s3: str, tmp_path: Path) -> None:
    there = f"{s3}/commands"
    done("reshard", root, "--shard-samples", 5, "--output", f"{there}/r")
    assert samples(f"{there}/r") == samples(root) and verify(f"{there}/r") == []
    assert done("ls", f"{there}/r", "--where", "label = 'dogs'").out.count("\n") == 6
    assert done("cat", f"{there}/r", KEYS[3], "--part", "jpg").raw == shard_tools.open(root).raw(3)["jpg"]
    done("split", f"{there}/r", "--by", "label", "--output", f"{there}/s")
    done("merge", f"{there}/s/dogs", f"{there}/s/b-cats-b", "--output", tmp_path / "m")
    assert sorted(samples(tmp_path / "m"), key=str) == sorted(samples(root), key=str)
    assert "holds a data set already" in tools("sample", root, 3, "--output", f"{there}/r").err
    done("sample", root, 3, "--output", f"{there}/r", "--overwrite")
    assert len(samples(f"{there}/r")) == 3
    assert "lie in one another" in tools("sample", f"{there}/r", 3, "--output", f"{there}/r/x").err
    done("sample", root, 3, "--output", tmp_path / "r")
    assert "the same bytes" in done("verify", tmp_path / "r", "--against", f"{there}/r").out
    assert done("stats", f"{there}/r", "--json").json["samples"] == 3


@pytest.mark.real
def test_real_pictures(real_data: Path, tmp_path: Path) -> None:
    """A data set of real files survives a way through every command."""
    command = [sys.executable, "-m", "pipelines.cli", "--modality", "image", "--workers", "2"]
    paths = ["--input", str(real_data / "image"), "--output", str(tmp_path / "d")]
    subprocess.run([*command, *paths], check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    before = samples(tmp_path / "d")
    done("split", tmp_path / "d", "--by", "60%", "--output", tmp_path / "s")
    done("merge", tmp_path / "s/part-0", tmp_path / "s/part-1", "--shard-samples", 300, "--output", tmp_path / "m")
    assert sorted(samples(tmp_path / "m"), key=str) == sorted(before, key=str)
    assert verify(tmp_path / "m") == []
