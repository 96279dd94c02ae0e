"""Say what is in a data set: counts, shapes, layers, bytes, labels, rejects."""

import os
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from .index import read_parquet
from .reader import Dataset
from .storage import Storage

REJECTS = "rejected.parquet"


def summary(root: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the facts of a data set as plain JSON values.

    splits: samples, shards and bytes of each. shapes: lattice shapes (like '32×48') with their counts, most frequent
    first. parts: bytes of each. labels: count of each. rejected: count of each class of error.
    Raises Problem and Misuse like `open`.
    """
    data = Dataset(root)
    manifest = data.manifest
    splits = {
        split: {
            "samples": samples,
            "shards": sum(shard.split == split for shard in data.shards),
            "bytes": sum(shard.bytes for shard in data.shards if shard.split == split),
        }
        for split, samples in manifest.splits.items()
    }
    return {
        "name": manifest.name,
        "modality": manifest.modality,
        "format": manifest.format,
        "samples": len(data),
        "bytes": sum(shard.bytes for shard in data.shards),
        "splits": splits,
        "shapes": _shapes(data.index["shape"]),
        "layers": {name: layer.model_dump() for name, layer in manifest.layers.items()},
        "parts": {part: pc.sum(data.index[f"{part}.size"]).as_py() or 0 for part in sorted(manifest.parts)},
        "labels": _counts(data.index["label"]) if manifest.classes else {},
        "rejected": _rejects(root),
        "gaps": manifest.gaps,
        "digest": manifest.build.digest,
        "shards": [shard.model_dump() for shard in data.shards],
    }


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each value of a column of strings comes, most frequent first."""
    counts = [(row["values"], row["counts"]) for row in pc.value_counts(column).to_pylist()]
    return dict(sorted(counts, key=lambda pair: (-pair[1], pair[0])))


def _shapes(column: pa.ChunkedArray) -> dict[str, int]:
    counted = Counter(tuple(shape) for shape in column.to_pylist())
    ordered = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
    return {"×".join(map(str, shape)): count for shape, count in ordered}


def _rejects(root: str | os.PathLike[str]) -> dict[str, int]:
    storage = Storage(root)
    return _counts(read_parquet(storage, REJECTS)["error"]) if storage.exists(REJECTS) else {}
