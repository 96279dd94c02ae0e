"""Samples chosen from a data set, and their parts as they are stored, read in order with few requests."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from .errors import Problem
from .manifest import read_manifest
from .scan import scan
from .schema import Manifest, Shard
from .storage import Storage
from .tar import BLOCK, header

SPAN = 32 * 10**6  # bytes of a shard read at once
GAP = 64 * 1024  # bytes between two samples that are read rather than asked around


@dataclass(frozen=True, slots=True)
class Selection:
    """Samples of one data set.

    rows: for each shard of the manifest, the rows of its index that are chosen, int64, ascending.
    """

    storage: Storage
    manifest: Manifest
    rows: list[np.ndarray]

    @classmethod
    def all(cls, root: str | os.PathLike[str]) -> Self:
        """Return all samples of a data set. Raises Misuse and Problem like `manifest.read_manifest`."""
        manifest = read_manifest(root)
        return cls(Storage(root), manifest, [np.arange(shard.samples) for shard in manifest.shards])

    def where(self, chosen: np.ndarray) -> Self:
        """Return the samples of a whole data set that bool [samples] chooses."""
        bounds = np.cumsum([len(rows) for rows in self.rows])[:-1]
        return self.like([np.flatnonzero(part) for part in np.split(chosen, bounds)])

    def like(self, rows: list[np.ndarray]) -> Self:
        """Return other rows of the same data set."""
        return replace(self, rows=rows)

    def __len__(self) -> int:
        return sum(map(len, self.rows))

    @property
    def whole(self) -> bool:
        """Whether every sample of the data set is chosen."""
        return len(self) == sum(shard.samples for shard in self.manifest.shards)

    def count(self, split: str) -> int:
        """Return the number of samples of a split."""
        return sum(len(rows) for shard, rows in self._pairs() if shard.split == split)

    def samples(self, split: str) -> Iterator["Sample"]:
        """Yield the samples of a split in order. Raises Problem for what is damaged."""
        chosen = {shard.name: rows for shard, rows in self._pairs() if shard.split == split and len(rows)}
        shards = [shard for shard in self.manifest.shards if shard.name in chosen]
        total, seen, run, group = max(self.count(split), 1), 0, 0, None
        for shard, index in scan(self.storage, self.manifest, shards):
            for row, parts in _read(self.storage, self.manifest, shard, index.take(pa.array(chosen[shard.name]))):
                if row["group"] != group:
                    run, group = seen, row["group"]
                seen += 1
                yield Sample((run + 0.5) / total, row, parts)

    def _pairs(self) -> Iterator[tuple[Shard, np.ndarray]]:
        return zip(self.manifest.shards, self.rows, strict=True)


class Sample(NamedTuple):
    """A sample on its way. place: of its group in its data set, 0..1. row: of the index. parts: as stored."""

    place: float
    row: dict[str, Any]
    parts: dict[str, bytes]


def _read(
    storage: Storage, manifest: Manifest, shard: Shard, index: pa.Table
) -> Iterator[tuple[dict[str, Any], dict[str, bytes]]]:
    """Yield index row (without places) and parts of some samples of a shard. Raises Problem for what is damaged."""
    parts = sorted(manifest.parts)
    places = [f"{part}.{what}" for part in parts for what in ("offset", "size")]
    offsets = np.stack([index[f"{part}.offset"].to_numpy() for part in parts])
    sizes = np.stack([index[f"{part}.size"].to_numpy() for part in parts])
    starts, ends = offsets.min(0) - BLOCK, (offsets + sizes).max(0)
    try:
        blob = storage.blob(f"shards/{shard.name}")
        if len(index) and (starts.min() < 0 or sizes.min() < 0 or ends.max() > len(blob)):
            raise Problem(f"{shard.name}: its index points beyond the file of {len(blob)} bytes")
        rows = index.drop_columns(places).to_pylist()
        for first, last in _spans(starts, ends):
            base = int(starts[first])
            data = blob[base : int(ends[last - 1])]
            for number in range(first, last):
                yield (
                    rows[number],
                    {
                        part: _part(data, offset - base, size, f"{rows[number]['key']}.{part}", shard)
                        for part, offset, size in zip(
                            parts, offsets[:, number].tolist(), sizes[:, number].tolist(), strict=True
                        )
                    },
                )
    except OSError as error:
        raise Problem(f"{storage.path(f'shards/{shard.name}')}: not readable: {error}") from error


def _spans(starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of neighbours that are read at once."""
    first = 0
    for number in range(1, len(starts) + 1):
        if number < len(starts):
            gap = starts[number] - ends[number - 1]
            if 0 <= gap <= GAP and ends[number] - starts[first] <= SPAN:
                continue
        yield first, number
        first = number


def _part(data: bytes, start: int, size: int, member: str, shard: Shard) -> bytes:
    """Return the bytes of a member once its header is the one that its name and size give."""
    if data[start - BLOCK : start] != header(member, size):
        raise Problem(f"{shard.name}: no header of {member} of {size} bytes where the index has it; see verify")
    return data[start : start + size]
