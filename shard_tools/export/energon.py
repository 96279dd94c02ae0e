"""Megatron Energon: `.nv-meta/` and, beside each shard, `NAME.tar.idx`.

What `energon prepare` writes for a crude data set, whose samples a cooker of the user's takes as they are; without its
data base of keys, which only joined and auxiliary data sets ask for.
https://nvidia.github.io/Megatron-Energon/advanced/crude_datasets.html
"""

import json

import numpy as np
import pyarrow as pa

from ..reader import Dataset
from ..schema import SPLITS
from ..storage import Storage
from ..tar import BLOCK
from .base import Format, rows_by_shard

CRUDE = "__module__: megatron.energon\n__class__: CrudeWebdataset\n"


def write(dataset: Dataset, output: Storage) -> list[str]:
    """Write the description of the data set and an index a shard."""
    names = {split: [f"shards/{s.name}" for s in dataset.shards if s.split == split] for split in (*SPLITS, "test")}
    files = {
        ".nv-meta/.info.json": _json({"shard_counts": {f"shards/{s.name}": s.samples for s in dataset.shards}}),
        ".nv-meta/split.yaml": _json({"split_parts": names, "exclude": []}),  # JSON is YAML
        ".nv-meta/dataset.yaml": CRUDE.encode(),
    }
    files |= {f"shards/{shard.name}.idx": sample_bounds(rows) for shard, rows in rows_by_shard(dataset)}
    for name, data in files.items():
        output.write(name, data)
    return list(files)


def sample_bounds(rows: pa.Table) -> bytes:
    """Return where each sample begins in its tar, header included, and where the last padding ends: uint64 [N + 1]."""
    parts = [name.removesuffix(".offset") for name in rows.column_names if name.endswith(".offset")]
    offsets = np.stack([rows[f"{part}.offset"].to_numpy() for part in parts])
    ends = offsets[:, -1] + [rows[f"{part}.size"][-1].as_py() for part in parts]
    bounds = np.append(offsets.min(0) - BLOCK, -(-ends.max() // BLOCK) * BLOCK)
    return bounds.astype("<u8").tobytes()


def _json(value: dict) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


FORMAT = Format("Megatron Energon: .nv-meta and an index beside each shard", in_place=False, shards=True, write=write)
