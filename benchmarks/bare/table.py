"""CSV → typed columns, mixed rows and what each column holds → Arrow IPC streams of 256 rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from benchmarks.bare import Bare, Made

ROWS = 256
MISSING = ["", "?", "NA", "NaN", "nan", "null"]


def pyarrow(path: Path) -> Iterator[Made]:
    return _build(_parse(path))


def duckdb(path: Path) -> Iterator[Made]:
    import duckdb

    with duckdb.connect(config={"threads": 1}) as connection:
        yield from _build(connection.read_csv(str(path), na_values=MISSING).to_arrow_table())


def _parse(path: Path) -> pa.Table:
    convert = csv.ConvertOptions(null_values=MISSING, strings_can_be_null=True)
    return csv.read_csv(path, csv.ReadOptions(use_threads=False), convert_options=convert)


def _build(table: pa.Table) -> Iterator[Made]:
    mixed = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows)))
    for column in mixed.columns:
        _describe(column)
    for start in range(0, mixed.num_rows, ROWS):
        block = mixed.slice(start, ROWS).combine_chunks()
        with pa.ipc.new_stream(stream := pa.BufferOutputStream(), block.schema) as writer:
            writer.write_table(block)
        yield 1, {"arrow": stream.getvalue().to_pybytes()}


def _describe(column: pa.ChunkedArray) -> tuple[Any, ...]:
    """Return how many cells are missing, and the categories or count, mean, deviation and range of the others."""
    type_ = column.type
    if pa.types.is_timestamp(type_) or pa.types.is_date(type_):
        column = column.cast(pa.timestamp("us")).cast(pa.int64())
    elif not (pa.types.is_integer(type_) or pa.types.is_floating(type_)):
        return column.null_count, pc.value_counts(column)
    return column.null_count, pc.count(column), pc.mean(column), pc.stddev(column), pc.min_max(column)


CANDIDATES: dict[str, Bare] = {"PyArrow": pyarrow, "DuckDB": duckdb}
