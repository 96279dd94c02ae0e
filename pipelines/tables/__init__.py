"""Tables in files: `open_source` finds out how one is written, `reopen_source` reads on from what was found out."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipelines.modality.base import Reject
from pipelines.modality.sniff import sniff, unknown

from .columnar import Arrow, Parquet
from .jsonlines import JsonLines
from .separated import Separated
from .source import CODED, NUMBER, TEXT, TIME, WHOLE_BYTES, Range, Source
from .text import connect

__all__ = [
    "CODED",
    "NUMBER",
    "SUFFIXES",
    "TEXT",
    "TIME",
    "WHOLE_BYTES",
    "Range",
    "Source",
    "open_source",
    "reopen_source",
]

HEAD_BYTES = 1 << 16
KINDS: dict[str, type[Source]] = {
    suffix: kind for kind in (Separated, JsonLines, Parquet, Arrow) for suffix in kind.suffixes
}
SUFFIXES = frozenset(KINDS)


@contextmanager
def open_source(path: str, header: str = "auto") -> Iterator[Source]:
    """Open a table of any format. Raises Reject, also for what goes wrong while it is read.

    header: whether text begins with the names of columns: auto, yes or no.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise Reject("Unreadable", f"cannot be opened: {error.strerror}") from None
    kind = KINDS.get(file.suffix.lower())
    if not head or kind is None or sniff(head)[0] not in ("", "table"):
        raise unknown(head, "table")
    with _rejecting(path):
        yield kind.open(path, head, header)


@contextmanager
def reopen_source(path: str, recipe: Any) -> Iterator[Source]:
    """Open a table by the recipe of its source. Raises Reject and MemoryError, also while it is read."""
    with _rejecting(path):
        yield KINDS[Path(path).suffix.lower()].reopen(path, recipe)


@contextmanager
def _rejecting(path: str) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException:
        connect.cache_clear()  # what it still holds is of no more use
        raise MemoryError("its cells do not fit into the memory for parsing") from None
    except duckdb.Error as error:
        message = re.sub(r"/proc/self/fd/\d+", path, str(error)).replace(path, Path(path).name)
        raise Reject("Corrupt", _duckdb_reason(message)) from None
    except (pa.ArrowException, OSError, UnicodeError) as error:  # of names that are no UTF-8
        raise Reject("Corrupt", f"cannot be read: {error}") from None


def _duckdb_reason(message: str) -> str:
    """Return what DuckDB says is wrong, without the query and its advice on arguments."""
    if uneven := re.search(r"on Line: (\d+).*?Expected Number of Columns: (\d+) Found: (\d+)", message, re.DOTALL):
        return f"line {uneven[1]} has {uneven[3]} cells where the header has {uneven[2]}"
    if "detect the CSV parsing dialect" in message:
        return "no separator splits its lines into the same number of cells"
    noise = ("Original Line", "Possible", "LINE", " ")
    lines = [line for line in message.splitlines() if line and not line.startswith(noise)]
    return " ".join(lines[:2])
