"""The table builder: values, types and missing cells survive every format; what is no table is turned away."""

import csv
import datetime
import io
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipelines.modality import Piece, Reject, Sample
from pipelines.modality import table as table_module
from pipelines.modality.table import ROWS, SUFFIXES, Options, Table, table_id
from pipelines.plan import within
from pipelines.statistics import merge, real
from pipelines.tables import columnar, jsonlines, separated


def build(path: Path, *, seed: int = 0, **options: str) -> tuple[list[Piece], list[Sample]]:
    table = Table(Options(**{"order": "keep", **options}), seed=seed)
    pieces = table.probe(str(path))
    samples = list(table.build(str(path), pieces))
    assert len(samples) == len(pieces)
    assert all(isinstance(sample, Sample) for sample in samples)
    return pieces, samples


def arrow(sample: Sample) -> pa.Table:
    with pa.ipc.open_stream(sample.parts["arrow"]) as stream:
        return stream.read_all()


def read(path: Path, **how: Any) -> pa.Table:
    return pa.concat_tables([arrow(sample) for sample in build(path, **how)[1]])


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def reject(path: Path) -> Reject:
    with pytest.raises(Reject) as caught:
        build(path)
    assert caught.value.message and "\n" not in caught.value.message
    assert str(path.parent) not in caught.value.message  # it is the same on every machine
    return caught.value


def statistics(path: Path) -> dict[str, Any]:
    _, samples = build(path)
    (found,) = Table(Options()).statistics(merge([sample.summary for sample in samples]))["tables"].values()
    return found


TYPED = pa.table(
    {
        "number": pa.array([1.5, None, -3.0, 0.0]),
        "count": pa.array([1, 2, None, 4], pa.int32()),
        "flag": pa.array([True, False, None, True]),
        "kind": pa.array(["a", "b", "a", None]).dictionary_encode(),
        "day": pa.array([datetime.date(2020, 1, 1), None, datetime.date(2021, 2, 3), datetime.date(1960, 5, 6)]),
        "list": pa.array([[1, 2], None, [], [3]]),
        "broken": pa.array([float("nan"), float("inf"), -float("inf"), 1e300]),
    }
)
EXPECTED = {
    "number": [1.5, None, -3.0, 0.0],
    "count": [1.0, 2.0, None, 4.0],
    "flag": ["true", "false", None, "true"],
    "kind": ["a", "b", "a", None],
    "day": [datetime.datetime(2020, 1, 1), None, datetime.datetime(2021, 2, 3), datetime.datetime(1960, 5, 6)],
    "list": ["[1, 2]", None, "[]", "[3]"],
    "broken": [None, None, None, None],
}


def test_what_is_too_far_off_for_microseconds_is_missing(tmp_path: Path) -> None:
    far = pa.table(
        {
            "seconds": pa.array([0, 2**60, None], pa.timestamp("s")),
            "days": pa.array([0, 2**31 - 1, None], pa.date32()),
            "length": pa.array([1500, 2**62, None], pa.duration("s")),
        }
    )
    feather.write_feather(far, tmp_path / "a.arrow", compression="uncompressed")
    epoch = datetime.datetime(1970, 1, 1)
    found = read(tmp_path / "a.arrow").to_pydict()
    assert found == {"seconds": [epoch, None, None], "days": [epoch, None, None], "length": [1500.0, None, None]}


def test_a_range_of_rows_is_built_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "\n".join(["n,m", *(f"{n},{n}" for n in range(1000))]))
    table = Table(Options(order="keep"))
    pieces = within(table.probe(str(path)), 250, 600)
    built = list(table.build(str(path), pieces))
    assert [arrow(sample)["n"].to_pylist() for sample in built] == [
        [float(n) for n in rows] for rows in (range(250, 256), range(256, 512), range(512, 600))
    ]
    mixed = Table(Options())
    pieces = mixed.probe(str(path))
    (again,) = mixed.build(str(path), within(pieces, pieces[1].start, pieces[1].end))
    assert again.parts == list(mixed.build(str(path), pieces))[1].parts, "as a row of rejected.parquet names it"


