"""The plan: which range of which input goes under which key to which place of which shard. A pure function.

The same inputs and config give the same plan, whatever order the inputs come in. It is made on disk and read a shard at
a time: ten million inputs take no more memory than ten.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby, pairwise, starmap
from math import isclose
from operator import itemgetter
from os import fsdecode, fsencode
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from shard_tools.schema import PLAN

from .inputs.sources import Source
from .modality import Piece, Reject
from .ordered import query, rows_of

SLUG_LENGTH = 40
HASH_LENGTH = 10
LONG_HASH_LENGTH = 20
ALMOST = 1e-9  # of rounding
SHORTEST_REST = 8  # what is left of a range must be at least an eighth of a piece, unless it is all


class Row(NamedTuple):
    """One sample to be: a piece of an input, and its place in the data set.

    path: where the input lies; '' for a sample that is absent. offset, size: of the input in `path`, a tar; −1 for a
    file of its own, and an unknown size. bytes: the estimated size of the sample.
    """

    source: str
    path: str
    offset: int
    size: int
    start: float
    end: float
    bytes: int
    split: str
    group: str
    label: str
    caption: str
    columns: str
    place: str
    key: str
    shard: str

    @property
    def piece(self) -> Piece:
        """What the modality is asked to build."""
        return Piece(self.start, self.end, self.bytes, self.split, self.place)


_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}
_ROWS = pa.schema(
    [(name, pa.binary() if name == "path" else _TYPES[type_]) for name, type_ in get_type_hints(Row).items()]
)
# What the probe found: a row a piece, or an input turned away. The key's stem, and a longer one should another source
# have the same; rank: place of its group in the order of the data set. ordinal: number of the piece
# among those of its input.
PROBED = pa.schema(
    [
        *(_ROWS.field(name) for name in _ROWS.names if name not in ("key", "shard")),
        ("stem", pa.string()),
        ("long_stem", pa.string()),
        ("rank", pa.float64()),
        ("ordinal", pa.int64()),
        ("error", pa.string()),
        ("message", pa.string()),
    ]
)

ORDERED = """
    WITH planned AS (SELECT * FROM {probed} WHERE error = '' OR $keep AND "group" <> ''),
    shared AS (SELECT stem FROM (SELECT DISTINCT stem, long_stem FROM planned) GROUP BY stem HAVING count(*) > 1)
    SELECT *, stem IN (FROM shared) AS shared,
        row_number() OVER (PARTITION BY long_stem ORDER BY source, start, "end", ordinal) - 1 AS number,
        count(*) OVER (PARTITION BY long_stem) AS pieces
    FROM planned ORDER BY split = 'val', rank, "group", source, start, "end", ordinal
"""


def probed_rows(
    probed: Iterable[tuple[Source, Sequence[Piece] | Reject]], *, seed: int, val: float, by_group: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield rows of PROBED for what the probe of some inputs said.

    val: share of the groups that goes to the split val. by_group: keys are made of the group, not the source.
    """
    for source, answer in probed:
        named = source.group if by_group else source.source
        digest = hashlib.sha256(named.encode()).hexdigest()
        common = {
            **{name: getattr(source, name) for name in ("source", "group", "label", "caption", "columns", "offset")},
            "path": fsencode(source.path),
            "size": source.bytes,
            "stem": f"{slug(named)}-{digest[:HASH_LENGTH]}",
            "long_stem": f"{slug(named)}-{digest[:LONG_HASH_LENGTH]}",
            "rank": _hash("order", seed, source.group),
            "error": "",
            "message": "",
        }
        drawn = "val" if _hash("split", seed, source.group) < val else "train"
        if isinstance(answer, Reject):
            pieces: Sequence[Piece] = [Piece(source.start, source.end, 0)]
            common |= {"error": answer.error, "message": answer.message}
        else:
            pieces = answer
        for ordinal, piece in enumerate(pieces):
            yield {**common, **asdict(piece), "split": piece.split or drawn, "ordinal": ordinal}


def within(pieces: Sequence[Piece], start: float, end: float) -> list[Piece]:
    """Return the pieces of a range of an input. Raises Reject.

    Where pieces of one length follow each other, those of a range begin with it. Where they do not (scenes, a stride),
    or are found by their place alone (rows of a table), they are those of the whole, as far as they lie in the range.
    end: −1 for the end of the input. A rest of moments is a piece if it is an eighth of one, or all there is.
    """
    if start <= 0 and end < 0:
        return list(pieces)
    longest = max(pieces, key=_length)
    length, last = _length(longest), max(piece.end for piece in pieces)
    if last < 0:
        raise Reject("Unsupported", "a start and an end were asked for, but such a file is one whole")
    end = min(end, last) if end >= 0 else last
    if start >= end:
        raise Reject("Empty", f"nothing lies between {start:g} and {end:g}")
    inside = [_cut(piece, max(piece.start, start), min(piece.end, end)) for piece in pieces]
    inside = [piece for piece in inside if piece.end > piece.start]
    if any(piece.place for piece in pieces):
        return inside
    if not _is_tiled(pieces, length) and inside:
        return [piece for piece in inside if _length(piece) >= length / SHORTEST_REST] or inside
    return [_cut(longest, first, stop) for first, stop in _tiled(length, start, end)]


