"""Files of rows and columns as streams of Arrow batches with the three types of columns that a table sample has.

Text files are parsed by DuckDB, which finds out separator, quotes, header and types; Parquet and Arrow by pyarrow.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .base import Reject
from .sniff import sniff, unknown

NUMBER, TEXT, TIME = pa.float64(), pa.string(), pa.timestamp("us")

HEAD_BYTES = 1 << 16
BATCH_ROWS = 8192
MAX_COLUMNS = 10_000
MAX_HEADER_LINES = 4
FLOAT32_MAX = float(np.finfo(np.float32).max)
# Words that stand for a missing cell in text files: those of pandas, and the '?' of the UCI archive.
MISSING = ("", "?", "#N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaN", "-NaN", "None", "n/a", "nan", "-nan", "null")
SEPARATORS = ",;\t|"
DECIMAL = re.compile(r"\s*-?\d*\.\d+\s*")  # a value, no name
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
PANDAS_INDEX = re.compile(r"__index_level_\d+__")
UTC = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)")  # DuckDB would drop other offsets
DUCKDB: dict[str, Any] = {"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False}


@dataclass(frozen=True, slots=True)
class Source:
    """A table in a file.

    schema: unique column names and their types, each NUMBER, TEXT or TIME.
    rows: their number, at least 1.
    batches: reads the file once; record batches of the schema, in the order of the file.
    """

    schema: pa.Schema
    rows: int
    batches: Callable[[], Iterator[pa.RecordBatch]]


@contextmanager
def open_source(path: str) -> Iterator[Source]:
    """Open a table of any format. Raises Reject, also while its batches are read."""
    file = Path(path)
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise Reject("Unreadable", f"cannot be opened: {error.strerror}") from None
    if not head:
        raise unknown(head, "table")
    suffix = file.suffix.lower()
    opener = _OPENERS.get(suffix)
    if opener is None or sniff(head)[0] not in ("", "table"):
        raise unknown(head, "table")
    try:
        source = opener(path, head)
        if not source.rows:
            raise Reject("Empty", "has no rows, only the names of columns")
        if not source.schema.names:
            raise Reject("Empty", "has no columns")
        if len(source.schema) > MAX_COLUMNS:
            raise Reject("TooLarge", f"{len(source.schema):,} columns; a table may have {MAX_COLUMNS:,}")
        yield source
    except duckdb.Error as error:
        raise Reject("Corrupt", _duckdb_reason(str(error))) from None
    except (pa.ArrowException, OSError) as error:
        raise Reject("Corrupt", f"cannot be read: {error}") from None


# ---- columns of any type → NUMBER, TEXT, TIME


def _typed(schema: pa.Schema, rows: int, batches: Callable[[], Iterable[pa.RecordBatch]]) -> Source:
    """Return the source whose batches are those given, their columns brought to the three types. Raises Reject."""
    kept = [number for number, name in enumerate(schema.names) if not PANDAS_INDEX.fullmatch(name)]
    names = _unique([schema.names[number] for number in kept])
    types = [_type(name, schema.types[number]) for name, number in zip(names, kept, strict=True)]
    target = pa.schema(list(zip(names, types, strict=True)))

    def typed() -> Iterator[pa.RecordBatch]:
        for batch in batches():
            for start in range(0, batch.num_rows, BATCH_ROWS):
                part = batch.slice(start, BATCH_ROWS)
                columns = [_convert(part.column(number), type_) for number, type_ in zip(kept, types, strict=True)]
                yield pa.RecordBatch.from_arrays(columns, schema=target)

    return Source(target, rows, typed)


def _unique(names: Sequence[str]) -> list[str]:
    """Return names that are not empty and not equal, changing as few as possible."""
    taken: set[str] = set()
    result = []
    for number, given in enumerate(names):
        name = base = given.strip("\ufeff ") or f"column{number}"
        count = 0
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        result.append(name)
    return result


def _type(name: str, given: pa.DataType) -> pa.DataType:
    """Return which of NUMBER, TEXT and TIME a column of a type becomes. Raises Reject for binary cells."""
    if isinstance(given, pa.BaseExtensionType):
        return _type(name, given.storage_type)
    if pa.types.is_dictionary(given):
        return _type(name, given.value_type)
    if pa.types.is_binary(given) or pa.types.is_large_binary(given) or pa.types.is_fixed_size_binary(given):
        raise Reject("Unsupported", f"column {name!r} holds bytes ({given}), which are no cell of a table")
    if pa.types.is_timestamp(given) or pa.types.is_date(given):
        return TIME
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_duration)
    return NUMBER if any(test(given) for test in numeric) else TEXT


def _convert(column: pa.Array, target: pa.DataType) -> pa.Array:
    """Return a column as NUMBER (not finite or beyond float32 is null), TIME (UTC) or TEXT (nested values as JSON)."""
    if isinstance(column, pa.ExtensionArray):
        return _convert(column.storage, target)
    if isinstance(column, pa.DictionaryArray):
        return _convert(column.dictionary_decode(), target)
    if target == NUMBER:
        if pa.types.is_duration(column.type):
            column = pc.divide(pc.cast(pc.cast(column, pa.duration("us"), safe=False), pa.int64()), pa.scalar(1e6))
        numbers = pc.cast(column, NUMBER, safe=False)
        return pc.if_else(pc.less_equal(pc.abs(numbers), FLOAT32_MAX), numbers, None)
    if target == TIME:
        zone = column.type.tz if pa.types.is_timestamp(column.type) else None
        instants = pc.cast(column, pa.timestamp("us", zone), safe=False)
        return pc.cast(pc.cast(instants, pa.int64()), TIME)
    if pa.types.is_nested(column.type):
        return pa.array([None if cell is None else _json(cell) for cell in column.to_pylist()], TEXT)
    return pc.cast(column, TEXT)


def _json(cell: Any) -> str:
    return json.dumps(cell, default=str, ensure_ascii=False)


# ---- Parquet and Arrow


def _parquet(path: str, head: bytes) -> Source:
    if sniff(head)[1] != "Parquet":
        raise unknown(head, "table")
    file = pq.ParquetFile(path)
    return _typed(file.schema_arrow, file.metadata.num_rows, lambda: _valid(_parquet_batches(path)))


def _parquet_batches(path: str) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(BATCH_ROWS, use_threads=False)


def _arrow(path: str, head: bytes) -> Source:
    """An Arrow IPC file (Feather) or stream."""
    if sniff(head)[1] != "Arrow" and not head.startswith(b"\xff\xff\xff\xff"):
        raise unknown(head, "table")
    with pa.memory_map(path) as file:
        schema = _open_ipc(file).schema
    return _typed(schema, sum(batch.num_rows for batch in _arrow_batches(path)), lambda: _valid(_arrow_batches(path)))


def _arrow_batches(path: str) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(path) as file:
        reader = _open_ipc(file)
        if isinstance(reader, pa.RecordBatchFileReader):
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            yield from reader


def _open_ipc(file: pa.MemoryMappedFile) -> pa.RecordBatchFileReader | pa.RecordBatchStreamReader:
    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    return pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)


def _valid(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Check offsets and UTF-8 of batches from a file: Arrow trusts them, and reads out of bounds if they lie."""
    for batch in batches:
        batch.validate(full=True)
        yield batch