def write_stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("name", ["a.parquet", "a.feather", "a.arrow", "a.arrows"])
def test_typed_files_keep_values_and_nulls(tmp_path, name):
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(TYPED, path)
    elif name == "a.feather":
        feather.write_feather(TYPED, str(path), compression="zstd")
    else:
        write_stream(TYPED, path)
    found = read(path)
    assert found.to_pydict() == EXPECTED
    assert {str(type_) for type_ in found.schema.types} == {"double", "string", "timestamp[us]"}
    assert found.schema.metadata is None


def test_time_zones_become_utc_and_pandas_indices_go(tmp_path):
    zoned = pa.array([datetime.datetime(2020, 6, 1, 12)], pa.timestamp("ns", "Europe/Vienna"))
    pq.write_table(pa.table({"t": zoned, "__index_level_0__": [0]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").to_pydict() == {"t": [datetime.datetime(2020, 6, 1, 12)]}


def test_json_lines(tmp_path):
    rows = [
        {"a": 1, "b": "x", "c": [1, 2], "d": True, "e": "2020-01-01", "f": 1},
        {"a": 2.5, "b": None, "c": {"k": 1}, "d": False, "e": "2020-01-02", "f": "s"},
        {"a": 3, "g": 1},
    ]
    found = read(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))))
    assert found.to_pydict() == {
        "a": [1.0, 2.5, 3.0],
        "b": ["x", None, None],
        "c": ["[1,2]", '{"k":1}', None],
        "d": ["true", "false", None],
        "e": [datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 2), None],
        "f": ["1", "s", None],
        "g": [None, None, 1.0],
    }


@pytest.mark.parametrize("separator", list(",;\t|"))
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_any_separator(tmp_path, separator, suffix):
    text = "id;name;when\n1;x, y;2020-01-02\n2;z;2020-01-03\n".replace(";", separator)
    text = text.replace("x, y", '"x, y"') if separator == "," else text
    assert read(write(tmp_path / f"a{suffix}", text)).to_pydict() == {
        "id": [1.0, 2.0],
        "name": ["x, y", "z"],
        "when": [datetime.datetime(2020, 1, 2), datetime.datetime(2020, 1, 3)],
    }


CSV = {
    "missing": ("a,b\n1,x\n?,NA\n3, ?\n,y\n", {"a": [1.0, None, 3.0, None], "b": ["x", None, None, "y"]}),
    "blanks": ("a,b\n1, x\n2,y \n", {"a": [1.0, 2.0], "b": ["x", "y"]}),
    "no header": ("1,x,2.5\n2,y,3\n", {"column0": [1.0, 2.0], "column1": ["x", "y"], "column2": [2.5, 3.0]}),
    "header of numbers": (",0,1\n0,1.5,2\n1,2.5,3\n", {"column0": [0.0, 1.0], "0": [1.5, 2.5], "1": [2.0, 3.0]}),
    "three header lines": (
        "net,1,1\nnode,1,2\nhemi,lh,rh\n" + "".join(f"{i},{i}.5,{i}\n" for i in range(6)),
        {"net_node_hemi": list(range(6)), "1_lh": [i + 0.5 for i in range(6)], "1_2_rh": list(range(6))},
    ),
    "repeated and empty names": ("a,a,,b\n1,2,3,4\n", {"a": [1.0], "a_1": [2.0], "column2": [3.0], "b": [4.0]}),
    "quotes": ('"a,b","c ""d"""\n1,"x\ny"\n2,"say ""z"""\n', {"a,b": [1.0, 2.0], 'c "d"': ["x\ny", 'say "z"']}),
    "words for yes and no": ("a,b\n1,Yes\n2,No\n", {"a": [1.0, 2.0], "b": ["Yes", "No"]}),
    "one column": ("a\n1\n2\n", {"a": [1.0, 2.0]}),
    "utc": ("t,v\n2020-01-01T10:00:00Z,1\n,2\n", {"t": [datetime.datetime(2020, 1, 1, 10), None], "v": [1.0, 2.0]}),
    "carriage returns": ("a,b\r\n1,x\r\n2,y\r\n", {"a": [1.0, 2.0], "b": ["x", "y"]}),
    "nothing in a column": ("a,b\n1,\n2,\n", {"a": [1.0, 2.0], "b": [None, None]}),
    "comment": ("# a survey\na,b\n1,2\n3,4\n", {"a": [1.0, 3.0], "b": [2.0, 4.0]}),
}  # fmt: skip


