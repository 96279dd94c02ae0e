"""Tables: any common format → Arrow blocks of 256 rows with three types of columns, and what each column holds.

Columns are float64, string or timestamp[us]; what cannot be a value (NaN, infinity, '?', 'NA' in text files) is a null.
Files are read as a stream, so memory follows the blocks that are asked for, not the file.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines.statistics import mean_std, moments
from shard_tools.schema import Part

from . import base
from .base import Modality, Piece, Reject, Sample
from .tabular import NUMBER, SUFFIXES, TIME, Source, open_source

ROWS = 256  # of a block
MAX_CATEGORIES = 256  # distinct values of a category column
LISTED_VALUES = 200  # distinct values of a column that a block lists; more than this in 256 rows is free text
LISTED_LENGTH = 256  # characters; a longer value is free text


class Options(base.Options):
    """What a user may choose about tables."""

    order: Literal["shuffle", "keep"] = Field(
        "shuffle",
        description="shuffle draws every row to a split and mixes the rows of a table; keep leaves them in their order",
    )


class Table(Modality[Options]):
    """The builder of tables."""

    name = "table"
    suffixes = SUFFIXES
    Options = Options
    parts = {  # noqa: RUF012 - as the base class declares
        "arrow": Part(description=f"Arrow IPC stream of at most {ROWS} rows; float64, string, timestamp[us] columns"),
        "json": Part(description="source, label, group, start, end, table, rows, columns"),
    }
    layers = {}  # noqa: RUF012

    def probe(self, path: str) -> list[Piece]:
        """Return a piece for every block of the table. Raises Reject.

        start and end count the rows in the order that the blocks have: with `shuffle` first the training rows and then
        the validation rows, each mixed; with `keep` the file's own.
        """
        with open_source(path) as source:
            rows = source.rows
        row_bytes = Path(path).stat().st_size / rows
        _, training = self._order(path, rows)
        cuts = [(0, training, "train"), (training, rows, "val")] if self.options.order == "shuffle" else [(0, rows, "")]
        return [
            Piece(first, min(first + ROWS, end), int(min(ROWS, end - first) * row_bytes) + 2048, split)
            for start, end, split in cuts
            for first in range(start, end, ROWS)
        ]

    def build(self, path: str, pieces: Sequence[Piece]) -> Iterator[Sample | Reject]:
        """Yield the sample of each block, from one pass over the file. Raises Reject."""
        with open_source(path) as source:
            order, _ = self._order(path, source.rows)
            blocks = [order[int(piece.start) : int(piece.end) if piece.end >= 0 else None] for piece in pieces]
            wanted = np.unique(np.concatenate(blocks))
            rows = _take(source, wanted)
        for block in blocks:
            if not len(block):
                yield Reject("Corrupt", "has fewer rows than when it was planned")
                continue
            yield _sample(Path(path).stem, _plain(rows.take(pa.array(np.searchsorted(wanted, block)))))

    def statistics(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Return {'tables': {id: {'sources': […], 'columns': […]}}}, the columns in the order of the table."""
        tables = {}
        for table, found in sorted(summary.get("tables", {}).items()):
            columns = [(key.split(" ", 1)[1], column) for key, column in sorted(found["columns"].items())]
            tables[table] = {
                "sources": sorted(found["sources"]),
                "columns": [_column_statistics(name, column) for name, column in columns],
            }
        return {"tables": tables}

    def _order(self, path: str, rows: int) -> tuple[np.ndarray, int]:
        """Return (the number in the file of the row at each place, int64 [rows]; how many of them are for training)."""
        if self.options.order == "keep":
            return np.arange(rows), rows
        digest = hashlib.sha256(f"{self.seed} {Path(path).stem}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:16]))
        held_out = rng.random(rows) < self.val_share
        mixed = rng.permutation(rows)
        return np.concatenate([mixed[~held_out[mixed]], mixed[held_out[mixed]]]), int(rows - held_out.sum())


def table_id(schema: pa.Schema) -> str:
    """Return the id of all tables with these column names and types, in this order: 12 hex digits."""
    columns = json.dumps([[field.name, str(field.type)] for field in schema], ensure_ascii=False)
    return hashlib.sha256(columns.encode()).hexdigest()[:12]


def _take(source: Source, wanted: np.ndarray) -> pa.RecordBatch:
    """Return the rows whose numbers, ascending, are wanted, out of a stream of batches. Raises Reject."""
    kept, first = [], 0
    for batch in source.batches():
        start, end = np.searchsorted(wanted, [first, first + batch.num_rows])
        if end > start:
            kept.append(batch.take(pa.array(wanted[start:end] - first)))
        first += batch.num_rows
        if end == len(wanted):
            break
    if sum(batch.num_rows for batch in kept) < len(wanted):
        raise Reject("Corrupt", f"ends after {first:,} of {source.rows:,} rows")
    return pa.Table.from_batches(kept, source.schema).combine_chunks().to_batches()[0]


def _plain(block: pa.RecordBatch) -> pa.RecordBatch:
    """Return the block with zeros where its numbers and times are null: what lies there is chance, and is stored."""
    columns = []
    for column in block.columns:
        if column.type in (NUMBER, TIME):
            values = column.fill_null(pa.scalar(0, column.type)).to_numpy()
            column = pa.array(values, column.type, mask=column.is_null().to_numpy(zero_copy_only=False))
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=block.schema)


