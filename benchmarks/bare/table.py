"""CSV → typed columns → Arrow IPC streams of 256 rows."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

ROWS = 256
MISSING = ["", "?", "NA", "NaN", "nan", "null"]


def pyarrow(path: Path) -> int:
    convert = csv.ConvertOptions(null_values=MISSING, strings_can_be_null=True)
    return _write(csv.read_csv(path, csv.ReadOptions(use_threads=False), convert_options=convert))


def duckdb(path: Path) -> int:
    import duckdb

    with duckdb.connect(config={"threads": 1}) as connection:
        return _write(connection.read_csv(str(path), na_values=MISSING).to_arrow_table())


def _write(table: pa.Table) -> int:
    blocks = range(0, table.num_rows, ROWS)
    for start in blocks:
        block = table.slice(start, ROWS).combine_chunks()
        with pa.ipc.new_stream(pa.BufferOutputStream(), block.schema) as writer:
            writer.write_table(block)
    return len(blocks)


CANDIDATES: dict[str, Callable[[Path], int]] = {"PyArrow": pyarrow, "DuckDB": duckdb}