@pytest.mark.parametrize("name", CSV)
def test_csv_as_users_have_it(tmp_path, name):
    text, expected = CSV[name]
    assert read(write(tmp_path / "a.csv", text)).to_pydict() == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes("plaće,wert\nété,1\nübel,2\n".replace("ć", "c").encode(encoding))
    assert read(tmp_path / "a.csv").to_pydict() == {"place": ["été", "übel"], "wert": [1.0, 2.0]}


@pytest.mark.parametrize("name", ["it's.csv", "a[1]*.csv", "ü ?.csv", "a.b.csv"])
def test_odd_file_names(tmp_path, name):
    assert read(write(tmp_path / name, "a,b\n1,2\n")).to_pydict() == {"a": [1.0], "b": [2.0]}


def test_a_word_far_down_makes_a_column_text(tmp_path):
    text = "a,b\n" + "1,2\n" * 30_000 + 'x,"3"\n'
    found = read(write(tmp_path / "a.csv", text))
    assert [str(type_) for type_ in found.schema.types] == ["string", "double"]
    assert (found.num_rows, found["a"][-1].as_py(), found["b"][-1].as_py()) == (30_001, "x", 3.0)


words = st.text("abcxyz ,;\"'é", min_size=1, max_size=8).map(lambda word: f"w{word}w")
times = st.datetimes(datetime.datetime(1950, 1, 1), datetime.datetime(2100, 1, 1))
cells = st.tuples(st.none() | st.floats(-1e6, 1e6), st.none() | words, st.none() | times)


@settings(max_examples=20)
@given(st.lists(cells, min_size=1, max_size=40))
def test_rows_survive_csv_and_parquet(tmp_path_factory, rows):
    # A first full row gives the columns their types, as any real table does.
    rows = [(0.5, "w", datetime.datetime(2000, 1, 1, 1, 1, 1)), *rows]
    folder = tmp_path_factory.mktemp("rows")
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(["number", "text", "time"])
    writer.writerows([["" if cell is None else str(cell) for cell in row] for row in rows])
    columns = dict(zip(("number", "text", "time"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), folder / "a.parquet")
    assert read(write(folder / "a.csv", sink.getvalue())).to_pydict() == columns
    assert read(folder / "a.parquet").to_pydict() == columns


def numbered(path: Path, rows: int) -> Path:
    pq.write_table(pa.table({"row": np.arange(rows)}), path)
    return path


@pytest.mark.parametrize("header", ["a,b,c\n", ""])
@pytest.mark.parametrize("end", ["\n", ""])
def test_rows_of_a_plain_file_are_its_lines_that_are_not_empty(tmp_path, header, end):
    rows = [f"{row},w{row % 7} ,{'NA' if row % 5 else '2020-01-02'}" for row in range(3, 900)]
    text = "\ufeff" + header + "\n\n".join(rows) + end
    columns = {
        "number": [float(row) for row in range(3, 900)],
        "text": [f"w{row % 7}" for row in range(3, 900)],
        "time": [None if row % 5 else datetime.datetime(2020, 1, 2) for row in range(3, 900)],
    }
    path = write(tmp_path / "a.csv", text)
    assert list(read(path).to_pydict().values()) == list(columns.values())
    mixed = read(path, order="shuffle").rename_columns(list(columns)).sort_by("number")
    assert mixed.to_pydict() == columns


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 1000])
def test_keep_cuts_consecutive_blocks(tmp_path, rows):
    pieces, samples = build(numbered(tmp_path / "a.parquet", rows))
    assert [piece.split for piece in pieces] == [""] * len(pieces)
    assert [sample.parts["json"]["rows"] for sample in samples] == [int(piece.end - piece.start) for piece in pieces]
    assert [row for sample in samples for row in arrow(sample)["row"].to_pylist()] == list(range(rows))