# ---- text


def _json_lines(path: str, head: bytes) -> Source:
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        raise Reject("WrongModality", "its lines are not JSON objects")
    connection = duckdb.connect(config=DUCKDB)
    table = f"read_json({_literal(path)}, format='newline_delimited', sample_size=-1)"
    names, types = zip(*[column[:2] for column in connection.execute(f"DESCRIBE FROM {table}").fetchall()], strict=True)
    # A column of mixed types comes as JSON; ->> takes the quotes off its texts.
    values = [_name(name) + (" ->> '$'" if type_ == "JSON" else "") for name, type_ in zip(names, types, strict=True)]
    rows = connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
    return _query(connection, values, table, names, rows)


def _separated(path: str, head: bytes) -> Source:
    """A file of separated values in UTF-8, UTF-16 or Latin-1."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _separated_in("utf-16", path, head)
    if CONTROL.search(head):
        raise Reject("WrongModality", "a binary file, not rows of text")
    try:
        return _separated_in("utf-8", path, head)
    except duckdb.Error as error:
        if "not utf-8 encoded" not in str(error):
            raise
    return _separated_in("latin-1", path, head)


def _separated_in(encoding: str, path: str, head: bytes) -> Source:
    connection = duckdb.connect(config=DUCKDB)
    dialect = _find_dialect(connection, path, encoding, head)
    # DuckDB would drop the rest of the file in silence.
    if dialect.quote == '"' and encoding != "utf-16" and _is_odd(path, b'"'):
        raise Reject("Corrupt", "a double quote opens a cell and none closes it")
    cells = [f"c{number}" for number in range(len(dialect.names))]
    table = _read_csv(path, dialect.arguments, len(cells))
    # The types were seen in the first rows; whether every cell has them only a pass over the file can tell.
    values = [dialect.value(cell, type_) for cell, type_ in zip(cells, dialect.types, strict=True)]
    counts = ", ".join(f"count({cell}), count({value})" for cell, value in zip(cells, values, strict=True))
    rows, *found = connection.execute(f"SELECT count(*), {counts} FROM {table}").fetchall()[0]
    for number, (given, parsed) in enumerate(zip(found[::2], found[1::2], strict=True)):
        if given != parsed:
            values[number] = dialect.value(cells[number], "VARCHAR")
    return _query(connection, values, table, dialect.names, rows)


def _query(
    connection: duckdb.DuckDBPyConnection, values: Sequence[str], table: str, names: Sequence[str], rows: int
) -> Source:
    """Return the source whose columns are expressions of SQL over a table."""
    query = f"SELECT {', '.join(f'{value} AS c{number}' for number, value in enumerate(values))} FROM {table}"
    types = connection.sql(query).limit(0).to_arrow_table().schema.types
    schema = pa.schema(list(zip(names, types, strict=True)))
    return _typed(schema, rows, lambda: connection.sql(query).to_arrow_reader(BATCH_ROWS))


def _read_csv(path: str, arguments: str, columns: int) -> str:
    """Return the call that gives the cells of a file as texts, in columns c0, c1, …"""
    texts = ", ".join(f"c{number}: 'VARCHAR'" for number in range(columns))
    fixed = "auto_detect=false, strict_mode=true"
    return f"read_csv({_literal(path)}, {fixed}, {arguments}, columns={{{texts}}})"


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How a file of separated values is written, and the columns in it.

    arguments: of read_csv. quote: '' for none. names, types: by the header and the first rows, in DuckDB's words.
    date_format, time_format: of the columns of dates and of times; '' for ISO 8601.
    """

    arguments: str
    quote: str
    names: list[str]
    types: list[str]
    date_format: str
    time_format: str

    def value(self, cell: str, type_: str) -> str:
        """Return the expression for a cell's value; NULL where the text is not of the type."""
        if type_ in ("BIGINT", "DOUBLE"):
            return f"TRY_CAST({cell} AS DOUBLE)"
        if type_ in ("DATE", "TIMESTAMP"):
            format_ = self.date_format if type_ == "DATE" else self.time_format
            return f"try_strptime({cell}, {_literal(format_)})" if format_ else f"TRY_CAST({cell} AS TIMESTAMP)"
        return f"nullif(trim({cell}), '')"


