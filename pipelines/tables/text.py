"""Tables in text, parsed by DuckDB: a file whole, or ranges of bytes of it that begin and end with records."""

import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import duckdb
import pyarrow as pa
from typing_extensions import override

from .source import BATCH_ROWS, NUMBER, TEXT, TIME, Range, Source

DUCKDB: dict[str, Any] = {
    "threads": 1,
    "memory_limit": "1GB",
    "temp_directory": "",  # nothing is spilt to disk
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
TYPES = {"n": NUMBER, "d": TIME, "t": TIME, "s": TEXT}


class Text(Source):
    """A table in text.

    names: of the columns. kinds: a letter a column: n number, d date, t date and time, s text. encoding, newline: of
    the file.
    """

    names: list[str]
    kinds: str

    def __init__(self, path: str, encoding: str = "utf-8", newline: str = "\n") -> None:
        self.path, self.encoding, self.newline = path, encoding, newline
        self.connection = connect()

    @override
    @property
    def size(self) -> int:
        return os.path.getsize(self.path)

    @override
    @property
    def columns(self) -> pa.Schema:
        return pa.schema([(name, TYPES[kind]) for name, kind in zip(self.names, self.kinds, strict=True)])

    @abstractmethod
    def table(self, path: str, ranges: Sequence[Range]) -> str:
        """Return the SQL for the records of a file, or of one that holds some ranges of it in UTF-8."""

    @abstractmethod
    def value(self, column: int, ranges: Sequence[Range]) -> str:
        """Return the SQL for a column's values."""

    @abstractmethod
    def is_wrong(self, column: int, ranges: Sequence[Range]) -> str:
        """Return the SQL for whether a cell's text is no value of its column's kind."""

    def count(self, ranges: Sequence[Range]) -> int:
        """Return how many rows there are; a column with a cell that is not of its kind becomes text."""
        checked = [column for column, kind in enumerate(self.kinds) if kind != "s"]
        checks = [f"bool_or({self.is_wrong(column, ranges)})" for column in checked]
        try:
            with self._file(ranges) as path:
                query = f"SELECT {', '.join(['count(*)', *checks])} FROM {self.table(path, ranges)}"
                rows, *wrong = self.connection.execute(query).fetchall()[0]
        except duckdb.Error:
            if ranges:
                self.count([])  # names the line by its number in the file
            raise
        turned = {column for column, is_wrong in zip(checked, wrong, strict=True) if is_wrong}
        self.kinds = "".join("s" if column in turned else kind for column, kind in enumerate(self.kinds))
        return int(rows)

    @override
    def raw(self, ranges: Sequence[Range]) -> Iterator[pa.RecordBatch]:
        values = [f"{self.value(column, ranges)} AS c{column}" for column in range(len(self.names))]
        with self._file(ranges) as path:
            query = f"SELECT {', '.join(values)} FROM {self.table(path, ranges)}"
            yield from self.connection.sql(query).to_arrow_reader(BATCH_ROWS)

    def before(self, ranges: Sequence[Range]) -> str:
        """Return what is to be put before some ranges."""
        return ""

    @contextmanager
    def _file(self, ranges: Sequence[Range]) -> Iterator[str]:
        """Yield the path of the file, or of one in memory that holds some ranges of it in UTF-8."""
        if not ranges:
            yield self.path
            return
        memory = os.memfd_create("ranges")
        try:
            with open(memory, "wb", closefd=False) as copy:
                copy.writelines(self._texts(ranges))
            yield f"/proc/self/fd/{memory}"
        finally:
            os.close(memory)

    def _texts(self, ranges: Sequence[Range]) -> Iterator[bytes]:
        """Yield what is to be put before some ranges of the file, then each of them, all in UTF-8 and whole lines."""
        yield self.before(ranges).encode()
        with open(self.path, "rb") as file:
            for start, length in ranges:
                file.seek(start)
                text = file.read(length)
                if self.encoding != "utf-8":
                    text = text.decode(self.encoding).encode()
                yield text if text.endswith((b"\n", b"\r")) else text + self.newline.encode()


@lru_cache(maxsize=1)
def connect() -> duckdb.DuckDBPyConnection:
    """Return the connection of this process: to make one takes longer than to read a small table."""
    return duckdb.connect(config=DUCKDB)


def literal(text: str) -> str:
    """Return text as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """Return a name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
