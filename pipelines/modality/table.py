"""Tables: any common format → Arrow blocks of 256 rows with three types of columns, and what each column holds.

Columns are float64, string or timestamp[us]; what cannot be a value (NaN, infinity, '?', 'NA' in text files) is a null.

A table of up to 64 MB is read whole. A larger one is cut into ranges of about 1 MB (a row group of Parquet is not cut),
which are dealt by chance to windows of 8 MB; rows are mixed inside a window. So time grows with the file as it is, and
memory not at all, while a window holds rows from everywhere.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import accumulate, count, groupby
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines.statistics import mean_std, moments
from pipelines.tables import NUMBER, SUFFIXES, TEXT, TIME, WHOLE_BYTES, Range, Source, open_source, reopen_source
from shard_tools.schema import Part

from . import base
from .base import Modality, Piece, Reject, Sample

ROWS = 256  # of a block
WINDOW_BYTES = 8 << 20
MAX_ROWS = 1 << 28
MAX_CATEGORIES = 256  # distinct values of a category column
LISTED_VALUES = 200  # distinct values of a column that a block lists; more than this in 256 rows is free text
LISTED_LENGTH = 256  # characters; a longer value is free text


class Options(base.Options):
    """What a user may choose about tables."""

    order: Literal["shuffle", "keep"] = Field(
        "shuffle",
        description="shuffle draws every row to a split and mixes the rows of a table, of one beyond 64 MB within "
        "windows of about 8 MB that are gathered from all over it; keep leaves them in their order",
    )
    header: Literal["auto", "yes", "no"] = Field(
        "auto", description="whether separated values begin with the names of the columns"
    )


@dataclass(frozen=True, slots=True)
class Window:
    """Rows that are read together and mixed with each other.

    number: of the window. first: rows of the windows before it. rows: its own. ranges: of the file; none for all of it.
    """

    number: int
    first: int
    rows: int
    ranges: list[Range]


class Table(Modality[Options]):
    """The builder of tables."""

    name = "table"
    suffixes = SUFFIXES
    Options = Options
    facts: ClassVar[dict[str, Any]] = {"table": "", "rows": -1, "columns": -1}
    parts = {  # noqa: RUF012 - as the base class declares
        "arrow": Part(description=f"Arrow IPC stream of at most {ROWS} rows; float64, string, timestamp[us] columns"),
        "json": Part(description="source, label, group, start, end, " + ", ".join(facts)),
    }
    layers = {}  # noqa: RUF012

    def probe(self, path: str) -> list[Piece]:
        """Return a piece for every block of the table, from one pass over it. Raises Reject.

        start and end count the rows in the order that the blocks have: window after window, in each with `shuffle`
        first the training rows and then the validation rows, both mixed; with `keep` the file's own.
        """
        places, row_bytes = self._places(path)
        return [
            Piece(first, min(first + ROWS, end), int(min(ROWS, end - first) * row_bytes) + 2048, split, place)
            for place, window in places
            for start, end, split in self._cuts(path, window)
            for first in range(start, end, ROWS)
        ]

    def build(self, path: str, pieces: Sequence[Piece]) -> Iterator[Sample | Reject]:
        """Yield the sample of each block, reading a window once for those that follow each other. Raises Reject."""
        if not all(piece.place for piece in pieces):
            pieces = self._placed(path, pieces)
        for place, group in groupby(pieces, key=lambda piece: piece.place):
            recipe, (number, first, rows, ranges) = json.loads(place)
            window = Window(number, first, rows, [Range(*range_) for range_ in ranges])
            with reopen_source(path, recipe) as source:
                yield from self._blocks(path, source, window, list(group))

    def statistics(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Return {'tables': {id: {'sources': […], 'columns': […]}}}, the columns in the order of the table."""
        return {
            "tables": {table: _table_statistics(found) for table, found in sorted(summary.get("tables", {}).items())}
        }

    def _places(self, path: str) -> tuple[list[tuple[str, Window]], float]:
        """Return (the windows of a table, each with what a piece of it carries as its place; bytes a row)."""
        with open_source(path, self.options.header) as source:
            groups = self._deal(path, source.ranges(), source.size) if source.size > WHOLE_BYTES else [[]]
            rows = [source.count(ranges) for ranges in groups]
            if not sum(rows):
                raise Reject("Empty", "has no rows, only the names of columns")
            if sum(rows) > MAX_ROWS:
                raise Reject("TooLarge", f"{sum(rows):,} rows; a table may have {MAX_ROWS:,}")
            firsts = accumulate(rows, initial=0)
            windows = [Window(*window) for window in zip(range(len(rows)), firsts, rows, groups, strict=False)]
            size = source.size if len(windows) > 1 else Path(path).stat().st_size
            recipe, _ = source.recipe, source.schema  # no columns, or bytes in them, are a reject now
        return [(_json([recipe, astuple(window)]), window) for window in windows], size / sum(rows)

    def _placed(self, path: str, pieces: Sequence[Piece]) -> list[Piece]:
        """Return pieces that know only their rows with their places."""
        places, _ = self._places(path)
        firsts = [window.first for _, window in places]
        return [replace(piece, place=places[bisect_right(firsts, piece.start) - 1][0]) for piece in pieces]

    def _deal(self, path: str, ranges: Sequence[Range], size: int) -> list[list[Range]]:
        """Return the ranges of each window; those of a table have so many bytes together."""
        order: list[int] = list(range(len(ranges)))
        if self.options.order == "shuffle":
            order = _chance(self.seed, path).permutation(len(ranges)).tolist()
        lengths = np.array([ranges[number].length for number in order])
        before = (np.cumsum(lengths) - lengths) * (size / max(lengths.sum(), 1))
        windows = groupby(zip(order, before // WINDOW_BYTES, strict=True), key=lambda item: item[1])
        return [[ranges[number] for number in sorted(number for number, _ in own)] for _, own in windows]

    def _order(self, path: str, window: Window) -> tuple[np.ndarray, int]:
        """Return (the number in the window of the row at each place, int64 [rows]; how many are for training)."""
        if self.options.order == "keep":
            return np.arange(window.rows), window.rows
        rng, held_out = self._held_out(path, window)
        mixed = rng.permutation(window.rows)
        return np.concatenate([mixed[~held_out[mixed]], mixed[held_out[mixed]]]), int(window.rows - held_out.sum())

    def _held_out(self, path: str, window: Window) -> tuple[np.random.Generator, np.ndarray]:
        """Return (the source of chance, having drawn which rows are for validation; those: bool [rows])."""
        rng = _chance(self.seed, path, *([window.number] if window.ranges else []))
        return rng, rng.random(window.rows) < self.val_share

    def _cuts(self, path: str, window: Window) -> list[tuple[int, int, str]]:
        """Return where the blocks of each split start and end, and the split's name."""
        start, end = window.first, window.first + window.rows
        if self.options.order == "keep":
            return [(start, end, "")]
        middle = end - int(self._held_out(path, window)[1].sum())
        return [(start, middle, "train"), (middle, end, "val")]

    def _blocks(self, path: str, source: Source, window: Window, pieces: Sequence[Piece]) -> Iterator[Sample | Reject]:
        """Yield the samples of pieces of one window."""
        order, _ = self._order(path, window)
        blocks = [
            order[int(piece.start) - window.first : int(piece.end) - window.first if piece.end >= 0 else None]
            for piece in pieces
        ]
        rows, starts = _take(source, window, blocks)
        make = _Blocks(Path(path).stem, rows)
        for start, block in zip(starts, blocks, strict=True):
            if len(block):
                yield make.sample(start, start + len(block))
            else:
                yield Reject("Corrupt", "has fewer rows than when it was planned")


def table_id(schema: pa.Schema) -> str:
    """Return the id of all tables with these column names and types, in this order: 12 hex digits."""
    columns = json.dumps([[field.name, str(field.type)] for field in schema], ensure_ascii=False)
    return hashlib.sha256(columns.encode()).hexdigest()[:12]


def _chance(seed: int, path: str, *more: int) -> np.random.Generator:
    """Return the source of chance of a table, or of one of its windows."""
    digest = hashlib.sha256(" ".join(map(str, (seed, Path(path).stem, *more))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16]))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _take(source: Source, window: Window, blocks: Sequence[np.ndarray]) -> tuple[pa.RecordBatch, list[int]]:
    """Return (the rows of some blocks, given by their numbers in the window; where each block starts).

    A block starts at a multiple of ROWS, but not at 0, and nulls lie between: so a slice is written like rows of its
    own, without bits of its neighbours. Raises Reject.
    """
    is_wanted = np.zeros(window.rows, bool)
    is_wanted[np.concatenate(blocks)] = True
    wanted = np.flatnonzero(is_wanted)
    kept, first = [], 0
    for batch in source.batches(window.ranges):
        start, end = np.searchsorted(wanted, [first, first + batch.num_rows])
        if end > start:
            kept.append(batch.take(pa.array(wanted[start:end] - first)))
        first += batch.num_rows
        if end == len(wanted):
            break
    if sum(batch.num_rows for batch in kept) < len(wanted):
        raise Reject("Corrupt", f"ends after {first:,} of {window.rows:,} rows")
    starts = list(accumulate((-(-len(block) // ROWS) * ROWS for block in blocks), initial=ROWS))
    rank = np.cumsum(is_wanted) - 1
    places = np.full(starts[-1], -1)
    for start, block in zip(starts, blocks, strict=False):
        places[start : start + len(block)] = rank[block]
    indices = pa.array(places, mask=places < 0)
    return pa.Table.from_batches(kept, source.schema).combine_chunks().take(indices).to_batches()[0], starts[:-1]


class _Blocks:
    """Makes samples of slices of some rows; all that can be is done once for all rows."""

    def __init__(self, stem: str, rows: pa.RecordBatch) -> None:
        self.stem, self.id, self.rows = stem, table_id(rows.schema), _plain(rows)
        kinds = ["text" if type_ == TEXT else "number" if type_ == NUMBER else "time" for type_ in rows.schema.types]
        self.columns = _json(list(zip(rows.schema.names, kinds, strict=True)))
        self.numbers = np.array([_seconds(column) for column in rows.columns if column.type != TEXT])
        self.numbers = self.numbers.reshape(-1, rows.num_rows)
        self.texts = {n: _Texts(column) for n, column in enumerate(rows.columns) if column.type == TEXT}

    def sample(self, start: int, end: int) -> Sample:
        """Return the sample of the rows from `start` to `end`."""
        block = _slice(self.rows, start, end)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, block.schema) as writer:
            writer.write_batch(block)
        summary = {
            "sources": {self.stem: block.num_rows},
            "columns": {self.columns: 1},
            "missing": [column.null_count for column in block.columns],
            "numbers": moments(self.numbers[:, start:end].T),
            "texts": {str(number): texts.count(start, end) for number, texts in self.texts.items()},
        }
        return Sample(
            parts={
                "arrow": sink.getvalue().to_pybytes(),
                "json": {"table": self.id, "rows": block.num_rows, "columns": block.num_columns},
            },
            shape=(block.num_rows, block.num_columns),
            summary={"tables": {self.id: summary}},
        )


def _slice(rows: pa.RecordBatch, start: int, end: int) -> pa.RecordBatch:
    """Return some rows, with texts that are stored without those that follow."""
    part = rows.slice(start, end - start)
    texts = [number for number, type_ in enumerate(rows.schema.types) if type_ == TEXT]
    copied = part.select(texts).take(pa.array(np.arange(end - start)))
    columns = part.columns
    for number, column in zip(texts, copied.columns, strict=True):
        columns[number] = column
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


class _Texts:
    """Counts the values of a column of texts."""

    def __init__(self, column: pa.Array) -> None:
        encoded = column.dictionary_encode()
        self.values = encoded.dictionary.to_pylist()
        self.is_long = pc.greater(pc.utf8_length(encoded.dictionary), LISTED_LENGTH).to_numpy(zero_copy_only=False)
        self.codes = encoded.indices.fill_null(-1).to_numpy()

    def count(self, start: int, end: int) -> dict[str, Any]:
        """Return how often each value stands in some rows, or how many there are of free text.

        A value has '=' before it, since `merge` has its own idea of the keys min and max.
        """
        codes = np.sort(self.codes[start:end])
        codes = codes[np.searchsorted(codes, 0) :]
        first = np.flatnonzero(np.concatenate([codes[:1] >= 0, codes[1:] != codes[:-1]]))
        found, counts = codes[first], np.append(first[1:], len(codes)) - first
        if len(found) > LISTED_VALUES or self.is_long[found].any():
            return {"text": len(codes)}
        listed = zip((f"={self.values[code]}" for code in found), counts.tolist(), strict=True)
        return {"category": dict(sorted(listed))}


def _plain(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows with zeros where their numbers and times are null: what lies there is chance, and is stored."""
    columns = []
    for column in rows.columns:
        if column.type != TEXT:
            values = column.fill_null(pa.scalar(0, column.type)).to_numpy()
            column = pa.array(values, column.type, mask=column.is_null().to_numpy(zero_copy_only=False))
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def _seconds(column: pa.Array) -> np.ndarray:
    """Return numbers as they are, times in seconds since 1970, NaN for nulls: float64 [rows]."""
    if column.type == TIME:
        column = pc.divide(pc.cast(pc.cast(column, pa.int64()), pa.float64(), safe=False), 1e6)
    return column.to_numpy(zero_copy_only=False)


def _table_statistics(found: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest's words on a table."""
    (packed,) = found["columns"]
    numbers = count()
    columns = []
    for column, ((name, kind), missing) in enumerate(zip(json.loads(packed), found["missing"], strict=True)):
        if kind == "text":
            columns.append({"name": name, **_text_statistics(found["texts"][str(column)], missing)})
        else:
            number = next(numbers)
            own = {key: [values[number]] for key, values in found["numbers"].items()}
            columns.append({"name": name, "kind": kind, **_range(own), "missing": missing})
    return {"sources": sorted(found["sources"]), "columns": columns}


def _text_statistics(summary: dict[str, Any], missing: int) -> dict[str, Any]:
    """Return the manifest's words on a column of text: its categories, if it has few values."""
    counts = summary.get("category", {})
    if "text" in summary or len(counts) > MAX_CATEGORIES:
        return {"kind": "text", "missing": missing}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {
        "kind": "category",
        "missing": missing,
        "categories": [value[1:] for value, _ in ordered],
        "counts": [number for _, number in ordered],
    }


def _range(summary: dict[str, Any]) -> dict[str, float]:
    """Return mean, std, min and max of a column's moments; 0, 1, 0, 0 where every cell is missing."""
    if not summary["count"][0]:
        return {"mean": 0.0, "std": 1.0, "min": 0.0, "max": 0.0}
    values = mean_std(summary) | {"min": summary["min"], "max": summary["max"]}
    return {key: value[0] for key, value in values.items()}
