"""Inputs: what folders, globs, lists, tars, URLs and earlier rejects name, and how a file gets here."""

import csv
import glob
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.inputs import fetch
from pipelines.inputs.fetch import Fetcher, Place
from pipelines.inputs.sources import Source, open_listing
from pipelines.inputs.together import together
from pipelines.modality import Reject
from shard_tools.errors import Misuse, Problem
from shard_tools.schema import REJECTED

SUFFIXES = frozenset({".jpg", ".png", ".mp4"})


def sources(*inputs: str | Path, **options: Any) -> list[Source]:
    """Return what the inputs name, in order."""
    listing = open_listing(inputs, suffixes=SUFFIXES, **options)
    return sorted(listing, key=lambda source: (source.source, source.path, source.start))


def names(*inputs: str | Path, **options: Any) -> list[str]:
    return [source.source for source in sources(*inputs, **options)]


def values(source: Source) -> dict[str, Any]:
    return json.loads(source.columns)


def rejected(path: str, *place: Any, fetcher: Fetcher | None = None) -> Reject:
    """Return why an input cannot be had."""
    with pytest.raises(Reject) as caught:
        (fetcher or Fetcher(retries=1)).local(path, *place)
    return caught.value


# --- folders, files and globs


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("clips/b.mp4", "clips/run/a.mp4", "clips/run/.hidden", "clips/.git/x", "clips/ünï côde.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_folder_gives_all_but_hidden_files(tree: Path) -> None:
    found = sources(tree / "clips", labels="parent")
    assert [source.source for source in found] == ["clips/b.mp4", "clips/run/a.mp4", "clips/ünï côde.mp4"]
    assert [source.label for source in found] == ["clips", "run", "clips"]
    assert [source.bytes for source in found] == [11, 15, 21]
    assert all(source.group == source.source and not source.columns for source in found)


def test_folder_glob_file_and_list_give_a_file_the_same_name(tree: Path) -> None:
    (tree / "clips/all.csv").write_text("file\nb.mp4\n")
    (tree / "list.csv").write_text("file\nclips/b.mp4\n")
    for item in ("clips", "clips/*.mp4", "clips/**/*", "clips/**", "clips/b.mp4", "clips/all.csv"):
        assert "clips/b.mp4" in names(tree / item)
    assert names(tree / "list.csv") == names(tree / "*/b.mp4") == [f"{tree.name}/clips/b.mp4"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(["clips", "clips/run", "clips/*.mp4", "**/run", "clips/b.mp4"]))
def test_the_order_of_inputs_does_not_matter(tree: Path, order: list[str]) -> None:
    assert sources(*(tree / item for item in order)) == sources(*(tree / item for item in sorted(order)))


components = st.sampled_from(["*", "**", "a", "a*", "?", "[ab]", ".*", "*.jpg", "[!a].jpg"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.lists(components, min_size=1, max_size=4))
def test_a_glob_finds_what_pythons_finds(tmp_path: Path, pattern: list[str]) -> None:
    root = tmp_path / "root"
    for name in ("a.jpg", "a/a.jpg", "a/b/b.jpg", "b/a/b/c.jpg", "ab/.h/b.jpg", ".a/a.jpg", "a/.c.jpg", "b/b"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    item = str(root.joinpath(*pattern))
    expected = set()
    for match in glob.glob(item, recursive=True):
        found = [match] if os.path.isfile(match) else glob.glob(f"{match}/**", recursive=True)
        expected |= {os.path.normpath(path) for path in found if os.path.isfile(path)}
    if glob.has_magic(item) and expected:
        assert sorted(source.path for source in sources(item)) == sorted(expected)
    elif glob.has_magic(item):
        with pytest.raises(Misuse, match="nothing matches"):
            sources(item)


def test_links_are_followed_but_not_in_circles(tree: Path) -> None:
    (tree / "clips/run/up").symlink_to(tree / "clips")
    (tree / "clips/run/self").symlink_to("self")
    (tree / "other").mkdir()
    (tree / "other/c.mp4").write_text("c")
    (tree / "clips/link").symlink_to(tree / "other")
    (tree / "clips/broken.mp4").symlink_to(tree / "nowhere")
    found = names(tree / "clips")
    assert {"clips/link/c.mp4", "clips/broken.mp4", "clips/run/self"} < set(found) and len(found) == 6


def test_a_folder_below_and_a_link_to_it_count_once(tree: Path) -> None:
    before = names(tree / "clips")
    (tree / "clips/latest").symlink_to("run")
    (tree / "clips/.kept").mkdir()
    (tree / "clips/.kept/c.mp4").write_text("c")
    (tree / "clips/shown").symlink_to(".kept")
    assert names(tree / "clips") == sorted([*before, "clips/shown/c.mp4"])
    assert names(tree / "clips/late*") and names(tree / "clips/latest"), "named itself it is listed"


def test_a_glob_is_not_sought_in_the_folder_we_are_in(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tree / "album [2020]*"
    folder.mkdir()
    (folder / "a.mp4").write_text("a")
    monkeypatch.chdir(folder)
    assert names("*.mp4") == names("../album [2020]*/a.mp4") == ["album [2020]*/a.mp4"]


def test_names_are_printable(tree: Path) -> None:
    (tree / "clips" / b"\xff.mp4".decode("utf-8", "surrogateescape")).write_text("x")
    (tree / "clips" / "a\nb\x1b.mp4").write_text("x")
    found = names(tree / "clips")
    assert "clips/\\xff.mp4" in found and "clips/a\\x0ab\\x1b.mp4" in found
    assert all(os.stat(source.path) for source in sources(tree / "clips"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_listed_is_an_input_that_will_be_rejected(tree: Path) -> None:
    (tree / "clips/run").chmod(0)
    try:
        (closed,) = [source for source in sources(tree / "clips") if source.source == "clips/run"]
        assert rejected(closed.path).error in ("Forbidden", "Unreadable")
    finally:
        (tree / "clips/run").chmod(0o700)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("clisp", "did you mean clips"),
        ("empty", "no files in this folder"),
        ("clips/*.avi", "nothing matches"),
        ("gone/*.avi", "nothing matches: no folder"),
        ("list:clips", "a list is one file"),
        ("list:clips/b.mp4", "a list is one file"),
    ],
)
def test_inputs_that_are_not_there(tree: Path, item: str, message: str) -> None:
    (tree / "empty").mkdir()
    forced = item.startswith("list:")
    with pytest.raises(Misuse, match=message):
        sources(f"list:{tree / item[5:]}" if forced else tree / item)


@pytest.mark.parametrize("item", ["file:///etc/passwd", "zip://a::file:///etc/passwd", "memory://a", "nosuch://a"])
def test_places_that_inputs_do_not_come_from(item: str) -> None:
    with pytest.raises(Misuse, match="not a place inputs come from; known: http, https, s3"):
        sources(item)


def test_listing_is_lazy_and_takes_no_memory(tmp_path: Path) -> None:
    for folder in range(40):
        place = tmp_path / f"wide/{folder % 10}/{'deep/' * (folder // 10)}"
        place.mkdir(parents=True, exist_ok=True)
        for number in range(200):
            (place / f"{folder:03}-{number:03}-a-name-as-long-as-some-are-in-a-real-data-set.jpg").touch()
    listing = open_listing([tmp_path / "wide"])
    tracemalloc.start()
    try:
        assert sum(1 for _ in listing) == 8_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500_000  # a list of them takes ten times that


# --- groups


def test_a_group_is_found_in_the_name(tmp_path: Path) -> None:
    for name in ("front_001.jpg", "back_001.jpg", "front_002.jpg", "notes.md"):
        (tmp_path / name).touch()
    groups = {source.source.split("/")[-1]: source.group for source in sources(tmp_path, group=r"_(\d+)\.")}
    assert groups["front_001.jpg"] == groups["back_001.jpg"] == "001" and groups["front_002.jpg"] == "002"
    assert {source.group for source in sources(tmp_path / "*.jpg", group="front|back")} == {"front", "back"}
    with pytest.raises(Misuse, match="--group nothing: not found in"):
        sources(tmp_path, group="nothing")
    with pytest.raises(Misuse, match="no regular expression"):
        sources(tmp_path, group="(")


# --- lists

ROWS: list[dict[str, Any]] = [
    {"image": "a.jpg", "class": "cat", "text": 'a "cat", there', "n": 1, "x": 0.5, "ok": True, "id": "007"},
    {"image": "sub/b.jpg", "class": "dog", "text": "zwei\nZeilen", "n": -2, "x": 2.0, "ok": False, "id": "12"},
    {"image": "../c.jpg", "class": None, "text": None, "n": None, "x": None, "ok": None, "id": None},
]


def write_list(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_all_kinds_of_lists_say_the_same(tmp_path: Path, suffix: str) -> None:
    file = write_list(tmp_path / f"data/we[ir]d *list?.{suffix}", ROWS)
    (tmp_path / "c.jpg").write_bytes(b"123")
    listing = open_listing([file], suffixes=SUFFIXES)
    assert listing.columns == {"id": "string", "n": "int64", "ok": "bool", "x": "float64"}
    assert listing.captions and listing.labelled
    a, b, c = sorted(listing, key=lambda source: source.path[-5:])
    assert (a.source, a.path, a.label) == ("data/a.jpg", str(tmp_path / "data/a.jpg"), "cat")
    assert a.caption == 'a "cat", there' and b.caption == "zwei\nZeilen" and c.caption == c.label == ""
    assert (c.source, c.path, c.bytes) == (f"{tmp_path.name}/c.jpg", str(tmp_path / "c.jpg"), 3)
    assert a.columns == '{"id":"007","n":1,"ok":true,"x":0.5}'
    assert values(c) == {"id": "", "n": -1, "ok": False, "x": -1.0}
    assert list(listing) == list(listing)


def test_types_of_a_csv_come_from_all_of_it(tmp_path: Path) -> None:
    file = tmp_path / "l.csv"
    late = "a.jpg,1.5,x,true,1234567890123456789,12345678901234567,1e3\n"
    file.write_text("path,a,b,c,d,e,f\n" + "a.jpg,1,2,TRUE,1,1,-0.5\n" * 25_000 + late)  # beyond DuckDB's sample
    listing = open_listing([file])
    assert listing.columns == {"a": "float64", "b": "string", "c": "bool", "d": "string", "e": "int64", "f": "float64"}
    *_, last = listing
    assert values(last) == {"a": 1.5, "b": "x", "c": True, "d": "1234567890123456789", "e": 12345678901234567, "f": 1e3}


def test_columns_of_several_inputs_fit_together(tmp_path: Path) -> None:
    one = write_list(tmp_path / "one.jsonl", [{"path": "a.jpg", "n": 1, "s": 1, "only": True}])
    two = write_list(tmp_path / "two.jsonl", [{"path": "b.jpg", "n": 1.5, "s": "x"}])
    (tmp_path / "c.jpg").touch()
    listing = open_listing([one, two, tmp_path / "c.jpg"], suffixes=SUFFIXES)
    assert listing.columns == {"n": "float64", "only": "bool", "s": "string"}
    assert {source.source.split("/")[1]: values(source) for source in listing} == {
        "a.jpg": {"n": 1.0, "only": True, "s": "1"},
        "b.jpg": {"n": 1.5, "only": False, "s": "x"},
        "c.jpg": {"n": -1.0, "only": False, "s": ""},
    }


def test_names_of_columns_are_made_fit(tmp_path: Path) -> None:
    row = {
        "URL": "https://h/a.jpg",
        "WIDTH": 3,
        "Größe (m)": 1,
        "标题": "x",
        "2nd": 1,
        "key": "k",
        "blob": b"x",
        "l": [1],
    }
    listing = open_listing([write_list(tmp_path / "l.parquet", [row])], reserved=["width"])
    assert set(listing.columns) == {"given_width", "groe_m", "column_2", "column_2nd", "given_key", "l"}
    assert listing.columns["l"] == "string"
    with pytest.raises(Misuse, match="would be called given_width, as another is"):
        open_listing([tmp_path / "l.parquet"], reserved=["width", "given_width"])


def test_columns_are_named_by_the_user(tmp_path: Path) -> None:
    file = write_list(tmp_path / "l.csv", [{"url": "no", "where": "a.jpg", "what": "a cat"}])
    (found,) = sources(file, column_names={"path": "where", "caption": "what"})
    assert found.source == f"{tmp_path.name}/a.jpg" and found.caption == "a cat" and values(found) == {"url": "no"}
    for wrong, message in (
        ({"path": "wher"}, r"no column 'wher' \(did you mean where\?\); it has url, where, what"),
        ({"pth": "where"}, r"no such role \(did you mean path\?\)"),
    ):
        with pytest.raises(Misuse, match=message):
            sources(file, column_names=wrong)
    (tmp_path / "a.jpg").touch()
    with pytest.raises(Misuse, match="no list among the inputs"):
        sources(tmp_path / "a.jpg", column_names={"path": "where"})


def test_ranges_of_a_file_are_sources_of_one_group(tmp_path: Path) -> None:
    rows = [{"path": "f.mp4", "start": 0, "end_time": 1.5}, {"path": "f.mp4", "start": 1.5, "end_time": None}]
    found = sources(write_list(tmp_path / "l.jsonl", rows))
    folder = tmp_path.name
    assert [source.source for source in found] == [f"{folder}/f.mp4#0-1.5", f"{folder}/f.mp4#1.5-"]
    assert [(source.start, source.end) for source in found] == [(0.0, 1.5), (1.5, -1.0)]
    assert {source.group for source in found} == {f"{folder}/f.mp4"}
    (found,) = sources(write_list(tmp_path / "m.csv", [{"path": "f.mp4", "start": "", "end": ""}]))
    assert (found.source, found.start, found.end) == (f"{folder}/f.mp4", 0.0, -1.0)


def test_a_row_may_name_no_file(tmp_path: Path) -> None:
    rows = [{"path": "a.jpg", "group": "1"}, {"path": None, "group": "2"}]
    there, absent = sources(write_list(tmp_path / "l.jsonl", rows), group="never asked")
    assert (there.group, absent.path, absent.group) == ("1", "", "2")
    assert absent.source == f"{tmp_path.name}/l.jsonl#row-2"
    assert rejected("").error == "NotFound"


def test_a_list_of_the_modalitys_own_kind_must_be_asked_for(tmp_path: Path) -> None:
    file = write_list(tmp_path / "l.csv", [{"path": "t.csv"}])
    table = frozenset({".csv", ".parquet"})
    assert [source.source for source in open_listing([file], suffixes=table)] == [f"{tmp_path.name}/l.csv"]
    assert [source.source for source in open_listing([f"list:{file}"], suffixes=table)] == [f"{tmp_path.name}/t.csv"]


@pytest.mark.parametrize(
    ("name", "data", "error", "message"),
    [
        ("l.csv", b"name,label\na,1\n", Misuse, "no column of paths or URLs; it has name, label; name it: --column"),
        ("l.csv", b"", Misuse, "no header line"),
        ("l.csv", b"path\n", Misuse, "the list has no rows"),
        ("l.csv", b"path,path\na,b\n", Misuse, "two columns are called 'path'"),
        ("l.csv", b"path,label\na\n", Problem, "cannot be read as csv: .*Expected Number of Columns: 2 Found: 1"),
        ("l.csv", b"path,label\na,\xe9\n", Problem, "utf-8"),
        ("l.csv", b"\xff\xfep\0a\0", Problem, "cannot be read as csv"),
        ("l.csv", b"path,start\na,soon\n", Misuse, r"column start \(start\) holds string"),
        ("l.jsonl", b'{"path": "a"}\n{"path":', Problem, "cannot be read as jsonl: .*Malformed JSON"),
        ("l.jsonl", b"[1]\n", Problem, "cannot be read as jsonl"),
        ("l.parquet", b"PAR1 not", Problem, "cannot be read as parquet"),
    ],
)
def test_a_list_that_is_none(tmp_path: Path, name: str, data: bytes, error: type, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=message) as caught:
        sources(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_list_of_half_a_million_rows_takes_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "l.parquet"
    with pq.ParquetWriter(file, pa.schema([("url", pa.string()), ("text", pa.string())])) as writer:
        for start in range(0, 500_000, 50_000):
            numbers = range(start, start + 50_000)
            urls = [f"https://example.com/{n}.jpg" for n in numbers]
            writer.write_table(pa.table({"url": urls, "text": [f"{n} words " * 50 for n in numbers]}))
    code = (
        "import re, sys; from pipelines.inputs.sources import open_listing\n"
        "count = sum(1 for _ in open_listing(sys.argv[1:]))\n"
        "print(count, re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    count, kilobytes = map(int, done.stdout.split())
    assert count == 500_000 and kilobytes < 400_000  # kept, they would take more than 600 MB


# --- rejects of an earlier build


def test_rejects_are_inputs_again(tmp_path: Path) -> None:
    old = {"stage": "build", "error": "Corrupt", "message": "m", "label": "cat", "group": "g", "caption": "c"}
    rows = [
        {**old, "source": "p/a.mp4", "path": "/p/a.mp4", "start": 1.0, "end": 2.0, "offset": -1, "columns": '{"n":1}'},
        {**old, "source": "t.tar/b.jpg", "path": "/t.tar", "start": 0.0, "end": -1.0, "offset": 512, "bytes": 7},
    ]
    pq.write_table(pa.Table.from_pylist(rows, REJECTED), tmp_path / "rejected.parquet")
    listing = open_listing([tmp_path / "rejected.parquet"], suffixes={".parquet"})
    assert listing.captions and listing.labelled and listing.columns == {"n": "int64"}
    first, second = listing
    assert first == Source("p/a.mp4", "/p/a.mp4", "cat", "g", -1, 1.0, 2.0, -1, "c", '{"n":1}')
    assert second == Source("t.tar/b.jpg", "/t.tar", "cat", "g", 7, 0.0, -1.0, 512, "c", '{"n":-1}')
    plain = {"source", "path", "start", "end", "stage", "error", "message"}  # of a build before lists
    pq.write_table(
        pa.Table.from_pylist([{k: v for k, v in row.items() if k in plain} for row in rows]), tmp_path / "old.parquet"
    )
    assert names(tmp_path / "old.parquet", labels="parent") == ["p/a.mp4", "t.tar/b.jpg"]
    odd = tmp_path / b"\xff.jpg".decode("utf-8", "surrogateescape")
    odd.write_bytes(b"12")
    row = {**rows[0], "path": f"{tmp_path}/\\xff.jpg"}  # as rejected.parquet has it
    pq.write_table(pa.Table.from_pylist([row], REJECTED), tmp_path / "odd.parquet")
    assert [(source.path, source.bytes) for source in sources(tmp_path / "odd.parquet")] == [(str(odd), 2)]
    pq.write_table(pa.Table.from_pylist([], REJECTED), tmp_path / "none.parquet")
    with pytest.raises(Misuse, match="nothing was rejected"):
        sources(tmp_path / "none.parquet")


def test_lists_as_others_write_them(tmp_path: Path) -> None:
    (tmp_path / "pandas.csv").write_text(",path,shard,\n0,a.mp4,s,\n1,b.mp4,t,\n")
    listing = open_listing([tmp_path / "pandas.csv"], suffixes=SUFFIXES)
    assert listing.columns == {"column_0": "int64", "column_3": "string", "given_shard": "string"}
    assert [values(source) for source in listing][1] == {"column_0": 1, "column_3": "", "given_shard": "t"}
    (tmp_path / "twice.csv").write_text("path,Label,label\na.mp4,b,c\n")
    with pytest.raises(Misuse, match="two columns are called 'Label' and 'label'"):
        sources(tmp_path / "twice.csv")
    nested = {"path": ["a.mp4"], "words": [["a", "b c"]], "more": [{"n": 1, "s": None}]}
    pq.write_table(pa.table(nested), tmp_path / "nested.parquet")
    (found,) = sources(tmp_path / "nested.parquet")
    assert values(found) == {"words": '["a","b c"]', "more": '{"n":1,"s":null}'}


def test_a_range_that_is_none_is_all(tmp_path: Path) -> None:
    odd = [(-5.0, 10.0), (2.0, float("inf")), (float("nan"), -3.0), (float("-inf"), float("nan")), (None, None)]
    rows = [{"path": "a.mp4", "start": start, "end": end} for start, end in odd]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "list.parquet")
    found = sources(tmp_path / "list.parquet")
    assert {(source.start, source.end) for source in found} == {(0.0, 10.0), (2.0, -1.0), (0.0, -1.0)}
    assert len({source.source for source in found}) == 3


# --- tars


def write_tar(path: Path, members: list[tuple[str, bytes]], **options: Any) -> Path:
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_webdataset_is_read_in_place(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "0.tar")) as tar:
        for n in range(34):
            score = 1 if n == 0 else 0.5  # the first would make integers of all
            facts = {"url": f"https://h/{n}", "width": n, "score": score, "none": None, "more": [1, 2], "caption": "no"}
            sample = {"__key__": f"k{n:02d}", "jpg": b"x" * (n + 1), "txt": f"words {n}", "cls": n}
            tar.write({**sample, "json": facts if n < 33 else {"score": "odd", "late": 1}})
    (tmp_path / "folder").mkdir()
    listing = open_listing([tmp_path / "*.tar"], suffixes=SUFFIXES, reserved=["width"])
    assert listing.columns == {"given_width": "int64", "none": "string", "score": "float64", "url": "string"}
    assert listing.captions and listing.labelled
    found = list(listing)
    fetcher = Fetcher()
    for n, source in enumerate(found):
        name = f"k{n:02d}.jpg"
        assert source.source == f"{tmp_path.name}/0.tar/{name}" and source.path == str(tmp_path / "0.tar")
        assert (source.label, source.caption, source.bytes) == (str(n), f"words {n}", n + 1)
        local = Path(fetcher.local(source.path, source.offset, source.bytes, source.source))
        assert local.name == name and local.read_bytes() == b"x" * (n + 1)
    assert values(found[0]) == {"given_width": 0, "none": "", "score": 1.0, "url": "https://h/0"}
    assert values(found[1]) == {"given_width": 1, "none": "", "score": 0.5, "url": "https://h/1"}
    assert values(found[33]) == {"given_width": -1, "none": "", "score": -1.0, "url": ""}
    fetcher.close()
    assert not local.exists()


def test_parts_of_a_tars_sample_are_one_group(tmp_path: Path) -> None:
    members = [
        ("s/1.left.jpg", b"l"),
        ("s/1.right.jpg", b"r"),
        ("s/2.left.jpg", b"l"),
        ("s/2.json", b"{bad"),
        ("s/x.txt", b""),
    ]
    found = sources(write_tar(tmp_path / "a.tar", members), labels="parent")
    assert [source.group.split("/", 2)[2] for source in found] == ["s/1", "s/1", "s/2"]
    assert {source.label for source in found} == {"s"}


def test_a_tars_names_are_only_names(tmp_path: Path) -> None:
    members = [
        ("../../etc/a.jpg", b"1"),
        ("/etc/b.jpg", b"2"),
        ("./c/../d.jpg", b"3"),
        ("._e.jpg", b""),
        ("n\nl.jpg", b"4"),
    ]
    found = sources(write_tar(tmp_path / "a.tar", members))
    assert [source.source.split("a.tar/")[1] for source in found] == [
        "c/d.jpg",
        "etc/a.jpg",
        "etc/b.jpg",
        "n\\x0al.jpg",
    ]
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "not-ours").touch()
    fetcher = Fetcher(folder=str(tmp_path / "here"))
    for source in found:
        local = fetcher.local(source.path, source.offset, source.bytes, source.source)
        assert Path(local).parents[1] == tmp_path / "here" / "fetched"
    fetcher.close()
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["not-ours"]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_links(tmp_path: Path, format: int) -> None:
    long = "/".join(["folder" * 3] * 6) + "/ü.jpg"
    file = write_tar(tmp_path / "a.tar", [(long, b"12")], format=format)
    with tarfile.open(file, "a", format=format) as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo(f"link{kind.decode()}.jpg")
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    found = sources(file)
    assert [(source.source.split("a.tar/")[1], source.bytes) for source in found] == [
        (long, 2),
        ("link1.jpg", -1),
        ("link2.jpg", -1),
    ]
    assert rejected(found[1].path, found[1].offset, found[1].bytes, found[1].source).error == "Corrupt"


def test_damaged_tars_lose_only_what_is_damaged(tmp_path: Path) -> None:
    members = [(f"{n}.jpg", bytes([n]) * 1000) for n in range(5)]
    whole = write_tar(tmp_path / "whole.tar", members).read_bytes()
    damaged = {
        "cut in a member": whole[: 4 * 1536 + 700],
        "cut at a border": whole[: 5 * 1536],
        "no tar behind": whole[: 3 * 1536] + os.urandom(2000),
        "not at all": os.urandom(4096),
        "empty": b"",
        "a bomb": whole[:1536] + _pax_bomb() + whole[1536:],
    }
    for why, data in damaged.items():
        (tmp_path / "bad.tar").write_bytes(data)
        found = sources(tmp_path / "bad.tar")
        broken = [source for source in found if source.source.endswith("bad.tar")]
        assert len(broken) == 1, why
        assert len(found) - 1 == {"not at all": 0, "empty": 0, "no tar behind": 3, "a bomb": 1}.get(why, 5), why
        source = broken[0]
        assert rejected(source.path, source.offset, source.bytes, source.source).error == "Corrupt"
    (tmp_path / "bad.tar").write_bytes(damaged["cut in a member"])
    *_, last = sorted(sources(tmp_path / "bad.tar"), key=lambda source: source.offset)
    assert "ends" in rejected(last.path, last.offset, 1000, last.source).message


def _pax_bomb() -> bytes:
    """Return the header of gigabytes of names."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 4 << 30
    return info.tobuf(tarfile.USTAR_FORMAT)


def test_a_tar_in_a_folder_is_told_how_to_be_read(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("1.jpg", b"")])
    (found,) = sources(tmp_path)
    assert "--input FOLDER/*.tar" in rejected(found.path).message
    with pytest.raises(Misuse, match="no member with a suffix"):
        sources(write_tar(tmp_path / "b.tar", [("1.txt", b"")]))


# --- many streams at a time


def test_streams_are_read_at_the_same_time_and_nothing_is_lost() -> None:
    barrier = threading.Barrier(3)

    def stream(number: int) -> Iterator[int]:
        barrier.wait(30)  # three by three: with fewer at a time it breaks
        yield from range(1000 * number, 1000 * number + 100 * number)

    found = list(together(map(stream, range(9)), 3))
    assert sorted(found) == [value for number in range(9) for value in range(1000 * number, 1100 * number)]


def test_a_stream_that_fails_and_a_reader_that_leaves_end_the_others() -> None:
    started, read = threading.active_count(), [0] * 4

    def stream(number: int) -> Iterator[int]:
        while True:
            read[number] += 1
            if number == 3 and read[number] == 5000:
                raise Problem("damaged")
            yield number

    for _ in zip(range(100), together(map(stream, range(3)), 2), strict=False):
        pass
    with pytest.raises(Problem, match="damaged"):
        for _ in together(map(stream, range(4)), 4):
            pass
    until = time.monotonic() + 30
    while threading.active_count() > started and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() <= started


# --- the web


class Web(http.server.BaseHTTPRequestHandler):
    """Answers as servers do on good and bad days. requests: (path, seconds) of all that came."""

    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, bytes]] = {}
    requests: ClassVar[list[tuple[str, float]]] = []
    together: ClassVar[threading.Barrier] = threading.Barrier(8)
    open: ClassVar[set[int]] = set()
    most_open: ClassVar[int] = 0

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, data: bytes = b"", claim: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data) if claim is None else claim))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)
        if claim is not None:
            self.close_connection = True

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.requests.append((path, time.monotonic()))
        tries = sum(1 for seen, _ in self.requests if seen == path)
        kind = path.split("/")[1]
        if kind == "flaky" and tries <= 2:
            self.answer(500)
        elif kind == "busy" and tries == 1:
            self.answer(429, Retry_After="1")
        elif kind == "until" and tries == 1:
            self.answer(503, Retry_After=formatdate(time.time() + 2, usegmt=True))
        elif kind == "together":
            try:
                self.together.wait(30)
                self.answer(200, path.encode())
            except threading.BrokenBarrierError:
                self.answer(400)
        elif kind == "counted":
            self.open.add(id(self))
            Web.most_open = max(Web.most_open, len(self.open))
            time.sleep(0.05)
            self.open.discard(id(self))
            self.answer(200, b"x" * 1000)
        elif kind == "later":
            self.answer(429, Retry_After="86400")
        elif kind.isdigit():
            self.answer(int(kind))
        elif kind == "cut":
            self.answer(200, b"x" * 1000, 5000)
        elif kind == "huge":
            self.answer(200, b"x", 1 << 50)
        elif kind == "endless":
            self.endless()
        elif kind == "moved":
            self.answer(302, Location="/ok/a.jpg")
        elif kind == "round":
            self.answer(302, Location=path)
        elif kind == "trap":
            self.answer(302, Location="file:///etc/passwd")
        elif data := self.files.get(path):
            self.give(data)
        else:
            self.answer(200, b"a picture")

    do_HEAD = do_GET  # noqa: N815 - as the base class calls it

    def give(self, data: bytes) -> None:
        if not (wanted := self.headers.get("Range")) or "noranges" in self.path:
            return self.answer(200, data, **({} if "noranges" in self.path else {"Accept_Ranges": "bytes"}))
        start, end = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
        return self.answer(206, data[start : end + 1], Content_Range=f"bytes {start}-{end}/{len(data)}")

    def endless(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        except OSError:
            self.close_connection = True


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """The URL of a web server on loopback."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that leave are no news
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def tries(path: str) -> list[float]:
    return [when for seen, when in Web.requests if seen == path]


def test_urls_are_sources_by_host_and_path(web: str) -> None:
    host = web.partition("://")[2]
    asked, plain = sources(f"{web}/ok/a.jpg#part", f"{web}/ok/a.jpg?size=[2]*")
    assert (plain.source, plain.path, plain.bytes) == (f"{host}/ok/a.jpg", f"{web}/ok/a.jpg", -1)
    assert asked.source.startswith(f"{host}/ok/a-") and asked.source.endswith(".jpg")
    assert asked.source != sources(f"{web}/ok/a.jpg?size=3")[0].source
    assert names("https://user:secret@Host/x/") == ["host/x"]


def test_a_file_comes_from_the_web_and_goes(web: str) -> None:
    fetcher = Fetcher()
    local = fetcher.local(f"{web}/ok/an%20odd%2Fname.jpg?x=y.z")
    assert Path(local).name == "an odd_name.jpg" and Path(local).read_bytes() == b"a picture"
    assert fetcher.local(f"{web}/ok/an%20odd%2Fname.jpg?x=y.z") == local and len(tries("/ok/an%20odd%2Fname.jpg")) == 1
    other = fetcher.local(f"{web}/moved/b.jpg")
    assert Path(other).read_bytes() == b"a picture" and not Path(local).exists()
    for name in ("..", "", "%00", "a" * 400 + ".jpeg"):
        local = fetcher.local(f"{web}/ok/{name}")
        assert Path(local).parents[1] == Path(other).parents[1] and (len(name) < 9 or local.endswith(".jpeg"))
    fetcher.close()
    assert not Path(other).parents[1].exists()


def test_what_passes_is_tried_again(web: str) -> None:
    fetcher = Fetcher(retries=2)
    for kind, waits in (("flaky", 0), ("busy", 1), ("until", 0.5)):
        assert Path(fetcher.local(f"{web}/{kind}/a.jpg")).read_bytes() == b"a picture"
        first, *_, last = tries(f"/{kind}/a.jpg")
        assert last - first >= waits
    assert len(tries("/flaky/a.jpg")) == 3
    fetcher.close()


@pytest.mark.parametrize(
    ("kind", "error", "count"),
    [
        ("404", "NotFound", 1),
        ("410", "NotFound", 1),
        ("403", "Forbidden", 1),
        ("400", "Unreachable", 1),
        ("503", "Unreachable", 2),
        ("later", "Unreachable", 1),
        ("cut", "Unreachable", 2),
        ("huge", "TooLarge", 1),
        ("trap", "Forbidden", 1),
        ("round", "Unreachable", None),
    ],
)
def test_what_does_not_pass_is_rejected(web: str, tmp_path: Path, kind: str, error: str, count: int | None) -> None:
    reject = rejected(f"{web}/{kind}/no.jpg", fetcher=Fetcher(retries=1, folder=str(tmp_path / "here")))
    assert reject.error == error and "\n" not in reject.message
    assert count is None or len(tries(f"/{kind}/no.jpg")) == count
    assert not any((tmp_path / "here" / "fetched").iterdir())


def test_what_grows_too_large_is_stopped(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "LIMIT", 1 << 20)
    assert rejected(f"{web}/endless/a.jpg").error == "TooLarge"


def test_nobody_there() -> None:
    assert rejected("http://127.0.0.1:1/a.jpg").error == "Unreachable"
    assert rejected("http://[bad/a.jpg").error in ("Unreachable", "Unreadable")


def test_requests_keep_their_distance(web: str) -> None:
    fetcher = Fetcher(rate=10)
    for n in range(4):
        fetcher.local(f"{web}/ok/rate.jpg?{n}")
    first, *_, last = tries("/ok/rate.jpg")
    assert last - first >= 0.2  # 0.3, but the first may be late
    fetcher.close()


def test_what_comes_next_is_fetched_ahead(web: str, tmp_path: Path) -> None:
    fetcher = Fetcher(folder=str(tmp_path))
    places = [Place(f"{web}/together/{n}.jpg", bytes=17) for n in range(8)]
    fetcher.expect([*places, Place(f"{web}/404/none.jpg", bytes=1), Place(f"{web}/ok/last.jpg", bytes=9)])
    for place in places:
        assert Path(fetcher.local(*place)).read_bytes() == place.path.removeprefix(web).encode()
    assert rejected(f"{web}/404/none.jpg", -1, 1, fetcher=fetcher).error == "NotFound"
    fetcher.expect([])  # nobody asks for the last
    fetcher.local(f"{web}/ok/other.jpg")
    while len(left := list((tmp_path / "fetched").rglob("*.jpg"))) > 1:
        time.sleep(0.01)
    assert left[0].name == "other.jpg"
    fetcher.close()
    assert not tmp_path.exists()


def test_ranges_of_one_file_are_fetched_once(web: str) -> None:
    fetcher = Fetcher()
    places = [Place(f"{web}/ok/ranges.jpg", name=f"ranges.jpg#{n}-{n + 1}") for n in range(3)]
    fetcher.expect([*places, Place(f"{web}/ok/after.jpg")])
    assert len({fetcher.local(*place) for place in places}) == len(tries("/ok/ranges.jpg")) == 1
    assert fetcher.local(f"{web}/ok/after.jpg")
    missing = f"{web}/404/ranges.jpg"
    for asked in (1, 2):
        fetcher.expect([])
        assert {rejected(missing, fetcher=fetcher).error for _ in range(3)} == {"NotFound"}
        assert len(tries("/404/ranges.jpg")) == asked
    fetcher.close()


@pytest.mark.parametrize(("size", "most"), [(fetch.AHEAD_BYTES // 2, 3), (fetch.AHEAD_BYTES, 2), (-1, 33), (1, 33)])
def test_not_more_is_fetched_ahead_than_there_is_room_for(web: str, size: int, most: int) -> None:
    """The one that is waited for, and what comes next."""
    Web.most_open = 0
    fetcher = Fetcher()
    places = [Place(f"{web}/counted/{size}-{n}.jpg", bytes=size) for n in range(50 if size < 2 else 10)]
    fetcher.expect(places)
    assert {Path(fetcher.local(*place)).stat().st_size for place in places} == {1000}
    assert 1 < Web.most_open <= most
    fetcher.close()


@pytest.mark.parametrize(
    "path", ["file:///etc/passwd", "local:///etc/passwd", "zip://a::file:///etc/passwd", "data://x"]
)
def test_no_list_reaches_files_by_url(tmp_path: Path, path: str) -> None:
    (found,) = sources(write_list(tmp_path / "l.csv", [{"path": path}]))
    assert rejected(found.path).error == "Forbidden"


def test_a_list_on_the_web_reaches_only_the_web(web: str) -> None:
    rows = [
        "/etc/passwd",
        "file:///etc/passwd",
        "file:/etc/passwd",
        "../../../etc/passwd",
        "b.jpg",
        "//host/c.jpg",
        "//[x",
    ]
    Web.files["/lists/l.csv"] = ("path\n" + "\n".join(rows) + "\n").encode()
    found = {source.path for source in sources(f"{web}/lists/l.csv?v=1")}
    there = {f"{web}/etc/passwd", f"{web}/lists/b.jpg"}  # ../ ends at the host
    assert {path for path in found if path.startswith("http")} == there
    for path in found - there:
        assert rejected(path).error == "Forbidden"
    with pytest.raises(Misuse, match="no such file"):
        sources(f"{web}/404/l.csv")


def test_a_tar_on_the_web_is_read_by_ranges(web: str, tmp_path: Path) -> None:
    data = write_tar(tmp_path / "a.tar", [(f"{n}.jpg", bytes([n]) * 3_000_000) for n in range(3)]).read_bytes()
    Web.files["/tars/a.tar"] = Web.files["/noranges/a.tar"] = data
    found = sources(f"{web}/tars/a.tar")
    assert [source.source.split("a.tar/")[1] for source in found] == ["0.jpg", "1.jpg", "2.jpg"]
    fetcher = Fetcher()
    for n, source in enumerate(found):
        local = fetcher.local(source.path, source.offset, source.bytes, source.source)
        assert Path(local).read_bytes() == bytes([n]) * 3_000_000
    fetcher.close()
    with pytest.raises(Problem, match="does not give parts of a file"):
        sources(f"{web}/noranges/a.tar")


# --- object stores


@pytest.fixture
def bucket(s3: str, tree: Path) -> str:
    """A folder of the bucket, with the tree, lists and a tar."""
    import s3fs

    (tree / "clips/list.csv").write_text("path,label\nb.mp4,cat\n../clips/run/a.mp4,dog\n/etc/passwd,x\n")
    write_tar(tree / "clips/t.tar", [("1.jpg", b"one"), ("1.txt", b"words")])
    files = s3fs.S3FileSystem()
    files.put(str(tree / "clips"), f"{s3}/sources/clips", recursive=True)
    return f"{s3}/sources"


def test_an_object_store_gives_the_names_of_a_folder(bucket: str, tree: Path) -> None:
    for item in ("clips", "clips/*.mp4", "clips/**/*.mp4", "clips/run", "clips/b.mp4", "*/run/a.mp4"):
        here, there = sources(tree / item), sources(f"{bucket}/{item}")
        names_there = [source.source.replace("sources/", f"{tree.name}/") for source in there]
        assert [source.source for source in here] == names_there
        assert [source.bytes for source in here] == [source.bytes for source in there]
    assert names(f"{bucket}/clips/") == names(f"{bucket}/clips")
    fetcher = Fetcher()
    for source in sources(f"{bucket}/clips/**/*.mp4"):
        assert Path(fetcher.local(source.path)).read_text().endswith(source.source)
    fetcher.close()


def test_lists_and_tars_of_an_object_store(bucket: str) -> None:
    found = sources(f"{bucket}/clips/list.csv")
    assert [source.source for source in found if source.path.startswith("s3://")] == [
        "bucket/sources/clips/b.mp4",
        "bucket/sources/clips/run/a.mp4",
    ]
    assert [rejected(source.path).error for source in found if not source.path.startswith("s3://")] == ["Forbidden"]
    (found,) = sources(f"{bucket}/clips/*.tar")
    assert (found.source, found.caption) == ("clips/t.tar/1.jpg", "words")
    fetcher = Fetcher()
    assert Path(fetcher.local(found.path, found.offset, found.bytes, found.source)).read_bytes() == b"one"
    fetcher.close()


def test_what_is_not_in_an_object_store(bucket: str) -> None:
    for item, message in (("nope", "no such file"), ("nope*", "nothing matches"), ("nope/*.jpg", "nothing matches")):
        with pytest.raises(Misuse, match=message):
            sources(f"{bucket}/{item}")
    assert rejected(f"{bucket}/nope.jpg").error == "NotFound"
    assert rejected(f"{bucket}/clips").error == "NotFound"
    with pytest.raises(Misuse, match="bucket"):
        sources("s3://*/a")