@pytest.mark.parametrize("rows", [1, 300, 2000])
def test_shuffle_draws_every_row_once_and_splits_by_row(tmp_path, rows):
    path = numbered(tmp_path / "a.parquet", rows)
    pieces, samples = build(path, order="shuffle")
    drawn = {"train": [], "val": []}
    for piece, sample in zip(pieces, samples, strict=True):
        assert 1 <= sample.parts["json"]["rows"] <= ROWS
        drawn[piece.split] += arrow(sample)["row"].to_pylist()
    assert sorted(drawn["train"] + drawn["val"]) == list(range(rows))
    if rows == 2000:
        assert 140 < len(drawn["val"]) < 260
        assert drawn["train"] != sorted(drawn["train"])
        others = build(path, order="shuffle", seed=1)
        assert [sample.parts["arrow"] for sample in others[1]] != [sample.parts["arrow"] for sample in samples]


def windows(monkeypatch: pytest.MonkeyPatch, *, range_bytes: int = 1000, window_bytes: int = 8000) -> None:
    """Take every table for a large one: cut into small ranges and windows."""
    for module in (table_module, separated, jsonlines):
        monkeypatch.setattr(module, "WHOLE_BYTES", 0)
    for module in (separated, jsonlines, columnar):
        monkeypatch.setattr(module, "RANGE_BYTES", range_bytes)
    monkeypatch.setattr(table_module, "WINDOW_BYTES", window_bytes)


def mixed(rows: int) -> pa.Table:
    rng = np.random.default_rng(0)
    words = np.array(["red", 'say "hello"\nto the next line', "a,b", "", "x;y"])
    return pa.table(
        {
            "row": np.arange(rows, dtype=float),
            "number": pa.array(rng.normal(size=rows).round(4), mask=rng.random(rows) < 0.2),
            "text": rng.choice(words, rows),
            "time": np.datetime64("2020-01-01T00:00:00", "us") + rng.integers(0, 10**8, rows) * 10**6,
        }
    )


def write_csv(table: pa.Table, path: Path, **how: Any) -> Path:
    with path.open("w", newline="", encoding=how.pop("encoding", "utf-8")) as stream:
        writer = csv.writer(stream, **how)
        writer.writerow(table.column_names)
        writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return path


FILES = {
    "a.csv": write_csv,
    "crlf.csv": lambda table, path: write_csv(table, path, lineterminator="\r\n", quoting=csv.QUOTE_ALL),
    "semicolon.csv": lambda table, path: write_csv(table, path, delimiter=";"),
    "utf16.csv": lambda table, path: write_csv(table, path, encoding="utf-16"),
    "mark.tsv": lambda table, path: write_csv(table, path, encoding="utf-8-sig", delimiter="\t"),
    "a.jsonl": lambda table, path: write(
        path, "\n".join(json.dumps(row, default=str) for row in table.to_pylist() if row.pop("gone", 1))
    ),
    "a.parquet": lambda table, path: pq.write_table(table, path, row_group_size=70),
    "a.feather": lambda table, path: feather.write_feather(table, str(path), chunksize=90),
    "a.arrows": write_stream,
}


@pytest.mark.parametrize("name", FILES)
def test_a_large_table_is_the_same_table(tmp_path, monkeypatch, name):
    FILES[name](mixed(1500), tmp_path / name)
    whole = read(tmp_path / name)
    windows(monkeypatch)
    pieces, samples = build(tmp_path / name)
    assert len({piece.place for piece in pieces}) > 3
    assert [piece.start for piece in pieces] == [0, *(piece.end for piece in pieces[:-1])]
    assert pa.concat_tables(map(arrow, samples)) == whole


