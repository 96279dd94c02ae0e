"""Rows sorted on disk: inputs and plans may be larger than memory, so DuckDB sorts them and Parquet holds them."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

BATCH = 1 << 16  # rows
MEMORY = "1GB"  # beyond, DuckDB goes on on disk
THREADS = 4  # at most: each takes memory of its own, and with 16 a GB does not do for some million rows


def write_rows(file: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write rows as they come to a Parquet file, a batch at a time in memory."""
    stream = iter(rows)
    with pq.ParquetWriter(file, schema) as writer:
        while batch := list(islice(stream, BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema))


@contextmanager
def query(scratch: Path, sql: str, **files: Path | list[Path]) -> Iterator[Iterator[pa.RecordBatch]]:
    """Give the answer of an SQL query batch by batch. In the query {name} is the table of the Parquet files given."""
    tables = {name: _table(paths if isinstance(paths, list) else [paths]) for name, paths in files.items()}
    config: dict[str, Any] = {"temp_directory": str(scratch), "memory_limit": MEMORY}
    config["threads"] = min(THREADS, os.cpu_count() or 1)
    with duckdb.connect(config=config) as connection:
        connection.execute("SET enable_progress_bar = false")  # it goes to stdout
        yield iter(connection.sql(sql.format(**tables)).to_arrow_reader(BATCH))


def rows_of(batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    """Yield the rows of batches, a batch at a time in memory."""
    for batch in batches:
        yield from batch.to_pylist()


def _table(paths: list[Path]) -> str:
    names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{names}])"
