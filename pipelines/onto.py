"""Data sets that zip with another: its keys, shards and splits, with other parts.

Without inputs the stored samples of the base are the inputs, and the new data set is an overlay of layers. With inputs
each sample takes the input of its own group, or the same stretch of its own source: the sound of a film's clips.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from shard_tools.index import read_shard_index
from shard_tools.manifest import read_manifest
from shard_tools.storage import Storage

from . import ordered, plan
from .rejects import Rejection

LAYERS_BYTES = 20_000  # of a sample of an overlay, about
COMMON = ("source", "start", "end", "split", "group", "label", "key")
BASE = pa.schema(
    [
        ("number", pa.int64()),
        *((name, pa.float64() if name in ("start", "end") else pa.string()) for name in (*COMMON, "shard")),
    ]
)
Match = Literal["group", "source"]

# $match is "group" or source. By source a sample keeps the base's stretch of it; by group it is the whole of an input.
JOINED = """
    WITH found AS (SELECT * FROM {probed} WHERE error = '' AND ordinal = 0
        QUALIFY row_number() OVER (PARTITION BY $match ORDER BY source, start) = 1)
    SELECT base.number, base.split, base."group", base.label, base.key, base.shard,
        coalesce(found.source, base.source) AS source,
        coalesce(CASE WHEN $by_source THEN base.start ELSE found.start END, base.start) AS start,
        coalesce(CASE WHEN $by_source THEN base."end" ELSE found."end" END, base."end") AS "end",
        coalesce(found.path, ''::BLOB) AS path, coalesce(found."offset", -1) AS "offset",
        coalesce(found.size, -1) AS size, coalesce(found.bytes, 0) AS bytes, coalesce(found.caption, '') AS caption,
        coalesce(found.columns, '') AS columns, CASE WHEN $by_source THEN '' ELSE coalesce(found.place, '') END AS place
    FROM {base} AS base LEFT JOIN found ON base.$match = found.$match ORDER BY base.number
"""
UNMATCHED = """
    SELECT probed.* FROM {probed} AS probed LEFT JOIN (SELECT DISTINCT $match AS matched FROM {base}) AS base
    ON probed.$match = base.matched WHERE error = '' AND ordinal = 0
    QUALIFY matched IS NULL OR NOT $by_source AND row_number() OVER (PARTITION BY $match ORDER BY source, start) > 1
"""


class Base:
    """The data set that another is built onto. Raises Misuse where there is none."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.storage = Storage(root)
        self.root = self.storage.absolute
        self.manifest = read_manifest(root)

    @property
    def config(self) -> dict[str, Any]:
        """What of it decides the new data set."""
        shards = [(shard.name, shard.sha256) for shard in self.manifest.shards]
        digest = hashlib.sha256(json.dumps(shards).encode()).hexdigest()
        return {"name": self.manifest.name, "samples": sum(self.manifest.splits.values()), "sha256": digest}

    def plan_overlay(self, file: Path, payload: Sequence[str]) -> None:
        """Write a plan whose inputs are the stored samples. payload: the parts to read of them."""
        plan.write_rows(file, self._stored(payload))

    def plan_matched(self, file: Path, probed: Sequence[Path], scratch: Path, match: Match) -> None:
        """Write a plan that gives each sample the input of the same group or source; without one it is absent."""
        sql = _for(JOINED, match)
        with ordered.query(scratch, sql, probed=list(probed), base=self._file(scratch)) as batches:
            plan.write_rows(file, ordered.rows_of(batches))

    def unmatched(self, probed: Sequence[Path], scratch: Path, match: Match) -> Iterator[Rejection]:
        """Yield the inputs for which there is no sample."""
        sql = _for(UNMATCHED, match)
        with ordered.query(scratch, sql, probed=list(probed), base=self._file(scratch)) as batches:
            for row in ordered.rows_of(batches):
                why = f"no sample of {self.manifest.name} has its {match}, or another input takes it"
                yield Rejection.of_probed({**row, "error": "Unmatched", "message": why})

    def _file(self, scratch: Path) -> Path:
        """Return a file of all samples, for queries."""
        file = scratch / "base.parquet"
        if not file.exists():
            rows = ({**row, "number": number} for number, (row, _) in enumerate(self._rows()))
            ordered.write_rows(file, rows, BASE)
        return file

    def _rows(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield (what a plan says, index row) of all samples, in order."""
        for shard in self.manifest.shards:
            for row in read_shard_index(self.storage, self.manifest, shard).to_pylist():
                yield {**{name: row[name] for name in COMMON}, "shard": shard.name.removesuffix(".tar")}, row

    def _stored(self, payload: Sequence[str]) -> Iterable[dict[str, Any]]:
        for row, index in self._rows():
            parts = {part: [index[f"{part}.offset"], index[f"{part}.size"]] for part in payload}
            place = json.dumps({"parts": parts, "shape": index["shape"]})
            path = f"{self.root}/shards/{row['shard']}.tar".encode()
            nothing = {"offset": -1, "size": -1, "caption": "", "columns": ""}
            yield {**row, **nothing, "path": path, "bytes": LAYERS_BYTES, "place": place}


def _for(sql: str, match: Match) -> str:
    name = '"group"' if match == "group" else "source"
    return sql.replace("$match", name).replace("$by_source", str(match == "source").lower())
