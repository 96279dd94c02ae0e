"""`shard_tools.index.read_shard_index`: the bytes of `index/NAME.parquet`."""

import pyarrow as pa
import pyarrow.parquet as pq

from fuzz.files import FOLDER, told, write
from fuzz.targets.dataset import KEYS, MANIFEST, SCHEMA
from shard_tools.errors import Problem
from shard_tools.index import read_shard_index
from shard_tools.storage import Storage


def _index(**options: object) -> bytes:
    row = dict.fromkeys(("split", "label", "group", "source"), "train") | {"shape": [2, 3], "start": 0.0, "end": -1.0}
    row |= {f"{part}.{what}": 512 for part in MANIFEST.parts for what in ("offset", "size")}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row | {"key": key} for key in KEYS], SCHEMA), sink, **options)
    return sink.getvalue().to_pybytes()


SHARE = 0.5
SEEDS = [
    _index(compression="zstd"),
    _index(compression="none", use_dictionary=False, store_schema=False, write_statistics=False),
]
STORAGE = Storage(str(FOLDER / "dataset"))


def check(data: bytes) -> None:
    """Read; a table that is accepted has the columns and rows that the manifest says, and can be gone through."""
    write("dataset/index/train-000000.parquet", data)
    try:
        table = read_shard_index(STORAGE, MANIFEST, MANIFEST.shards[0])
    except Problem as problem:
        told(problem)
        return
    assert table.schema.equals(SCHEMA) and table.num_rows == len(KEYS)
    assert all(value is not None for row in table.to_pylist() for value in row.values())