def _find_dialect(connection: duckdb.DuckDBPyConnection, path: str, encoding: str, head: bytes) -> _Dialect:
    """Find separator, quotes, header lines and types. Raises duckdb.Error and Reject."""
    missing = ", ".join(_literal(left + word + right) for word in MISSING for left in ("", " ") for right in ("", " "))
    common = f"encoding={_literal(encoding)}, nullstr=[{missing}]"
    types = "auto_type_candidates=['BIGINT', 'DOUBLE', 'DATE', 'TIMESTAMP', 'VARCHAR']"

    def sniff_csv(more: str = "") -> dict[str, Any]:
        found = connection.execute(f"FROM sniff_csv({_literal(path)}, {common}, {types}{more})")
        words = ["" if word == "(empty)" else word for word in found.fetchall()[0]]
        return dict(zip([column[0] for column in found.description], words, strict=True))

    try:
        found = sniff_csv()
    except duckdb.Error as error:
        if "not utf-8 encoded" not in str(error) and (uneven := _uneven(path, encoding)):
            raise Reject("Corrupt", uneven) from None
        raise
    if len(found["Columns"]) == 1 and (uneven := _uneven(path, encoding)):
        raise Reject("Corrupt", uneven)
    # Quotes that the first rows do not need may come later; where they stand among the cells they are no quotes.
    quote = found["Quote"] or ("" if b'"' in head else '"')
    marks = f"delim={_literal(found['Delimiter'])}, quote={_literal(quote)}, "
    marks += f"escape={_literal(found['Escape'] or quote)}, comment={_literal(found['Comment'])}, {common}"

    skip = found["SkipRows"]
    raw = _read_csv(path, f"{marks}, header=false, skip={skip}", len(found["Columns"]))
    first = connection.execute(f"FROM {raw} LIMIT 16").fetchall()
    lines = _header_lines(first, found["HasHeader"])
    if lines != int(found["HasHeader"]):
        skip += max(lines - 1, 0)
        found = sniff_csv(f", header={lines > 0}, skip={skip}, delim={_literal(found['Delimiter'])}")
    names = [column["name"] for column in found["Columns"]]
    if lines > 1:
        names = ["_".join(dict.fromkeys(filter(None, column))) for column in zip(*first[:lines], strict=True)]
    types_found = [column["type"] for column in found["Columns"]]
    for number, column in enumerate(zip(*first[lines:], strict=True)):
        if all(cell is None or UTC.fullmatch(cell.strip()) for cell in column) and any(column):
            types_found[number] = "TIMESTAMP"
    return _Dialect(
        arguments=f"{marks}, header={lines > 0}, skip={skip}",
        quote=quote,
        names=names,
        types=types_found,
        date_format=found["DateFormat"] or "",
        time_format=found["TimestampFormat"] or "",
    )


