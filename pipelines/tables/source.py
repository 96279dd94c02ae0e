"""What can be read of a table in a file: parts of it, in columns of the three types that a table sample has."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.modality.base import Reject

NUMBER, TEXT, TIME = pa.float64(), pa.string(), pa.timestamp("us")
CODED = pa.dictionary(pa.int32(), TEXT)  # texts as they are read: most columns repeat theirs

BATCH_ROWS = 8192
WHOLE_BYTES = 64 << 20  # a table of at most this size is read whole
RANGE_BYTES = 1 << 20
MAX_COLUMNS = 10_000
FLOAT32_MAX = float(np.finfo(np.float32).max)
INT64_MAX = 2**63 - 1
MICROS = {"s": 10**6, "ms": 10**3}  # in a unit of Arrow's
PANDAS_INDEX = re.compile(r"__index_level_\d+__")


class Range(NamedTuple):
    """A part of a file that can be read on its own. start, length: in bytes of text, in rows of Parquet and Arrow."""

    start: int
    length: int


class Source(ABC):
    """A table in a file. What its methods raise, `pipelines.tables.rejecting` turns into Reject."""

    suffixes: ClassVar[tuple[str, ...]]  # of file names, lower-case with the dot

    @classmethod
    @abstractmethod
    def open(cls, path: str, head: bytes, header: str) -> Self:
        """Open a file whose first bytes are `head`. header: whether text begins with names: auto, yes or no."""

    @classmethod
    @abstractmethod
    def reopen(cls, path: str, recipe: Any) -> Self:
        """Open a file as it was found before."""

    @property
    @abstractmethod
    def recipe(self) -> Any:
        """What `reopen` needs, to be stored as JSON. Final when all rows were counted."""

    @property
    @abstractmethod
    def columns(self) -> pa.Schema:
        """The columns as `raw` gives them. Final when all rows were counted."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How large the table is: the file, or what it takes in memory where that is more."""

    @abstractmethod
    def ranges(self) -> list[Range]:
        """Return ranges of about RANGE_BYTES that make up the file, in order."""

    @abstractmethod
    def count(self, ranges: Sequence[Range]) -> int:
        """Return how many rows some ranges have, without any the file; see to it that columns have the right types."""

    @abstractmethod
    def raw(self, ranges: Sequence[Range]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of some ranges, ascending, without any of the file."""

    @property
    def schema(self) -> pa.Schema:
        """Unique names of the columns and their types, each NUMBER, TEXT or TIME. Raises Reject."""
        kept, columns = self._kept(), self.columns
        if not kept:
            raise Reject("Empty", "has no columns")
        if len(kept) > MAX_COLUMNS:
            raise Reject("TooLarge", f"{len(kept):,} columns; a table may have {MAX_COLUMNS:,}")
        names = unique([columns.names[number] for number in kept])
        types = [_type(name, columns.field(number).type) for name, number in zip(names, kept, strict=True)]
        return pa.schema(list(zip(names, types, strict=True)))

    def batches(self, ranges: Sequence[Range]) -> Iterator[pa.RecordBatch]:
        """Yield the rows that `raw` gives, at most BATCH_ROWS at once, as `schema` has them, with TEXT as CODED."""
        schema, kept = coded(self.schema), self._kept()
        for batch in self.raw(ranges):
            for start in range(0, batch.num_rows, BATCH_ROWS):
                columns = map(batch.slice(start, BATCH_ROWS).column, kept)
                yield pa.RecordBatch.from_arrays(list(map(_convert, columns, schema.types)), schema=schema)

    def take(self, ranges: Sequence[Range], numbers: np.ndarray) -> pa.RecordBatch:
        """Return the rows with some numbers among those of some ranges, as `batches` has them. Raises Reject.

        numbers: int64 [n], in any order; for -1 a row of nulls. All texts are in one dictionary.
        """
        is_wanted = np.zeros(numbers.max(initial=-1) + 2, bool)
        is_wanted[numbers] = True
        is_wanted[-1] = False  # where -1 points to
        wanted = np.flatnonzero(is_wanted)
        kept, first = [], 0
        for batch in self.batches(ranges):
            start, end = np.searchsorted(wanted, [first, first + batch.num_rows])
            if end - start == batch.num_rows:
                kept.append(batch)
            elif end > start:
                kept.append(batch.take(pa.array(wanted[start:end] - first)))
            first += batch.num_rows
            if end == len(wanted):
                break
        if sum(batch.num_rows for batch in kept) < len(wanted):
            raise Reject("Corrupt", f"ends after {first:,} rows, before those that were planned")
        rank = np.cumsum(is_wanted) - 1
        joined = pa.Table.from_batches(kept, coded(self.schema)).unify_dictionaries().combine_chunks()
        rows = joined.take(pa.array(rank[numbers], mask=numbers < 0))
        return one_dictionary(rows.to_batches()[0])

    def _kept(self) -> list[int]:
        return [number for number, name in enumerate(self.columns.names) if not PANDAS_INDEX.fullmatch(name)]


def coded(schema: pa.Schema) -> pa.Schema:
    """Return the schema with CODED in place of TEXT."""
    types = (CODED if type_ == TEXT else type_ for type_ in schema.types)
    return pa.schema(list(zip(schema.names, types, strict=True)))


def one_dictionary(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows with one dictionary for all CODED columns: what is done to texts is then done once."""
    columns = list(rows.columns)
    places = [place for place, column in enumerate(columns) if column.type == CODED]
    unified = pa.chunked_array([columns[place] for place in places], CODED).unify_dictionaries()
    for place, column in zip(places, unified.chunks, strict=True):
        columns[place] = column
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def unique(names: Sequence[str]) -> list[str]:
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
    """Return a column as NUMBER, TIME (UTC) or CODED (nested values as JSON)."""
    if isinstance(column, pa.ExtensionArray):
        return _convert(column.storage, target)
    if isinstance(column, pa.DictionaryArray):
        return _convert(column.dictionary, target).take(column.indices)
    if target == NUMBER:
        if pa.types.is_duration(column.type):
            micros = pc.cast(_known(column), pa.duration("us"), safe=False)
            column = pc.divide(pc.cast(micros, pa.int64()), pa.scalar(1e6))
        return pc.cast(column, NUMBER, safe=False)
    if target == TIME:
        zone = column.type.tz if pa.types.is_timestamp(column.type) else None
        instants = pc.cast(_known(column), pa.timestamp("us", zone), safe=False)
        return pc.cast(pc.cast(instants, pa.int64()), TIME)
    if pa.types.is_nested(column.type):
        column = pa.array([None if cell is None else _json(cell) for cell in column.to_pylist()], TEXT)
    return pc.cast(column, TEXT).dictionary_encode()


def _known(column: pa.Array) -> pa.Array:
    """Return instants or durations with nulls for those too far off for 64 bits of microseconds."""
    if pa.types.is_date32(column.type):
        column = pc.cast(column, pa.date64())
    micros = MICROS.get("ms" if pa.types.is_date64(column.type) else column.type.unit, 1)
    ticks, most = column.view(pa.int64()), INT64_MAX // micros
    return pc.if_else(pc.and_(pc.greater_equal(ticks, -most), pc.less_equal(ticks, most)), column, None)


def _json(cell: Any) -> str:
    return json.dumps(cell, default=str, ensure_ascii=False)