def _cut(piece: Piece, start: float, end: float) -> Piece:
    """Return a piece with another range, and what that is likely to weigh."""
    return replace(piece, start=start, end=end, bytes=max(1, round(piece.bytes * (end - start) / _length(piece))))


def _length(piece: Piece) -> float:
    return piece.end - piece.start


def _is_tiled(pieces: Sequence[Piece], length: float) -> bool:
    """Return whether pieces of one length, but for the last, follow each other."""
    return all(
        isclose(a.end, b.start, abs_tol=ALMOST) and isclose(_length(a), length, abs_tol=ALMOST)
        for a, b in pairwise(pieces)
    )


def _tiled(length: float, start: float, end: float) -> list[tuple[float, float]]:
    cuts = [start]
    while end - cuts[-1] > length * (1 + ALMOST):
        cuts.append(cuts[-1] + length)
    if len(cuts) > 1 and end - cuts[-1] < length / SHORTEST_REST:
        end = cuts.pop()
    return list(pairwise([*cuts, end]))


def write_plan(
    file: Path, probed: Sequence[Path], scratch: Path, *, shard_bytes: int, shard_samples: int, keep: bool = False
) -> None:
    """Write the plan of what files of PROBED rows say: splits, hash order of the groups, sources, pieces.

    shard_bytes, shard_samples: a shard ends before it would exceed one of them, estimated by Piece.bytes. keep: inputs
    that were turned away keep their place, as absent samples, and only samples count, so that data sets of the same
    groups have the same shards.
    """
    with query(scratch, ORDERED.replace("$keep", str(keep).lower()), probed=list(probed)) as batches:
        write_rows(file, _rows(rows_of(batches), 0 if keep else shard_bytes, shard_samples))


def write_rows(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows of a plan, in the order of its shards, a row group a shard."""
    shards: dict[str, int] = {}
    labels: set[str] = set()
    total = 0
    with pq.ParquetWriter(file, _ROWS) as writer:
        for name, group in groupby(rows, key=itemgetter("shard")):
            table = pa.Table.from_pylist(own := list(group), _ROWS)
            writer.write_table(table, row_group_size=len(table))
            shards[name] = len(table)
            labels.update(row["label"] for row in own)
            total += sum(row["bytes"] for row in own)
        facts = {"shards": shards, "labels": sorted(labels), "bytes": total}
        writer.add_key_value_metadata({"plan": json.dumps(facts)})


class Plan:
    """A plan on disk. shards: samples of each, by name. labels: of all samples, sorted. bytes: estimated."""

    def __init__(self, file: Path) -> None:
        self._parquet = pq.ParquetFile(file)
        facts = json.loads(self._parquet.metadata.metadata[b"plan"])
        self.shards: dict[str, int] = facts["shards"]
        self.labels: list[str] = facts["labels"]
        self.bytes: int = facts["bytes"]
        self.samples = sum(self.shards.values())
        self._groups = {name: number for number, name in enumerate(self.shards)}

    def rows(self, shard: str) -> pa.Table:
        """Return the samples of a shard, in order, for `to_rows`."""
        return self._parquet.read_row_group(self._groups[shard], use_threads=False)

    def publish(self, file: Any) -> None:
        """Write the plan as `plan.parquet` has it."""
        with pq.ParquetWriter(file, PLAN) as writer:
            for number in range(self._parquet.num_row_groups):
                table = self._parquet.read_row_group(number, columns=PLAN.names, use_threads=False)
                writer.write_table(table.select(PLAN.names).cast(PLAN), row_group_size=max(len(table), 1))


def to_rows(table: pa.Table) -> list[Row]:
    """Return the rows of a part of a plan."""
    columns = {name: table[name].to_pylist() for name in Row._fields}
    columns["path"] = list(map(fsdecode, columns["path"]))
    return list(starmap(Row, zip(*columns.values(), strict=True)))


def slug(source: str) -> str:
    """Return the stem of a source's file name in the letters a key may have, at most 40; 'x' where none is left."""
    stem = unicodedata.normalize("NFKD", PurePosixPath(source).stem).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", stem)[:SLUG_LENGTH].strip("-") or "x"


def _rows(ordered: Iterable[dict[str, Any]], shard_bytes: int, shard_samples: int) -> Iterator[dict[str, Any]]:
    """Yield the rows with their keys and shards. shard_bytes: 0 for no limit."""
    split, number, filled, samples = "", 0, 0, 0
    for row in ordered:
        if row["split"] != split:
            split, number, filled, samples = row["split"], 0, 0, 0
        if samples and (samples >= shard_samples or (shard_bytes and filled + row["bytes"] > shard_bytes)):
            number, filled, samples = number + 1, 0, 0
        filled, samples = filled + row["bytes"], samples + 1
        stem = row["long_stem"] if row["shared"] else row["stem"]
        key = f"{stem}-{row['number']:04d}" if row["pieces"] > 1 else stem
        path = b"" if row["error"] else row["path"]
        yield {
            **{name: row[name] for name in _ROWS.names[:-2]},
            "key": key,
            "shard": f"{split}-{number:06d}",
            "path": path,
        }


def _hash(purpose: str, seed: int, group: str) -> float:
    """Return a number 0 ≤ x < 1 that is as good as drawn by chance."""
    digest = hashlib.sha256(f"{purpose}\0{seed}\0{group}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
