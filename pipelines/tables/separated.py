"""Files of separated values. DuckDB finds separator, quotes, header and types from the first rows, and parses them.

PyArrow parses a plain file several times as fast. It is asked only where it can but agree with DuckDB: no quotes,
comments or carriage returns, and cells of which it takes fewer than DuckDB does.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Self

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
from typing_extensions import override

from pipelines.modality.base import Reject

from .source import CODED, MAX_COLUMNS, NUMBER, RANGE_BYTES, TEXT, TIME, WHOLE_BYTES, Range, coded, one_dictionary
from .text import TYPES, Text, connect, literal

MAX_HEADER_LINES = 4
SEEN_ROWS = 20_000  # that tell a name from a value
PLAIN_BYTES = 8 << 20  # that PyArrow parses at once
SEEN_LINES = 1_000_000  # that are searched for one of another width, to say which it is
# Words that stand for a missing cell: those of pandas, and the '?' of the UCI archive.
MISSING = ("", "?", "#N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaN", "-NaN", "None", "n/a", "nan", "-nan", "null")
NULLS = [left + word + right for word in MISSING for left in ("", " ") for right in ("", " ")]
NOTHING = pa.array(NULLS)
LONGEST_NULL = max(map(len, NULLS))
SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
SEPARATORS = ",;\t|"
QUOTES = "\"'"  # that DuckDB tries
DECIMAL = re.compile(r"\s*-?\d*\.\d+\s*")  # a value, no name
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
UTC = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00)")  # DuckDB would drop other offsets
LONE_HOUR = len("2020-01-01 10")
KINDS = {"BIGINT": "n", "DOUBLE": "n", "DATE": "d", "TIMESTAMP": "t", "VARCHAR": "s"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file of separated values is written.

    newline: the first line's end. delimiter, quote, escape, comment: a character each, '' for none. skip, header: lines
    before the rows: those that are no part of the table, those of names. date_format, time_format: '' for ISO 8601.
    """

    encoding: str
    newline: str
    delimiter: str
    quote: str
    escape: str
    comment: str
    skip: int
    header: bool
    date_format: str
    time_format: str

    @property
    def marks(self) -> str:
        """The arguments of DuckDB's readers for the marks between cells."""
        marks = {"delim": self.delimiter, "quote": self.quote, "escape": self.escape, "comment": self.comment}
        return ", ".join(f"{name}={literal(mark)}" for name, mark in marks.items())