def _header_lines(rows: Sequence[Sequence[str | None]], sniffed: bool) -> int:
    """Return how many of the first rows are names; `sniffed`: whether DuckDB takes the first for names."""
    if (lines := _lines_of_words(rows)) > 1:
        return lines
    if not sniffed:
        return int(bool(rows) and _is_numbering(rows[0]))
    return int(not any(DECIMAL.fullmatch(cell) for cell in rows[0] if cell))


def _lines_of_words(rows: Sequence[Sequence[str | None]]) -> int:
    """Return the number of the last of the first rows, from 1, that has words over most of the columns of numbers."""
    for line in range(min(MAX_HEADER_LINES, len(rows) - 4) - 1, -1, -1):
        below = [[cell for cell in column if cell is not None] for column in zip(*rows[line + 1 :], strict=True)]
        numbers = [bool(column) and all(map(_is_number, column)) for column in below]
        above = [cell for cell, number in zip(rows[line], numbers, strict=True) if number]
        if above and sum(cell is not None and not _is_number(cell) for cell in above) > len(above) / 2:
            return line + 1
    return 0


def _is_numbering(row: Sequence[str | None]) -> bool:
    """Return whether a row counts its columns, 0 1 2 … or 1 2 3 …, perhaps after an empty cell: a header of numbers."""
    cells = list(row[1:] if row[0] is None else row)
    return len(cells) > 1 and any(cells == [str(first + number) for number in range(len(cells))] for first in (0, 1))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_odd(path: str, byte: bytes) -> bool:
    """Return whether a byte stands in a file an odd number of times."""
    with open(path, "rb") as stream:
        return sum(block.count(byte) for block in iter(lambda: stream.read(1 << 20), b"")) % 2 == 1


def _uneven(path: str, encoding: str) -> str:
    """Return where the rows of a file have different numbers of cells, by a separator of its first line; '' if not."""
    for separator in SEPARATORS:
        with open(path, newline="", encoding=encoding, errors="replace") as stream:
            reader = csv.reader(stream, delimiter=separator)
            try:
                width = len(next(reader))
                for row in reader if width > 1 else ():
                    if row and len(row) != width:
                        return f"line {reader.line_num} has {len(row)} cells where the first has {width}"
            except (csv.Error, StopIteration):
                continue
    return ""


def _duckdb_reason(message: str) -> str:
    """Return what DuckDB says is wrong, without its advice on arguments."""
    if uneven := re.search(r"on Line: (\d+).*?Expected Number of Columns: (\d+) Found: (\d+)", message, re.DOTALL):
        return f"line {uneven[1]} has {uneven[3]} cells where the header has {uneven[2]}"
    if "detect the CSV parsing dialect" in message:
        return "no separator splits its lines into the same number of cells"
    lines = [line for line in message.splitlines() if line and not line.startswith(("Original Line", "Possible"))]
    return " ".join(lines[:2])


def _literal(text: str) -> str:
    """Return text as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _name(text: str) -> str:
    """Return text as a name of SQL."""
    return '"' + text.replace('"', '""') + '"'


_OPENERS: dict[str, Callable[[str, bytes], Source]] = {
    **dict.fromkeys((".csv", ".tsv", ".tab", ".psv"), _separated),
    **dict.fromkeys((".jsonl", ".ndjson"), _json_lines),
    **dict.fromkeys((".arrow", ".arrows", ".feather", ".ipc"), _arrow),
    ".parquet": _parquet,
}
SUFFIXES = frozenset(_OPENERS)
