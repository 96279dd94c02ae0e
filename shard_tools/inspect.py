"""Say what is in a data set: counts, shapes, layers, bytes, labels, rejects."""

import os
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .index import read_parquet
from .manifest import read_manifest
from .scan import scan
from .storage import Storage

REJECTS = "rejected.parquet"


def summary(root: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the facts of a data set as plain JSON values.

    splits: samples, shards and bytes of each. shapes: lattice shapes (like '32×48') with their counts, most frequent
    first. parts: bytes of each. labels: count of each. rejected: count of each class of error.
    Raises Problem and Misuse like `open`.
    """
    storage, manifest = Storage(root), read_manifest(root)
    shapes, labels, parts = Counter[tuple[int, ...]](), Counter[str](), Counter[str]()
    for _, index in scan(storage, manifest, manifest.shards):
        shapes.update(map(tuple, index["shape"].to_pylist()))
        labels.update(_counts(index["label"]))
        parts.update({part: pc.sum(index[f"{part}.size"]).as_py() or 0 for part in manifest.parts})
    splits = {
        split: {
            "samples": samples,
            "shards": sum(shard.split == split for shard in manifest.shards),
            "bytes": sum(shard.bytes for shard in manifest.shards if shard.split == split),
        }
        for split, samples in manifest.splits.items()
    }
    return {
        "name": manifest.name,
        "modality": manifest.modality,
        "format": manifest.format,
        "samples": sum(shard.samples for shard in manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "splits": splits,
        "shapes": {"×".join(map(str, shape)): count for shape, count in _ordered(shapes).items()},
        "layers": {name: layer.model_dump() for name, layer in manifest.layers.items()},
        "parts": {part: parts[part] for part in sorted(manifest.parts)},
        "labels": _ordered(labels) if manifest.classes else {},
        "rejected": _rejects(storage),
        "gaps": manifest.gaps,
        "digest": manifest.build.digest,
        "shards": [shard.model_dump() for shard in manifest.shards],
    }


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each value of a column of strings comes."""
    return {row["values"]: row["counts"] for row in pc.value_counts(column).to_pylist()}


def _ordered(counted: Counter[Any]) -> dict[Any, int]:
    """Return the counts, most frequent first."""
    return dict(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))


def _rejects(storage: Storage) -> dict[str, int]:
    return _ordered(Counter(_counts(read_parquet(storage, REJECTS)["error"]))) if storage.exists(REJECTS) else {}