class Separated(Text):
    """A file of separated values in UTF-8, UTF-16 or Latin-1. plain: whether PyArrow can parse it."""

    suffixes = (".csv", ".tsv", ".tab", ".psv")

    def __init__(self, path: str, dialect: Dialect, names: list[str], kinds: str, plain: bool = False) -> None:
        super().__init__(path, dialect.encoding, dialect.newline)
        self.dialect, self.names, self.kinds, self.plain = dialect, names, kinds, plain

    @override
    @classmethod
    def open(cls, path: str, head: bytes, header: str) -> Self:
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            encoding = "utf-16-le" if head[0] == 0xFF else "utf-16-be"
        elif CONTROL.search(head):
            raise Reject("WrongModality", "a binary file, not rows of text")
        else:
            encoding = "utf-8" if _is_utf8(path) else "latin-1"
        line = head.decode(encoding, "replace").splitlines()[0]
        if (columns := 1 + max(map(line.count, SEPARATORS))) > MAX_COLUMNS:  # DuckDB would take minutes to find it out
            raise Reject("TooLarge", f"{columns:,} columns and more; a table may have {MAX_COLUMNS:,}")
        dialect, names, kinds = _find_dialect(path, encoding, head, header)
        file = cls(path, dialect, names, kinds, dialect.delimiter in line and _is_plain(path, dialect, kinds))
        # DuckDB would drop the rest of the file in silence. A large file is cut into ranges anyway.
        if file.size <= WHOLE_BYTES and dialect.quote and not file.plain and _is_odd(path, dialect.quote.encode()):
            file.ranges()
        return file

    @override
    @classmethod
    def reopen(cls, path: str, recipe: Any) -> Self:
        dialect, *found = recipe
        return cls(path, Dialect(*dialect), *found)

    @override
    @property
    def recipe(self) -> Any:
        return [astuple(self.dialect), self.names, self.kinds, self.plain]

    def ranges(self) -> list[Range]:
        """Return the ranges. Raises Reject where a quote is never closed."""
        from .records import starts  # takes two seconds to be compiled, which most tables need not wait for

        marks = {name: getattr(self.dialect, name) for name in ("delimiter", "quote", "escape", "comment")}
        found, is_open = starts(_characters(self.path, self.encoding), marks)
        if is_open:
            raise Reject("Corrupt", "a quote opens a cell and none closes it")
        width = 2 if self.encoding.startswith("utf-16") else 1
        cuts = sorted({0, *(place * width for place in found), self.size})
        return [Range(start, end - start) for start, end in pairwise(cuts)]

    @override
    def table(self, path: str, ranges: Sequence[Range]) -> str:
        dialect, is_head = self.dialect, not ranges or ranges[0].start == 0
        return _read_csv(
            path,
            dialect,
            encoding="utf-8" if ranges else self.encoding,
            header=dialect.header and is_head,
            skip=dialect.skip if is_head else 1,
            columns=len(self.names),
        )

    @override
    def before(self, ranges: Sequence[Range]) -> str:
        # DuckDB takes the first line's end for that of all lines, even if it lies inside quotes.
        return "" if ranges[0].start == 0 else f"skipped{self.newline}"

    @override
    def value(self, column: int, ranges: Sequence[Range]) -> str:
        cell, kind = f"c{column}", self.kinds[column]
        if kind == "s":
            return cell
        format_ = {"d": self.dialect.date_format, "t": self.dialect.time_format}.get(kind)
        if format_:
            return f"try_strptime({cell}, {literal(format_)})"
        # DuckDB makes a strict CAST of a TRY_CAST that it finds right above its reader.
        return f"TRY_CAST(nullif({cell}, '') AS {'DOUBLE' if kind == 'n' else 'TIMESTAMP'})"

    @override
    def is_wrong(self, column: int, ranges: Sequence[Range]) -> str:
        # CASE, and not AND, has DuckDB look at the words only of cells that have no value.
        return f"CASE WHEN {self.value(column, ranges)} IS NULL THEN NOT ({_is_null(f'c{column}')}) END"

    @override
    def count(self, ranges: Sequence[Range]) -> int:
        if self.plain:
            try:
                with self._file(ranges) as path:
                    how = self._plainly({"n": NUMBER, "d": TEXT, "t": TEXT}, self._skipped(ranges), PLAIN_BYTES)
                    return sum(map(_checked_rows, arrow_csv.open_csv(path, *how)))
            except pa.ArrowInvalid:
                self.plain = False
        return super().count(ranges)

    @override
    def raw(self, ranges: Sequence[Range]) -> Iterator[pa.RecordBatch]:
        return map(self._cleaned, super().raw(ranges))

    @override
    def take(self, ranges: Sequence[Range], numbers: np.ndarray) -> pa.RecordBatch:
        return self._take_lines(ranges, numbers) if self.plain else super().take(ranges, numbers)

    def _take_lines(self, ranges: Sequence[Range], numbers: np.ndarray) -> pa.RecordBatch:
        """Return rows of a plain file, where they are lines: they are put in order, and no others are parsed."""
        nothing = (self.dialect.delimiter * (len(self.names) - 1) + "\n").encode()
        lines, is_row = _lines(self._bytes(ranges), nothing)
        is_row[: self._skipped(ranges)] = False
        rows = np.flatnonzero(is_row)  # the last is `nothing`, for -1
        if numbers.max() >= len(rows) - 1:
            raise Reject("Corrupt", f"ends after {len(rows) - 1:,} rows, before those that were planned")
        taken = lines.take(pa.array(rows[numbers])).combine_chunks().buffers()[2]
        how = self._plainly(TYPES | {"s": CODED}, 0, max(taken.size, PLAIN_BYTES))
        (cells,) = arrow_csv.read_csv(pa.BufferReader(taken), *how).to_batches()
        columns = _recoded(one_dictionary(cells))
        return pa.RecordBatch.from_arrays([columns[number] for number in self._kept()], schema=coded(self.schema))

    def _bytes(self, ranges: Sequence[Range]) -> pa.Buffer:
        """Return some ranges of a plain file with what is to be put before them, or the whole file."""
        return pa.py_buffer(b"".join(self._texts(ranges))) if ranges else pa.memory_map(self.path).read_buffer()

    def _cleaned(self, cells: pa.RecordBatch) -> pa.RecordBatch:
        """Return cells as DuckDB gives them with texts as `_text` has them."""
        columns = [
            _text(column) if kind == "s" else column for column, kind in zip(cells.columns, self.kinds, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, cells.schema.names)

    def _skipped(self, ranges: Sequence[Range]) -> int:
        """Return how many lines of some ranges of a plain file, with what is put before them, are no rows."""
        return int(self.dialect.header or bool(ranges and ranges[0].start))

    def _plainly(
        self, types: dict[str, pa.DataType], skip: int, block_size: int
    ) -> tuple[arrow_csv.ReadOptions, arrow_csv.ParseOptions, arrow_csv.ConvertOptions]:
        """Return how PyArrow is to read a plain file: columns of some kinds, in the types given."""
        names = [f"c{number}" for number in range(len(self.names))]
        wanted = {name: types[kind] for name, kind in zip(names, self.kinds, strict=True) if kind in types}
        return (
            arrow_csv.ReadOptions(use_threads=False, block_size=block_size, column_names=names, skip_rows=skip),
            arrow_csv.ParseOptions(delimiter=self.dialect.delimiter, quote_char=False, double_quote=False),
            arrow_csv.ConvertOptions(
                column_types=wanted,
                include_columns=list(wanted) or names[:1],
                null_values=NULLS,
                strings_can_be_null=True,
            ),
        )


def _lines(text: pa.Buffer, last: bytes) -> tuple[pa.ChunkedArray, np.ndarray]:
    """Return (the lines of a text, each with its end, and one more; which of them are not empty: bool [lines])."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1
    mark = len(codecs.BOM_UTF8) if text[: len(codecs.BOM_UTF8)] == codecs.BOM_UTF8 else 0
    starts = np.append(mark, ends)
    ended = pa.Array.from_buffers(pa.large_binary(), len(ends), [None, pa.py_buffer(starts), text])
    rest = pa.array([text[int(starts[-1]) :].to_pybytes() + b"\n", last], pa.large_binary())
    lines = pa.chunked_array([ended, rest])
    return lines, pc.binary_length(lines).to_numpy() > len(b"\n")


def _checked_rows(batch: pa.RecordBatch) -> int:
    """Return how many rows there are. Raises pa.ArrowInvalid for a text that is no date or time."""
    for column in batch.columns:
        if column.type == TEXT:
            if pc.any(pc.equal(pc.binary_length(column), LONE_HOUR)).as_py():
                raise pa.ArrowInvalid("DuckDB takes no hour without minutes")
            pc.cast(column, TIME)
    return batch.num_rows


def _recoded(cells: pa.RecordBatch) -> list[pa.Array]:
    """Return columns that have one dictionary, with texts as `_text` has them."""
    dictionary = next((column.dictionary for column in cells.columns if column.type == CODED), NOTHING)
    texts = _text(dictionary).dictionary_encode()
    return [
        pa.DictionaryArray.from_arrays(texts.indices.take(column.indices), texts.dictionary)
        if column.type == CODED
        else column
        for column in cells.columns
    ]


def _text(cells: pa.Array) -> pa.Array:
    """Return the texts of cells without the spaces around them, null for words that stand for nothing."""
    known = pc.if_else(pc.is_in(cells, NOTHING), None, pc.utf8_trim(cells, SPACES))
    return pc.if_else(pc.equal(known, ""), None, known)


def _read_csv(path: str, dialect: Dialect, *, encoding: str, header: bool, skip: int, columns: int) -> str:
    """Return the SQL for the cells of a file as texts, in columns c0, c1, …"""
    texts = ", ".join(f"c{number}: 'VARCHAR'" for number in range(columns))
    return (
        f"read_csv({literal(path)}, auto_detect=false, strict_mode=true, {dialect.marks}, {_encoding(encoding)}, "
        f"header={header}, skip={skip}, columns={{{texts}}})"
    )


def _is_null(cell: str) -> str:
    """Return the SQL for whether a cell's text stands for nothing."""
    # The length is quicker to see than that it is none of the words.
    return f"strlen({cell}) <= {LONGEST_NULL} AND {cell} IN ({', '.join(map(literal, NULLS))})"


def _encoding(encoding: str) -> str:
    return f"encoding={literal('utf-16' if encoding.startswith('utf-16') else encoding)}"


def _find_dialect(path: str, encoding: str, head: bytes, header: str) -> tuple[Dialect, list[str], str]:
    """Find separator, quotes, header lines, names and kinds. Raises duckdb.Error and Reject."""
    connection = connect()
    nulls, marks = _candidates(path, encoding)
    types = f"auto_type_candidates=[{', '.join(map(literal, KINDS))}]"

    def sniff_csv(more: str = "") -> dict[str, Any]:
        arguments = f"{literal(path)}, {_encoding(encoding)}, {nulls}, {types}{marks}{more}"
        found = connection.execute(f"FROM sniff_csv({arguments})")
        words = ["" if word == "(empty)" else word for word in found.fetchall()[0]]
        return dict(zip([column[0] for column in found.description], words, strict=True))

    try:
        found = sniff_csv()
    except duckdb.Error:
        if uneven := _uneven(path, encoding):
            raise Reject("Corrupt", uneven) from None
        raise
    if len(found["Columns"]) == 1 and (uneven := _uneven(path, encoding)):
        raise Reject("Corrupt", uneven)
    # Quotes that the first rows do not need may come later; where they stand among the cells they are no quotes.
    quote = found["Quote"] or ("" if b'"' in head else '"')
    dialect = Dialect(
        encoding=encoding,
        newline=_newline(head.decode(encoding, "replace")),
        delimiter=found["Delimiter"],
        quote=quote,
        escape=found["Escape"] or quote,
        comment=found["Comment"],
        skip=found["SkipRows"],
        header=False,
        date_format="",
        time_format="",
    )
    columns = len(found["Columns"])
    cells = _read_csv(path, dialect, encoding=encoding, header=False, skip=dialect.skip, columns=columns)
    cells = cells[:-1] + f", {nulls})"
    if dialect.skip:
        _check_skipped(connection, cells, dialect, head)
    first = connection.execute(f"FROM {cells} LIMIT 16").fetchall()
    lines = _header_lines(first, found["HasHeader"])
    if header != "auto":
        lines = max(lines, 1) if header == "yes" else 0
    elif lines == 1 and {column["type"] for column in found["Columns"]} == {"VARCHAR"}:
        lines = int(not _recurs(connection, cells, first[0]))
    if lines != int(found["HasHeader"]):
        dialect = replace(dialect, skip=dialect.skip + max(lines - 1, 0))
        found = sniff_csv(f", header={lines > 0}, skip={dialect.skip}, delim={literal(dialect.delimiter)}")
    names = [column["name"] for column in found["Columns"]]
    if lines > 1:
        names = ["_".join(dict.fromkeys(filter(None, column))) for column in zip(*first[:lines], strict=True)]
    kinds = [KINDS[column["type"]] for column in found["Columns"]]
    for number, column in enumerate(zip(*first[lines:], strict=True)):
        if all(cell is None or UTC.fullmatch(cell.strip()) for cell in column) and any(column):
            kinds[number] = "t"
    dates, times = found["DateFormat"] or "", found["TimestampFormat"] or ""
    return replace(dialect, header=lines > 0, date_format=dates, time_format=times), names, "".join(kinds)


def _candidates(path: str, encoding: str) -> tuple[str, str]:
    """Return the arguments of sniff_csv for words and for quotes without those that a file, if it is small, has not.

    They make no difference to what is found, but every cell is compared with every word, and the rows are parsed for
    every mark that may be a quote.
    """
    file = Path(path)
    if file.stat().st_size > PLAIN_BYTES:
        return _nulls(NULLS), ""
    text = file.read_bytes()

    def stands(letter: str) -> bool:
        return letter.encode(encoding) in text

    is_quoted = any(map(stands, QUOTES))
    return (
        _nulls([word for word in NULLS if all(map(stands, word.strip()))]),
        "" if is_quoted else f", quote={literal(QUOTES[0])}, escape={literal(QUOTES[0])}",
    )


def _nulls(words: Sequence[str]) -> str:
    """Return the argument of DuckDB's readers for words that stand for nothing."""
    return f"nullstr=[{', '.join(map(literal, words))}]"


def _check_skipped(connection: duckdb.DuckDBPyConnection, cells: str, dialect: Dialect, head: bytes) -> None:
    """Raise Reject where what would be skipped is as much of a table as what would not."""
    lines = head.decode(dialect.encoding, "replace").splitlines()[: dialect.skip]
    skipped = sum(dialect.delimiter in line for line in lines)
    ((rows,),) = connection.execute(f"SELECT count(*) FROM (FROM {cells} LIMIT {SEEN_ROWS})").fetchall()
    if skipped >= rows:
        raise Reject("Corrupt", f"{skipped} lines have fewer cells than the {rows} that come after them")


def _newline(text: str) -> str:
    """Return the first end of a line in a text."""
    found = re.search("\r\n|\n|\r", text)
    return found[0] if found else "\n"


def _recurs(connection: duckdb.DuckDBPyConnection, cells: str, first: Sequence[str | None]) -> bool:
    """Return whether half of the first row's texts come again further down in their columns: values, and no names.

    Rows that are equal to the first are not counted: headers of tables that were joined.
    """
    same = [f"coalesce(c{number} = {literal(cell)}, false)" for number, cell in enumerate(first) if cell is not None]
    if not same:
        return False
    again = ", ".join(f"bool_or({cell})" for cell in same)
    below = f"(FROM {cells} LIMIT {SEEN_ROWS} OFFSET 1)"
    (found,) = connection.execute(f"SELECT {again} FROM {below} WHERE NOT ({' AND '.join(same)})").fetchall()
    return sum(filter(None, found)) * 2 >= len(first)


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


def _blocks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield from iter(lambda: file.read(RANGE_BYTES), b"")


def _characters(path: str, encoding: str) -> Iterator[np.ndarray]:
    """Yield a file as integers, one a byte, or one a code unit of UTF-16; the byte order mark is a space."""
    mark = {"utf-8": b"\xef\xbb\xbf", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b" ")
    spaces = (" " * (len(mark) if encoding == "utf-8" else 1)).encode(encoding)
    for number, block in enumerate(_blocks(path)):
        if number == 0 and block.startswith(mark):
            block = spaces + block[len(mark) :]
        if encoding.startswith("utf-16"):
            units = np.frombuffer(block[: len(block) // 2 * 2], "<u2" if encoding == "utf-16-le" else ">u2")
            yield units.astype(np.uint16)
        else:
            yield np.frombuffer(block, np.uint8)


def _is_utf8(path: str) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in _blocks(path):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_odd(path: str, byte: bytes) -> bool:
    """Return whether a byte stands in a file an odd number of times."""
    return sum(block.count(byte) for block in _blocks(path)) % 2 == 1


def _is_plain(path: str, dialect: Dialect, kinds: str) -> bool:
    """Return whether there are no quotes, and PyArrow would find the same rows and times as DuckDB."""
    formats = {"d": dialect.date_format, "t": dialect.time_format}
    if dialect.encoding != "utf-8" or dialect.skip or dialect.comment or any(formats.get(kind) for kind in kinds):
        return False
    odd = [mark for mark in (b"\r", b"\0", dialect.quote.encode()) if mark]
    return not any(mark in block for block in _blocks(path) for mark in odd)


def _uneven(path: str, encoding: str) -> str:
    """Return where the rows of a file have different numbers of cells, by a separator of its first line; '' if not."""
    for separator in SEPARATORS:
        with open(path, newline="", encoding=encoding, errors="replace") as stream:
            reader = csv.reader(islice(stream, SEEN_LINES), delimiter=separator)
            try:
                width = len(next(reader))
                for row in reader if width > 1 else ():
                    if row and len(row) != width:
                        return f"line {reader.line_num} has {len(row)} cells where the first has {width}"
            except (csv.Error, StopIteration):
                continue
    return ""