@pytest.mark.parametrize("name", FILES)
def test_windows_are_the_same_whatever_is_asked_for_together(tmp_path, monkeypatch, name):
    FILES[name](mixed(3000), tmp_path / name)
    windows(monkeypatch, window_bytes=40_000)
    table, path = Table(Options()), str(tmp_path / name)
    pieces = table.probe(path)
    together = list(table.build(path, pieces))
    train = [
        arrow(sample)["row"].to_numpy()
        for sample, piece in zip(together, pieces, strict=True)
        if piece.split == "train"
    ]
    assert sorted(row for sample in together for row in arrow(sample)["row"].to_pylist()) == list(range(3000))
    assert 2600 < sum(map(len, train)) < 2800
    assert np.ptp(train[0]) > 1000  # a block holds rows from all over the table
    for piece, sample in list(zip(pieces, together, strict=True))[::7]:
        (alone,) = table.build(path, [piece])
        (placed,) = table.build(path, [replace(piece, place="")])
        assert alone.parts == placed.parts == sample.parts
    assert [sample.parts for sample in table.build(path, pieces[::-1])] == [s.parts for s in together[::-1]]


texts = st.text("ab,\"\n\r #'é", max_size=6)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(texts, texts, st.integers(0, 99)), min_size=1, max_size=20),
    st.integers(1, 40),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_ranges_begin_and_end_with_records(tmp_path_factory, rows, size, ending, always):
    path = tmp_path_factory.mktemp("ranges") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator=ending, quoting=csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL)
        writer.writerows([("a", "b", "c"), ("word", 'a "word"', 1), *rows])
    with pytest.MonkeyPatch.context() as patch:
        dialect = separated.Dialect("utf-8", ending, ",", '"', '"', "", 0, True, "", "")
        file = separated.Separated(str(path), dialect, ["a", "b", "c"], "ssn")
        try:
            whole = pa.Table.from_batches(file.batches([]))
        except duckdb.Error:  # the writer does not quote a carriage return
            assume(False)
        patch.setattr(separated, "RANGE_BYTES", size)
        ranges = file.ranges()
        assert [part.start for part in ranges] == [0, *(part.start + part.length for part in ranges[:-1])]
        parts = [batch for part in ranges for batch in file.batches([part])]
    assert pa.Table.from_batches(parts, whole.schema).to_pydict() == whole.to_pydict()
    assert whole.num_rows == len(rows) + 1


def test_a_wrong_cell_in_a_far_window_makes_its_column_text_everywhere(tmp_path, monkeypatch):
    text = "a,b,c\n" + "1,2,2020-01-01\n" * 30_000 + 'x,"3",soon\n'
    windows(monkeypatch, range_bytes=20_000, window_bytes=100_000)
    found = read(write(tmp_path / "a.csv", text), order="shuffle")
    assert [str(type_) for type_ in found.schema.types] == ["string", "double", "string"]
    assert sorted(set(found["a"].to_pylist())) == ["1", "x"]
    rows = '{"a": 1, "b": "2020-01-01"}\n' * 3000 + '{"a": "x", "b": "soon"}\n'
    found = read(write(tmp_path / "a.jsonl", rows), order="shuffle")
    assert [str(type_) for type_ in found.schema.types] == ["string", "string"]
    assert sorted(set(found["b"].to_pylist())) == ["2020-01-01", "soon"]


def test_large_tables_that_are_damaged_are_rejected_with_the_line(tmp_path, monkeypatch):
    windows(monkeypatch)
    rows = "".join(f"{row},word\n" for row in range(9000))
    assert "line 9002 has 3 cells" in reject(write(tmp_path / "a.csv", f"a,b\n{rows}1,2,3\n{rows}")).message
    assert "none closes it" in reject(write(tmp_path / "a.csv", f'a,b\n{rows * 3}"1,2\n{rows}')).message
    assert reject(write(tmp_path / "a.csv", "a,b\n" + "\n" * 3000)).error == "Empty"


def test_a_quote_inside_a_cell_is_a_letter(tmp_path, monkeypatch):
    text = "a,b\n" + '1,5" pipe\n2,x\n' * 301
    whole = read(write(tmp_path / "a.csv", text))
    assert whole["b"].to_pylist() == ['5" pipe', "x"] * 301
    windows(monkeypatch)
    assert read(tmp_path / "a.csv") == whole


