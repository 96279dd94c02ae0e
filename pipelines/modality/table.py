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
from itertools import accumulate, count, groupby, islice, repeat
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines.statistics import mean_std
from pipelines.tables import (
    CODED,
    NUMBER,
    SUFFIXES,
    TEXT,
    TIME,
    WHOLE_BYTES,
    Range,
    Source,
    open_source,
    reopen_source,
)
from pipelines.tables.blocks import moments, text_counts
from shard_tools.schema import Part

from . import base
from .base import Modality, Piece, Reject, Sample

ROWS = 256  # of a block
WINDOW_BYTES = 8 << 20
MAX_ROWS = 1 << 28
KINDS = {TEXT: "text", NUMBER: "number", TIME: "time"}
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"  # of Arrow's IPC


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
        """Yield the sample of each block, or why there is none, reading a window once for those that follow each other.

        Raises Reject.
        """
        if not all(piece.place for piece in pieces):
            pieces = self._placed(path, pieces)
        for place, group in groupby(pieces, key=lambda piece: piece.place):
            recipe, (number, first, rows, ranges) = json.loads(place)
            window, own = Window(number, first, rows, [Range(*range_) for range_ in ranges]), list(group)
            left = len(own)
            try:
                with reopen_source(path, recipe) as source:
                    for sample in self._blocks(path, source, window, own):
                        left -= 1
                        yield sample
            except Reject as reject:  # not to be found again, window and all, for every block
                yield from repeat(reject, left)

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
        samples = _samples(Path(path).stem, *_take(source, window, [block for block in blocks if len(block)]))
        for block in blocks:
            yield next(samples) if len(block) else Reject("Corrupt", "has fewer rows than when it was planned")


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


def _take(source: Source, window: Window, blocks: Sequence[np.ndarray]) -> tuple[pa.RecordBatch, np.ndarray]:
    """Return (the rows of some blocks, given by their numbers in the window, texts as CODED; where each block starts
    and ends, int64 [blocks, 2]).

    A block starts at a multiple of ROWS, but not at 0, and nulls lie between: so a slice is written like rows of its
    own, without bits of its neighbours. Raises Reject.
    """
    lengths = np.array([len(block) for block in blocks], np.int64)
    ends = np.cumsum([ROWS, *(-(-lengths // ROWS) * ROWS)])
    starts = ends[:-1]
    numbers = np.full(ends[-1], -1)
    for start, block in zip(starts, blocks, strict=True):
        numbers[start : start + len(block)] = block
    return source.take(window.ranges, numbers), np.stack([starts, starts + lengths], axis=1)


def _samples(stem: str, rows: pa.RecordBatch, blocks: np.ndarray) -> Iterator[Sample]:
    """Yield the sample of each block of some rows, as `_take` gives them; what can be is done once for all of them."""
    types = [TEXT if type_ == CODED else type_ for type_ in rows.schema.types]
    schema = pa.schema(list(zip(rows.schema.names, types, strict=True)))
    id_, columns = table_id(schema), _json([[field.name, KINDS[field.type]] for field in schema])
    head = schema.serialize().to_pybytes()
    is_text = np.array([type_ == TEXT for type_ in types])
    numbers = [_seconds(column) for column in rows.columns if column.type != CODED]
    sums, zeroed = moments(numbers, blocks[:, 0])
    texts = [column for column in rows.columns if column.type == CODED]
    texts_known, listed = text_counts(texts, blocks[:, 0])
    known = np.empty((len(blocks), len(types)), np.int64)
    known[:, ~is_text], known[:, is_text] = sums["count"], texts_known
    missing = (np.diff(blocks) - known).tolist()
    for number, batch in enumerate(_stored(rows, schema, zeroed, blocks.tolist())):
        shape = batch.num_rows, batch.num_columns
        summary = {
            "sources": {f"={stem}": batch.num_rows},  # '=': `merge` has its own idea of the keys min and max
            "columns": {columns: 1},
            "missing": missing[number],
            "numbers": {key: own[number] for key, own in sums.items()},
            "categories": list(islice(listed, len(texts))),
        }
        yield Sample(
            parts={
                "arrow": b"".join((head, batch.serialize(), END_OF_STREAM)),
                "json": {"table": id_, "rows": shape[0], "columns": shape[1]},
            },
            shape=shape,
            summary={"tables": {id_: summary}},
        )


def _stored(
    rows: pa.RecordBatch,
    schema: pa.Schema,
    zeroed: Sequence[tuple[np.ndarray, np.ndarray]],
    blocks: Sequence[tuple[int, int]],
) -> list[pa.RecordBatch]:
    """Return the blocks as they are stored, the texts of each without those that follow.

    zeroed: values and bits, as `moments` gives them, of the columns that are no texts.
    """
    own = iter(zeroed)
    columns = [column.indices if column.type == CODED else _zeroed(column, *next(own)) for column in rows.columns]
    plain = pa.RecordBatch.from_arrays(columns, rows.schema.names)
    chunks = pa.Table.from_batches([plain.slice(start, end - start) for start, end in blocks], plain.schema)
    stored = [
        column.dictionary.take(chunked) if column.type == CODED else chunked
        for column, chunked in zip(rows.columns, chunks.columns, strict=True)
    ]
    return pa.Table.from_arrays(stored, schema=schema).to_batches()


def _zeroed(column: pa.Array, values: np.ndarray, bits: np.ndarray) -> pa.Array:
    """Return numbers or times with zeros where they are null: what lies there is chance, and is stored.

    values, bits: of numbers, and which are known.
    """
    zeroed = values if column.type == NUMBER else column.cast(pa.int64()).fill_null(0).to_numpy()
    return pa.Array.from_buffers(column.type, len(column), [pa.py_buffer(bits), pa.py_buffer(zeroed)])


def _seconds(column: pa.Array) -> np.ndarray:
    """Return numbers as they are, times in seconds since 1970, NaN for nulls: float64 [rows]."""
    if column.type == TIME:
        column = pc.divide(pc.cast(pc.cast(column, pa.int64()), pa.float64(), safe=False), 1e6)
    return column.to_numpy(zero_copy_only=False)


def _table_statistics(found: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest's words on a table."""
    (packed,) = found["columns"]
    numbers, categories = count(), iter(found["categories"])
    columns = []
    for (name, kind), missing in zip(json.loads(packed), found["missing"], strict=True):
        if kind == "text":
            columns.append({"name": name, **_text_statistics(next(categories), missing)})
        else:
            number = next(numbers)
            own = {key: [values[number]] for key, values in found["numbers"].items()}
            columns.append({"name": name, "kind": kind, **_range(own), "missing": missing})
    return {"sources": sorted(source[1:] for source in found["sources"]), "columns": columns}


def _text_statistics(categories: dict[str, int] | None, missing: int) -> dict[str, Any]:
    """Return the manifest's words on a column of text: its categories, if it has few values."""
    if categories is None:
        return {"kind": "text", "missing": missing}
    ordered = sorted(categories.items(), key=lambda item: (-item[1], item[0]))
    return {
        "kind": "category",
        "missing": missing,
        "categories": [value for value, _ in ordered],
        "counts": [number for _, number in ordered],
    }


def _range(summary: dict[str, Any]) -> dict[str, float]:
    """Return mean, std, min and max of a column's moments; 0, 1, 0, 0 where every cell is missing."""
    if not summary["count"][0]:
        return {"mean": 0.0, "std": 1.0, "min": 0.0, "max": 0.0}
    values = mean_std(summary) | {"min": summary["min"], "max": summary["max"]}
    return {key: value[0] for key, value in values.items()}
