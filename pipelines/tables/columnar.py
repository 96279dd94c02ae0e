"""Parquet and Arrow files, by pyarrow. Their ranges are rows: whole row groups of Parquet, slices of Arrow batches."""

import math
import os
from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from typing_extensions import override

from pipelines.modality.sniff import sniff, unknown

from .source import BATCH_ROWS, RANGE_BYTES, Range, Source

CELL_BYTES = 8  # at least, once it is decoded


class Columnar(Source):
    """A table in a file that knows its rows and types.

    groups: how many rows each row group or batch has. starts: the number of the first row of each, and of the end.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._columns, self.groups = self._contents()
        self.starts = list(accumulate(self.groups, initial=0))

    @override
    @classmethod
    def open(cls, path: str, head: bytes, header: str) -> Self:
        if not cls._begins(head):
            raise unknown(head, "table")
        return cls(path)

    @override
    @classmethod
    def reopen(cls, path: str, recipe: Any) -> Self:
        return cls(path)

    @staticmethod
    @abstractmethod
    def _begins(head: bytes) -> bool:
        """Return whether such a file begins like this."""

    @abstractmethod
    def _contents(self) -> tuple[pa.Schema, list[int]]:
        """Return the columns, and how many rows each row group or batch has."""

    @override
    @property
    def recipe(self) -> None:
        return None

    @override
    @property
    def columns(self) -> pa.Schema:
        return self._columns

    @override
    @property
    def size(self) -> int:
        return max(os.path.getsize(self.path), self.starts[-1] * len(self._columns) * CELL_BYTES)

    @override
    def count(self, ranges: Sequence[Range]) -> int:
        return sum(length for _, length in ranges) if ranges else self.starts[-1]


class Parquet(Columnar):
    """A Parquet file."""

    suffixes = (".parquet",)

    @override
    @staticmethod
    def _begins(head: bytes) -> bool:
        return sniff(head)[1] == "Parquet"

    @override
    def _contents(self) -> tuple[pa.Schema, list[int]]:
        self._file = pq.ParquetFile(self.path)
        metadata = self._file.metadata
        rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        return self._file.schema_arrow, rows

    @override
    def ranges(self) -> list[Range]:
        return [Range(start, rows) for start, rows in zip(self.starts, self.groups, strict=False) if rows]

    @override
    def raw(self, ranges: Sequence[Range]) -> Iterator[pa.RecordBatch]:
        numbers = {start: number for number, start in enumerate(self.starts[:-1]) if self.groups[number]}
        groups = [numbers[start] for start, _ in ranges] if ranges else list(range(len(self.groups)))
        for batch in self._file.iter_batches(BATCH_ROWS, groups, use_threads=False):
            yield _valid(batch)


class Arrow(Columnar):
    """An Arrow IPC file (Feather) or stream. A stream has no table of contents: it is skipped through."""

    suffixes = (".arrow", ".arrows", ".feather", ".ipc")

    @override
    @staticmethod
    def _begins(head: bytes) -> bool:
        return sniff(head)[1] == "Arrow" or head.startswith(b"\xff\xff\xff\xff")

    @override
    def _contents(self) -> tuple[pa.Schema, list[int]]:
        with pa.memory_map(self.path) as file:
            schema = _open_ipc(file).schema
        return schema, [batch.num_rows for _, batch in _stored(self.path, None)]

    @override
    def ranges(self) -> list[Range]:
        step = max(1, RANGE_BYTES * self.starts[-1] // max(self.size, 1))
        return [Range(start, min(step, self.starts[-1] - start)) for start in range(0, self.starts[-1], step)]

    @override
    def raw(self, ranges: Sequence[Range]) -> Iterator[pa.RecordBatch]:
        wanted = [(start, start + length) for start, length in ranges] or [(0, self.starts[-1])]
        numbers = sorted(
            {
                number
                for start, end in wanted
                for number in range(bisect_right(self.starts, start) - 1, bisect_left(self.starts, end))
            }
        )
        for number, batch in _stored(self.path, numbers):
            first, last = self.starts[number], self.starts[number + 1]
            for start, end in ((max(start, first), min(end, last)) for start, end in wanted):
                if start < end:
                    yield _valid(batch.slice(start - first, end - start))


def _stored(path: str, numbers: Sequence[int] | None) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield some, or all, of the record batches of a file with their numbers, ascending."""
    with pa.memory_map(path) as file:
        reader = _open_ipc(file)
        if isinstance(reader, pa.RecordBatchFileReader):
            for number in range(reader.num_record_batches) if numbers is None else numbers:
                yield number, reader.get_batch(number)
        else:
            last = math.inf if numbers is None else max(numbers, default=-1)
            for number, batch in enumerate(reader):
                if numbers is None or number in numbers:
                    yield number, batch
                if number >= last:
                    return


def _open_ipc(file: pa.MemoryMappedFile) -> pa.RecordBatchFileReader | pa.RecordBatchStreamReader:
    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    return pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)


def _valid(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Check offsets and UTF-8 of a batch from a file: Arrow trusts them, and reads out of bounds if they lie."""
    batch.validate(full=True)
    return batch