def _sample(stem: str, block: pa.RecordBatch) -> Sample:
    """Return the sample of a block."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, block.schema) as writer:
        writer.write_batch(block)
    table = table_id(block.schema)
    columns = {
        f"{number:05d} {name}": _column_summary(block.column(number)) for number, name in enumerate(block.schema.names)
    }
    return Sample(
        parts={
            "arrow": sink.getvalue().to_pybytes(),
            "json": {"table": table, "rows": block.num_rows, "columns": block.num_columns},
        },
        shape=(block.num_rows, block.num_columns),
        summary={"tables": {table: {"sources": {stem: block.num_rows}, "columns": columns}}},
    )


def _column_summary(column: pa.Array) -> dict[str, Any]:
    """Return what a block adds to its column's statistics; times are seconds since 1970.

    A listed value has '=' before it, since `merge` has its own idea of the keys min and max.
    """
    missing = {"missing": column.null_count}
    if column.type == NUMBER:
        return {"number": moments(column.to_numpy(zero_copy_only=False)[:, None]), **missing}
    if column.type == TIME:
        seconds = pc.divide(pc.cast(pc.cast(column, pa.int64()), pa.float64(), safe=False), 1e6)
        return {"time": moments(seconds.to_numpy(zero_copy_only=False)[:, None]), **missing}
    counts = {value["values"]: value["counts"] for value in column.drop_null().value_counts().to_pylist()}
    if len(counts) > LISTED_VALUES or any(len(value) > LISTED_LENGTH for value in counts):
        return {"text": sum(counts.values()), **missing}
    return {"category": {f"={value}": count for value, count in sorted(counts.items())}, **missing}


def _column_statistics(name: str, summary: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest's words on a column: those of its kind, and how many cells are missing."""
    for kind in ("number", "time"):
        if kind in summary:
            return {"name": name, "kind": kind, **_range(summary[kind]), "missing": summary["missing"]}
    counts = summary.get("category", {})
    if "text" in summary or len(counts) > MAX_CATEGORIES:
        return {"name": name, "kind": "text", "missing": summary["missing"]}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {
        "name": name,
        "kind": "category",
        "missing": summary["missing"],
        "categories": [value[1:] for value, _ in ordered],
        "counts": [count for _, count in ordered],
    }


def _range(summary: dict[str, Any]) -> dict[str, float]:
    """Return mean, std, min and max of a column's moments; 0, 1, 0, 0 where every cell is missing."""
    if not summary["count"][0]:
        return {"mean": 0.0, "std": 1.0, "min": 0.0, "max": 0.0}
    values = mean_std(summary) | {"min": summary["min"], "max": summary["max"]}
    return {key: value[0] for key, value in values.items()}
