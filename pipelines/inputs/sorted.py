"""The inputs of a build, listed once, sorted on disk: ten million of them take no more memory than ten."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from os import fsdecode, fsencode
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.ordered import query, rows_of, write_rows
from shard_tools.errors import Misuse

from .fetch import HTTP, protocol
from .sources import Source

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("path", pa.binary()),  # a path may hold bytes that are not Unicode
        ("label", pa.string()),
        ("group", pa.string()),
        ("bytes", pa.int64()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("offset", pa.int64()),
        ("caption", pa.string()),
        ("columns", pa.string()),
        ("stamp", pa.string()),
        ("by_name", pa.bool_()),  # of equal names in one tar, or on the web, one counts
    ]
)
# What of an input decides the data set; where it lies, and when it was written, does not.
DIGESTED = ("source", "label", "group", "bytes", "start", "end", "caption", "columns")
FILE = "inputs.parquet"

log = logging.getLogger("shard-build")

# A file that is reached by way of two inputs, one inside the other, counts once, and so does a URL or a member of a tar
# that comes twice by name: of equal ones the first in order is kept.
UNIQUE = """
    SELECT * FROM {listed} QUALIFY path = '' OR
        row_number() OVER (
            PARTITION BY path, "offset", start, "end"
            ORDER BY source, label, "group", caption, columns, bytes, stamp) = 1
        AND (NOT by_name OR row_number() OVER (
            PARTITION BY source, start, "end", CASE WHEN "offset" < 0 THEN ''::BLOB ELSE path END
            ORDER BY path, "offset", label, "group", caption, columns, bytes, stamp) = 1)
    ORDER BY source, start, "end", path, "offset", label, "group", caption, columns
"""
TOLD = """
    SELECT count(*) AS files, min(source) AS one FROM (
        SELECT min(source) AS source FROM {listed} WHERE path <> '' GROUP BY path, "offset", start, "end"
        HAVING count(DISTINCT (label, caption, "group", columns)) > 1)
"""
SAME_NAME = """
    SELECT source, min(path) AS one, max(path) AS other FROM {inputs} WHERE path <> ''
    GROUP BY source, start, "end" HAVING count(*) > 1 LIMIT 1
"""
FACTS = """SELECT count(*) AS files, coalesce(sum(greatest(bytes, 0)), 0)::BIGINT AS bytes FROM {inputs}"""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Sorted by source and range, each once, in the Parquet file `file`.

    count, bytes: of all. sha256: of their names, ranges, labels, groups, captions, columns and sizes, so that two lists
    are equal if it is.
    """

    file: Path
    count: int
    bytes: int
    sha256: str

    @classmethod
    def sort(cls, sources: Iterable[Source], scratch: Path) -> "Inputs":
        """Return the inputs, sorted in the folder `scratch`. Raises Misuse for none, and for two of the same name."""
        listed, file = scratch / "listed.parquet", scratch / FILE
        write_rows(listed, (_row(source) for source in sources), SCHEMA)
        with query(scratch, UNIQUE, listed=listed) as batches, pq.ParquetWriter(file, SCHEMA) as writer:
            digest = hashlib.sha256()
            for batch in batches:
                writer.write_batch(batch.cast(SCHEMA))
                for row in zip(*(batch[name].to_pylist() for name in DIGESTED), strict=True):
                    digest.update("\0".join(map(str, row)).encode() + b"\n")
        if pq.read_metadata(listed).num_rows > pq.read_metadata(file).num_rows:
            _warn_of_other_words(listed, scratch)
        listed.unlink()
        with query(scratch, SAME_NAME, inputs=file) as batches:
            for same in rows_of(batches):
                raise Misuse(
                    f"two inputs would both be called {same['source']}: {fsdecode(same['one'])} and "
                    f"{fsdecode(same['other'])}; give the folder above them, or rename one"
                )
        with query(scratch, FACTS, inputs=file) as batches:
            (facts,) = rows_of(batches)
        if not facts["files"]:
            raise Misuse("no inputs")
        return cls(file, facts["files"], facts["bytes"], digest.hexdigest())

    @property
    def config(self) -> dict[str, Any]:
        """Return what of the inputs decides the data set."""
        return {"files": self.count, "bytes": self.bytes, "sha256": self.sha256}

    def batches(self, size: int) -> Iterator[list[Source]]:
        """Yield all inputs in order, `size` at a time."""
        with pq.ParquetFile(self.file) as file:
            sources = (_source(row) for row in rows_of(file.iter_batches(use_threads=False)))
            while batch := list(islice(sources, size)):
                yield batch


def _warn_of_other_words(listed: Path, scratch: Path) -> None:
    with query(scratch, TOLD, listed=listed) as batches:
        (told,) = rows_of(batches)
    if told["files"]:
        twice = f"{told['files']:,} of the inputs come twice with other labels, captions, groups or columns"
        log.warning("%s (%s): of each the first in order counts", twice, told["one"])


def _row(source: Source) -> dict[str, Any]:
    by_name = source.offset >= 0 or protocol(source.path) in HTTP
    return {**asdict(source), "path": fsencode(source.path), "by_name": by_name}


def _source(row: dict[str, Any]) -> Source:
    told = {name: value for name, value in row.items() if name != "by_name"}
    return Source(**{**told, "path": fsdecode(row["path"])})
