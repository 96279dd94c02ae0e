"""Inputs turned away: the rows of `rejected.parquet`, and how they are told to people."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pyarrow as pa

from shard_tools.schema import REJECTED

from .modality import Reject

EXAMPLES = 3


@dataclass(frozen=True, slots=True, order=True)
class Rejection:
    """An input, or a range of it, that is in no shard, and why. stage: probe or build."""

    source: str
    start: float
    end: float
    path: str
    stage: str
    error: str
    message: str

    @classmethod
    def of(cls, where: object, stage: str, reject: Reject) -> "Rejection":
        """Return the rejection of a plan's row, or of a source as a whole."""
        start, end = getattr(where, "start", 0.0), getattr(where, "end", -1.0)
        return cls(where.source, start, end, where.path, stage, reject.error, reject.message)  # type: ignore[attr-defined]


def rejected_table(rejections: Iterable[Rejection]) -> pa.Table:
    """Return the rejections as `rejected.parquet` has them, sorted by source and range."""
    rows = [asdict(rejection) for rejection in sorted(rejections)]
    for row in rows:  # a path may hold bytes that are not Unicode, Parquet may not
        row["path"] = row["path"].encode("utf-8", "backslashreplace").decode()
        row["message"] = row["message"].encode("utf-8", "backslashreplace").decode()
    return pa.Table.from_pylist(rows, REJECTED)


def reasons(rejections: Iterable[Rejection]) -> dict[str, dict[str, object]]:
    """Return {error class: {'count': n, 'examples': ['source: message', …]}}, the most frequent first."""
    ordered = sorted(rejections)
    counts = Counter(rejection.error for rejection in ordered)
    return {
        error: {
            "count": count,
            "examples": [f"{r.source}: {r.message}" for r in ordered if r.error == error][:EXAMPLES],
        }
        for error, count in counts.most_common()
    }
