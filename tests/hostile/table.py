"""Tables."""

import gzip
import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hostile import ACCEPTED, Hostile, common, hostile, noise

TABLE = pa.table({"a": np.arange(2000.0), "b": [f"text {n % 9}" for n in range(2000)], "c": np.arange(2000)})
CSV = b"a,b,c\n" + b"".join(b"%d,x%d,%d.5\n" % (n, n % 7, n) for n in range(500))


def parquet(table: pa.Table = TABLE, **options: object) -> bytes:
    """Return a good Parquet file."""
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def arrow(table: pa.Table = TABLE, *, stream: bool = False, **options: str) -> bytes:
    """Return a good Arrow file or stream."""
    file = io.BytesIO()
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(file, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return file.getvalue()


def lying_offsets() -> bytes:
    """Return an Arrow stream whose texts begin and end elsewhere."""
    texts = pa.table({"a": ["offsets", "that", "are", "no", "lies"]})
    data = arrow(texts, stream=True)
    good = np.array([0, 7, 11, 14, 16, 20], "<i4").tobytes()
    assert good in data
    return data.replace(good, np.array([0, 2**30, -5, 2**31 - 1, 7, 20], "<i4").tobytes())


def _bomb(path: Path) -> None:
    """A billion rows in 30 KB: row groups of one repeated value."""
    rows = pa.table({"a": pa.array(np.zeros(10_000_000, np.int8))})
    with pq.ParquetWriter(path, rows.schema, compression="zstd") as writer:
        for _ in range(100):
            writer.write_table(rows)


def _zip(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", data)
    return file.getvalue()


def files() -> Iterator[Hostile]:
    """Yield the files."""
    some, damaged = (ACCEPTED, "Corrupt", "Empty"), ("Corrupt", "UnknownFormat")
    other = ("Unsupported", "WrongModality")
    yield from common(".csv", CSV, cuts={0.0005: ("Empty", "Corrupt"), 0.001: some, 0.5: some, 0.999: some})
    yield from common(
        ".parquet", parquet(), cuts={0.0001: damaged, 0.001: ("Corrupt",), 0.5: ("Corrupt",), 0.999: ("Corrupt",)}
    )
    yield from common(".arrow", arrow(), cuts={0.0001: damaged, 0.001: ("Corrupt",), 0.5: ("Corrupt",), 0.999: some})
    yield from common(".arrows", arrow(stream=True), cuts={0.0001: damaged, 0.01: ("Corrupt",), 0.5: some, 0.999: some})
    yield from common(".jsonl", b'{"a": 1, "b": "x"}\n' * 300, cuts={0.0005: (*damaged, "Empty"), 0.5: some})
    yield hostile("noise.csv", noise(5000), "WrongModality")
    yield hostile("noise.parquet", noise(5000), "UnknownFormat")
    yield hostile("noise behind its header.parquet", b"PAR1" + noise(5000), "Corrupt")
    yield hostile("noise behind its header.arrow", b"ARROW1\0\0" + noise(5000), "Corrupt")
    yield hostile("noise before its footer.parquet", b"PAR1" + noise(len(parquet()) - 804) + parquet()[-800:], *some)
    yield hostile("zeros.csv", bytes(5000), "WrongModality")
    yield hostile("zeros far down.csv", CSV * 20 + bytes(500), *some)
    yield hostile("short row.csv", b"a,b,c\n1,2,3\n4,5\n6,7,8\n", "Corrupt")
    yield hostile("long row.csv", b"a,b\n1,2\n1,2,3\n4,5\n", "Corrupt")
    yield hostile("long row far down.csv", b"a,b\n" + b"1,2\n" * 30_000 + b"1,2,3\n", "Corrupt")
    yield hostile("stairs.csv", b"".join(b",".join([b"1"] * n) + b"\n" for n in range(1, 40)), "Corrupt")
    yield hostile("open quote.csv", b'a,b\n1,2\n3,"4\n5,6\n', *some)
    yield hostile("open quote far down.csv", b"a,b\n" + b"1,2\n" * 30_000 + b'"1,2\n3,4\n', "Corrupt")
    yield hostile("only quotes.csv", b'"' * 9999, *some)
    yield hostile("only separators.csv", b"," * 9999 + b"\n", *some, "TooLarge")
    yield hostile("only lines.csv", b"\n" * 9999, *some)
    yield hostile("only a mark.csv", b"\xef\xbb\xbf", *some)
    yield hostile("only names.csv", b"a,b,c\n", "Empty")
    yield hostile("names twice.csv", b"a,a,a,,\n1,2,3,4,5\n6,7,8,9,0\n")
    yield hostile(
        "20,000 columns.csv", b",".join(b"c%d" % n for n in range(20_000)) + b"\n" + b"1," * 19_999 + b"1\n", "TooLarge"
    )
    yield hostile(
        "100 MB in a line.csv", lambda path: path.write_bytes(b"x" * 100_000_000), *some, "TooLarge", "Timeout"
    )
    yield hostile(
        "100 MB in a cell.csv",
        lambda path: path.write_bytes(b"a,b\n1," + b"x" * 100_000_000 + b"\n2,y\n"),
        *some,
        "TooLarge",
        "Timeout",
    )
    yield hostile("numbers beyond numbers.csv", b"a,b\n1e999,-1e999\n" + b"9" * 400 + b",nan\ninf,1\n")
    yield hostile("dates beyond time.csv", b"a,b\n2020-01-01,1\n9999999-99-99,2\n0000-00-00,3\n")
    yield hostile("formulas.csv", b"a,b\n=cmd|' /C calc'!A0,1\n@SUM(1),2\n")
    yield hostile("sql'; DROP TABLE x; --.csv", b"a'); COPY (SELECT 1) TO 'owned'; --,b\n1,2\n3,4\n")
    yield hostile("half of utf-16.csv", "a,b\n1,2\n3,4\n".encode("utf-16")[:-1], *some)
    yield hostile("utf-16 of nothing.csv", b"\xff\xfe", *some)
    yield hostile("utf-16 surrogates.csv", b"\xff\xfea\0,\0b\0\n\0" + b"\x00\xd8" * 9 + b",\0" + b"1\0\n\0", *some)
    yield hostile("utf-32.csv", "a,b\n1,2\n".encode("utf-32"), *some, "WrongModality")
    yield hostile("not utf-8 far down.csv", CSV * 20 + b"1,\xff\xfe,2\n")
    yield hostile("overlong utf-8.csv", b"a,b\n\xc0\xaf,1\nx,2\n")
    yield hostile("nested.jsonl", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", *some)
    yield hostile("nested objects.jsonl", b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"\n", *some)
    yield hostile("open.jsonl", b'{"a": 1}\n{"a":\n', "Corrupt")
    yield hostile("list.jsonl", b"[1, 2, 3]\n", "WrongModality", "Corrupt")
    yield hostile("names twice.jsonl", b'{"a": 1, "a": 2, "A": 3}\n', *some)
    yield hostile("other names.jsonl", b"".join(b'{"c%d": 1}\n' % n for n in range(3000)), *some, "TooLarge")
    yield hostile("surrogates.jsonl", b'{"a": "\\ud800", "\\udfff": 1}\n', *some)
    yield hostile("zeros.jsonl", b'{"a": "\\u0000"}\n' * 9, *some)
    yield hostile("numbers beyond numbers.jsonl", b'{"a": 1e999, "b": ' + b"9" * 5000 + b"}\n", *some)
    yield hostile(
        "100 MB in a line.jsonl",
        lambda path: path.write_bytes(b'{"a": "' + b"x" * 100_000_000 + b'"}\n'),
        *some,
        "TooLarge",
        "Timeout",
    )
    yield hostile("10^9 rows.parquet", _bomb, "TooLarge", ACCEPTED)
    yield hostile(
        "unpacks to 200 MB.parquet",
        parquet(pa.table({"a": ["x" * 8_000_000] * 25}), compression="zstd"),
        *some,
        "TooLarge",
    )
    yield hostile("lying footer.parquet", parquet()[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1", "Corrupt")
    yield hostile("bytes.parquet", parquet(pa.table({"a": [b"\0\1"] * 5})), "Unsupported")
    yield hostile("no rows.parquet", parquet(TABLE.slice(0, 0)), "Empty")
    yield hostile("no columns.parquet", parquet(pa.table({})), "Empty")
    yield hostile("nested.parquet", parquet(pa.table({"a": [{"b": [{"c": [[1, None]]}]}] * 5})))
    yield hostile("lying offsets.arrows", lying_offsets(), "Corrupt")
    yield hostile(
        "not utf-8.arrow",
        arrow(pa.table({"a": ["aaaa", "bbbb"]})).replace(b"aaaabbbb", b"\xff\xfe\xff\xfebbbb"),
        "Corrupt",
    )
    yield hostile("10^7 nulls.arrow", arrow(pa.table({"a": pa.nulls(10_000_000)})), *some, "TooLarge")
    yield hostile(
        "unpacks to 200 MB.arrow", arrow(pa.table({"a": np.zeros(25_000_000)}), compression="zstd"), *some, "TooLarge"
    )
    yield hostile("not numbers.arrow", arrow(pa.table({"a": [float("nan"), float("inf"), 1.0]})))
    yield hostile(
        "times beyond time.arrow", arrow(pa.table({"a": pa.array([2**62, -(2**62)], pa.timestamp("s"))})), *some
    )
    yield hostile("packed.csv", gzip.compress(CSV), *other)
    yield hostile("gzip bomb.csv", gzip.compress(bytes(100_000_000)), *other)
    yield hostile("zip bomb.csv", _zip(bytes(100_000_000)), *other)
    yield hostile("gzip bomb.jsonl", gzip.compress(b" " * 100_000_000), *other)
    yield hostile("workbook.csv", _zip(CSV), *other)
    yield hostile("picture.csv", b"\x89PNG\r\n\x1a\n" + noise(500), "WrongModality")
    yield hostile("a csv.parquet", CSV, "UnknownFormat")
    yield hostile("a parquet.csv", parquet(), "WrongModality", "Unsupported", "UnknownFormat", ACCEPTED)
    yield hostile("a table.xlsx", CSV, "UnknownFormat")
    yield hostile("page.csv", b"<html>\n<body>404</body>\n</html>\n", *some)
