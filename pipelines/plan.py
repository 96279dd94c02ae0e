"""The plan: which range of which input goes under which key to which place of which shard. Pure functions.

The same inputs and config give the same plan, whatever order the inputs come in.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

import pyarrow as pa

from shard_tools.schema import PLAN

from .modality import Piece
from .sources import Source

SLUG_LENGTH = 40
HASH_LENGTH = 10
LONG_HASH_LENGTH = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One sample to be: a piece of a source, and its place in the data set."""

    source: str
    path: str
    start: float
    end: float
    bytes: int
    split: str
    group: str
    label: str
    key: str
    shard: str

    @property
    def piece(self) -> Piece:
        """What the modality is asked to build."""
        return Piece(self.start, self.end, self.bytes, self.split)


def make_plan(
    probed: Iterable[tuple[Source, list[Piece]]], *, seed: int, val: float, shard_bytes: int, shard_samples: int
) -> list[Row]:
    """Return a row a piece, in the order of the data set: splits, hash order of the groups, sources, pieces.

    val: share of the groups that goes to the split val. shard_bytes, shard_samples: a shard ends before it would
    exceed one of them, estimated by Piece.bytes.
    """
    inputs = [(source, pieces) for source, pieces in probed if pieces]
    keys = _keys([source.source for source, _ in inputs])
    inputs.sort(key=lambda item: (_hash("order", seed, item[0].group), item[0].group, item[0].source))
    rows: dict[str, list[tuple[Source, Piece, str]]] = {"train": [], "val": []}
    for source, pieces in inputs:
        drawn = "val" if _hash("split", seed, source.group) < val else "train"
        for number, piece in enumerate(pieces):
            suffix = f"-{number:04d}" if len(pieces) > 1 else ""
            rows[piece.split or drawn].append((source, piece, keys[source.source] + suffix))
    return [
        Row(
            source.source,
            source.path,
            piece.start,
            piece.end,
            piece.bytes,
            split,
            source.group,
            source.label,
            key,
            shard,
        )
        for split, planned in rows.items()
        for (source, piece, key), shard in zip(
            planned, _shards(split, (piece.bytes for _, piece, _ in planned), shard_bytes, shard_samples), strict=True
        )
    ]


def plan_table(rows: Iterable[Row]) -> pa.Table:
    """Return the rows as `plan.parquet` has them."""
    return pa.Table.from_pylist([asdict(row) for row in rows], PLAN)


def slug(source: str) -> str:
    """Return the stem of a source's file name in the letters a key may have, at most 40; 'x' where none is left."""
    stem = unicodedata.normalize("NFKD", PurePosixPath(source).stem).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", stem)[:SLUG_LENGTH].strip("-") or "x"


def _keys(sources: list[str]) -> dict[str, str]:
    """Return the key of each source, without the number of a piece: slug, '-', 10 hex digits of its sha256.

    Sources that would share one have 20 digits: with ten, that happens by chance among a million files of one name.
    """
    digests = {source: hashlib.sha256(source.encode()).hexdigest() for source in sources}
    keys = {source: f"{slug(source)}-{digest[:HASH_LENGTH]}" for source, digest in digests.items()}
    shared = {key for key, count in Counter(keys.values()).items() if count > 1}
    return {
        source: f"{slug(source)}-{digests[source][:LONG_HASH_LENGTH]}" if key in shared else key
        for source, key in keys.items()
    }


def _hash(purpose: str, seed: int, group: str) -> float:
    """Return a number 0 ≤ x < 1 that is as good as drawn by chance."""
    digest = hashlib.sha256(f"{purpose}\0{seed}\0{group}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _shards(split: str, sizes: Iterable[int], shard_bytes: int, shard_samples: int) -> Iterator[str]:
    """Yield the name of each sample's shard."""
    number = filled = samples = 0
    for size in sizes:
        if samples and (filled + size > shard_bytes or samples >= shard_samples):
            number, filled, samples = number + 1, 0, 0
        filled, samples = filled + size, samples + 1
        yield f"{split}-{number:06d}"
