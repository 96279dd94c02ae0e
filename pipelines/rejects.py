"""Inputs turned away: the rows of `rejected.parquet`, and how they are told to people."""

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from os import fsdecode, fsencode
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from shard_tools.schema import REJECTED

from .inputs.sources import Source
from .modality import Reject
from .ordered import query, rows_of, write_rows
from .plan import Row

EXAMPLES = 3
SORTED = 'SELECT * FROM {rejected} ORDER BY source, start, "end", stage, error, message'


@dataclass(frozen=True, slots=True, order=True)
class Rejection:
    """An input, or a range of it, that is in no shard, and why. stage: probe or build."""

    source: str
    start: float
    end: float
    path: str
    offset: int
    bytes: int
    label: str
    group: str
    caption: str
    columns: str
    stage: str
    error: str
    message: str

    @classmethod
    def of(cls, where: Source | Row, stage: str, reject: Reject) -> "Rejection":
        """Return the rejection of an input as a whole, or of a plan's row."""
        size = where.size if isinstance(where, Row) else where.bytes
        same = ("source", "start", "end", "path", "offset", "label", "group", "caption", "columns")
        facts: dict[str, Any] = {name: getattr(where, name) for name in same}
        return cls(**facts, bytes=size, stage=stage, error=reject.error, message=reject.message)

    @classmethod
    def of_probed(cls, row: dict[str, Any], stage: str = "probe") -> "Rejection":
        """Return the rejection that a row of `plan.PROBED` tells of."""
        named = {field.name: row[field.name] for field in fields(cls) if field.name in row}
        return cls(**{**named, "path": fsdecode(row["path"]), "bytes": row["size"], "stage": stage})


@dataclass(slots=True)
class Tally:
    """How many were turned away for what, with a few examples: those that come first by name."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, rejections: Iterable[Rejection]) -> None:
        """Count some more."""
        for rejection in rejections:
            self.counts[rejection.error] += 1
            own = self.examples.setdefault(rejection.error, [])
            insort(own, f"{rejection.source}: {rejection.message}")
            del own[EXAMPLES:]

    def __len__(self) -> int:
        return self.counts.total()

    def reasons(self) -> dict[str, dict[str, Any]]:
        """Return {error class: {'count': n, 'examples': ['source: message', …]}}, the most frequent first."""
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return {error: {"count": count, "examples": self.examples[error]} for error, count in ordered}

    def __str__(self) -> str:
        reasons = self.reasons().items()
        return "; ".join(f"{error} {reason['count']:,} ({reason['examples'][0]})" for error, reason in reasons)


def write_rejected(file: BinaryIO, rejections: Iterable[Rejection], scratch: Path) -> int:
    """Write `rejected.parquet`, sorted by source and range, and return the number of its rows."""
    unsorted = scratch / "rejected.parquet"
    write_rows(unsorted, map(_row, rejections), REJECTED)
    with query(scratch, SORTED, rejected=unsorted) as batches, pq.ParquetWriter(file, REJECTED) as writer:
        count = 0
        for batch in batches:
            writer.write_batch(batch.cast(REJECTED))
            count += len(batch)
    unsorted.unlink()
    return count


def read_rejected(file: Any) -> Iterator[Rejection]:
    """Yield the rows of `rejected.parquet`."""
    with pq.ParquetFile(file) as parquet:
        yield from (Rejection(**row) for row in rows_of(parquet.iter_batches(use_threads=False)))


def _row(rejection: Rejection) -> dict[str, Any]:
    """Return a row of REJECTED: Parquet holds no bytes that are not Unicode, as a path and what is said of it may."""
    path = fsencode(rejection.path).decode("utf-8", "backslashreplace")  # as `inputs.sources` reads it again
    message = rejection.message.encode("utf-8", "backslashreplace").decode()
    return {**asdict(rejection), "path": path, "message": message}