@pytest.mark.slow
def test_memory_does_not_grow_with_the_table(tmp_path):
    rows = mixed(20_000)
    write_csv(rows, tmp_path / "rows.csv")
    header, body = (tmp_path / "rows.csv").read_bytes().split(b"\n", 1)
    with (tmp_path / "a.csv").open("wb") as stream:
        stream.write(header + b"\n")
        for _ in range(300_000_000 // len(body)):
            stream.write(body)
    program = (
        "import re, sys\n"
        "from pipelines.modality.table import Table, Options\n"
        "table = Table(Options())\n"
        "pieces = table.probe(sys.argv[1])\n"
        "some = pieces[len(pieces) // 2 :][:900]\n"
        "rows = sum(sample.parts['json']['rows'] for sample in table.build(sys.argv[1], some))\n"
        "print(rows, re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "a.csv"], capture_output=True, check=True)
    built, peak = map(int, done.stdout.split())
    assert built > 200_000
    assert peak < 0.6 * 2**20  # KiB


HEADERS = {
    "categories": ("red,small\nblue,large\nred,large\ngreen,small\n", False),
    "names": ("colour,size\nred,small\nred,large\ngreen,small\n", True),
    "joined": ("colour,size\nred,small\ncolour,size\nred,large\n", True),
    "free text": ("title,text\nA day,It was late\nA night,It was dark\n", True),
}


@pytest.mark.parametrize("name", HEADERS)
def test_names_of_tables_of_text_are_what_does_not_come_again(tmp_path, name):
    text, has_names = HEADERS[name]
    path = write(tmp_path / "a.csv", text)
    first = text.split("\n", 1)[0].split(",")
    assert read(path).column_names == (first if has_names else ["column0", "column1"])
    assert read(path).num_rows == text.count("\n") - has_names
    assert read(path, header="yes").column_names == first
    assert read(path, header="no").column_names == ["column0", "column1"]
    assert read(path, header="no").num_rows == text.count("\n")


def test_any_pieces_in_any_call_give_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    columns = {"a": rng.normal(size=1500), "b": rng.choice(["x", "yy", None], 1500), "c": np.arange(1500)}
    table = pa.table({"a": pa.array(columns["a"], mask=rng.random(1500) < 0.3), "b": columns["b"], "c": columns["c"]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=97)
    builder = Table(Options())
    path = str(tmp_path / "a.parquet")
    pieces = builder.probe(path)
    together = [sample.parts["arrow"] for sample in builder.build(path, pieces)]
    alone = [sample.parts["arrow"] for piece in reversed(pieces) for sample in builder.build(path, [piece])]
    assert together == alone[::-1]
    pq.write_table(table, tmp_path / "a.parquet")  # other batches, same table
    assert [sample.parts["arrow"] for sample in builder.build(path, pieces)] == together


def test_what_lies_under_a_null_is_not_stored(tmp_path):
    stored = []
    for hidden in (0.0, 7.0):
        values = pa.array([hidden, 1.0])
        column = pa.Array.from_buffers(pa.float64(), 2, [pa.py_buffer(b"\x02"), values.buffers()[1]])
        write_stream(pa.table({"a": column}), tmp_path / "a.arrow")
        stored += [sample.parts["arrow"] for sample in build(tmp_path / "a.arrow")[1]]
    assert stored[0] == stored[1]


def test_a_piece_beyond_the_table_is_a_reject(tmp_path):
    path = str(numbered(tmp_path / "a.parquet", 10))
    (good, bad) = Table(Options()).build(path, [Piece(0, 5), Piece(512, 768)])
    assert isinstance(good, Sample) and isinstance(bad, Reject)


def test_a_table_cut_off_since_it_was_planned_is_read_once(tmp_path, monkeypatch):
    rows = [f"{row},{row % 7},text {row % 5}\n" for row in range(20 * ROWS)]
    path = write(tmp_path / "a.csv", "a,b,c\n" + "".join(rows))
    table = Table(Options())
    pieces = table.probe(str(path))
    os.truncate(path, path.stat().st_size // 3)
    opened, reopen = [], table_module.reopen_source
    monkeypatch.setattr(table_module, "reopen_source", lambda *args: opened.append(args) or reopen(*args))
    found = list(table.build(str(path), pieces))
    assert len(opened) == 1 and len(found) == len(pieces) == 21
    assert {(reject.error, reject.message.split(",")[0]) for reject in found} == {("Corrupt", "ends after 1")}


def test_json_and_shape(tmp_path):
    _, (sample,) = build(write(tmp_path / "a.csv", "a,b\n1,x\n2,y\n3,z\n"))
    assert sample.shape == (3, 2)
    assert Table.facts.keys() == sample.parts["json"].keys()
    assert sample.parts["json"] == {"table": table_id(arrow(sample).schema), "rows": 3, "columns": 2}


def test_a_wide_table(tmp_path):
    header = ",".join(f"c{number}" for number in range(600))
    rows = "\n".join(",".join(str(row + number) for number in range(600)) for row in range(5))
    found = read(write(tmp_path / "a.csv", f"{header}\n{rows}\n"))
    assert (found.num_columns, found.num_rows) == (600, 5)
    assert found["c599"].to_pylist() == [599.0 + row for row in range(5)]


def test_a_hundred_thousand_rows(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100_000, 4)).round(3)
    rows = "\n".join(f"{a},{b},{c},{d},k{row % 7}" for row, (a, b, c, d) in enumerate(values))
    _, samples = build(write(tmp_path / "a.csv", f"a,b,c,d,e\n{rows}\n"), order="shuffle")
    assert sum(sample.parts["json"]["rows"] for sample in samples) == 100_000
    total = sum(np.asarray(arrow(sample)["a"]).sum() for sample in samples)
    assert abs(total - values[:, 0].sum()) < 1e-6


def test_statistics(tmp_path):
    rows = "\n".join(
        f"{row},{'xyz'[row % 3] if row % 5 else ''},min,id{row},2020-01-0{1 + row % 2}" for row in range(600)
    )
    found = statistics(write(tmp_path / "categories.csv", f"n,c,min,id,t\n{rows}\n"))
    assert found["sources"] == ["categories"]
    number, category, constant, text, time = found["columns"]
    spread = pytest.approx(np.arange(600).std())
    expected = {"kind": "number", "mean": 299.5, "std": spread, "min": 0.0, "max": 599.0, "missing": 0}
    assert number == {"name": "n", **expected}
    assert category["kind"] == "category" and category["missing"] == 120
    assert category["categories"] == ["x", "y", "z"] and category["counts"] == [160, 160, 160]
    assert (constant["name"], constant["categories"], constant["counts"]) == ("min", ["min"], [600])
    assert text == {"name": "id", "kind": "text", "missing": 0}
    assert time["kind"] == "time" and time["mean"] == pytest.approx(1577836800 + 43200)
    json.dumps(found, allow_nan=False)


def test_sums_of_blocks_are_those_of_their_cells(tmp_path):
    rng = np.random.default_rng(0)
    values = np.where(rng.random(600) < 0.1, rng.choice([np.nan, np.inf, 1e300], 600), rng.normal(size=600))
    words = [None if word == "w9" else word for word in rng.choice([f"w{number}" for number in range(10)], 600)]
    long = ["x" * 257 if row == 300 else "y" for row in range(600)]
    free = [f"id{row if row < 256 else row % 200}" for row in range(600)]
    pq.write_table(pa.table({"n": values, "w": words, "l": long, "f": free}), tmp_path / "a.parquet")
    for first, sample in zip((0, 256, 512), build(tmp_path / "a.parquet")[1], strict=True):
        block = slice(first, first + ROWS)
        known = values[block][np.abs(values[block]) < 1e38]
        (found,) = sample.summary["tables"].values()
        assert [found["numbers"][key][0] for key in ("count", "min", "max")] == [len(known), known.min(), known.max()]
        assert real(found["numbers"]["sum"]) == pytest.approx([known.sum()])
        assert real(found["numbers"]["square"]) == pytest.approx([(known**2).sum()])
        assert found["missing"] == [len(values[block]) - len(known), words[block].count(None), 0, 0]
        assert found["categories"] == [
            Counter(word for word in words[block] if word),
            None if first == 256 else Counter(long[block]),
            None if first == 0 else Counter(free[block]),
        ]


def test_statistics_of_a_column_without_values(tmp_path):
    pq.write_table(pa.table({"a": pa.array([None, None], pa.float64()), "b": pa.nulls(2)}), tmp_path / "a.parquet")
    number, category = statistics(tmp_path / "a.parquet")["columns"]
    assert number == {"name": "a", "kind": "number", "mean": 0.0, "std": 1.0, "min": 0.0, "max": 0.0, "missing": 2}
    assert category == {"name": "b", "kind": "category", "missing": 2, "categories": [], "counts": []}


def parquet(name: str) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({name: [1, 2]}), file, store_schema=False)
    return file.getvalue()


REJECTED = {
    "empty.csv": (b"", "Empty"),
    "header.csv": (b"a,b,c\n", "Empty"),
    "photo.csv": (b"\x89PNG\r\n\x1a\n" + b"\0" * 60, "WrongModality"),
    "binary.csv": (bytes(range(256)) * 8, "WrongModality"),
    "short.csv": (b"a,b,c\n1,2,3\n4,5\n6,7,8\n", "Corrupt"),
    "long.csv": (b"a,b\n" + b"1,2\n" * 30_000 + b"1,2,3\n", "Corrupt"),
    "open quote.csv": (b"a,b\n" + b"1,2\n" * 30_000 + b'"1,2\n3,4\n', "Corrupt"),
    "notes.md": (b"# notes\n", "UnknownFormat"),
    "text.parquet": (b"a,b\n1,2\n", "UnknownFormat"),
    "cut.parquet": (b"PAR1" + b"\0" * 100, "Corrupt"),
    "name.parquet": (parquet("name").replace(b"name", b"n\x8cme"), "Corrupt"),
    "cut.arrow": (b"ARROW1\0\0" + b"\0" * 100, "Corrupt"),
    "cut.arrows": (b"\xff\xff\xff\xff\x10\0\0\0" + b"\0" * 100, "Corrupt"),
    "text.feather": (b"a,b\n1,2\n", "UnknownFormat"),
    "array.jsonl": (b"[1, 2]\n", "WrongModality"),
    "cut.jsonl": (b'{"a": 1}\n{"a":\n', "Corrupt"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_bad_input_is_rejected_with_its_reason(tmp_path, name):
    content, error = REJECTED[name]
    (tmp_path / name).write_bytes(content)
    assert reject(tmp_path / name).error == error


def test_ragged_rows_are_named(tmp_path):
    assert "line 3 has 2 cells" in reject(write(tmp_path / "a.csv", "a,b,c\n1,2,3\n4,5\n6,7,8\n")).message


def test_bytes_are_no_cells(tmp_path):
    pq.write_table(pa.table({"image": [b"\0\1"]}), tmp_path / "a.parquet")
    assert "'image'" in reject(tmp_path / "a.parquet").message


def test_missing_file(tmp_path):
    assert reject(tmp_path / "gone.csv").error == "Unreadable"


@pytest.mark.real
@pytest.mark.skipif("MMMASK_REAL_DATA" not in os.environ, reason="MMMASK_REAL_DATA is not set")
def test_real_tables():
    folder = Path(os.environ["MMMASK_REAL_DATA"]) / "table"
    facts = {  # rows, columns, missing cells
        "penguins.csv": (344, 8, 19),
        "adult-test.csv": (16281, 15, 2203),
        "horse-colic.csv": (300, 28, 1605),
        "titanic.csv": (891, 15, 869),
        "modechoice.csv": (840, 9, 0),
        "remasker_letter.csv": (20000, 18, 0),
        "seattle-weather.csv": (1461, 6, 0),
        "penguins_typed.parquet": (344, 8, 19),
    }
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES]
    assert paths
    for path in paths:
        found = read(path, order="shuffle")
        missing = sum(column.null_count for column in found.columns)
        assert (found.num_rows, found.num_columns, missing) == facts.get(
            path.name, (found.num_rows, found.num_columns, missing)
        ), path
