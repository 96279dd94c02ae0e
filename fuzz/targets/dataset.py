"""`shard_tools.open`: a data set whose tar, and offsets and sizes of the index, may say anything.

Input: int64 offset and size of each part of each sample, then the bytes of the tar.
"""

import hashlib
import struct

import pyarrow as pa
import pyarrow.parquet as pq

import shard_tools
from fuzz.files import FOLDER, told, write
from shard_tools.manifest import write_manifest
from shard_tools.reader import CorruptSample
from shard_tools.schema import Build, Manifest, Part, Shard, index_schema
from shard_tools.tar import END, member

KEYS, PARTS = ("a", "b-1"), ("json", "x.npy")
PLACES = struct.Struct(f"<{2 * len(KEYS) * len(PARTS)}q")
VALUES = {"json": b'{"a":1}', "x.npy": b""}
ROOT = FOLDER / "dataset"


def _seed() -> bytes:
    tar, places = b"", []
    for key in KEYS:
        for part in PARTS:
            places += [len(tar) + 512, len(VALUES[part])]
            tar += member(f"{key}.{part}", VALUES[part])
    return PLACES.pack(*places) + tar + END


SHARE = 0.1
SEEDS = [_seed()]
MANIFEST = Manifest(
    name="fuzz",
    modality="image",
    parts={part: Part(description="") for part in PARTS},
    layers={},
    splits={"train": len(KEYS)},
    statistics={},
    build=Build(config={}, digest="", versions={}),
    shards=[Shard(name="train-000000.tar", split="train", sha256=hashlib.sha256().hexdigest(), bytes=0, samples=2)],
)
ROOT.mkdir(parents=True, exist_ok=True)
write_manifest(ROOT, MANIFEST)
SCHEMA = index_schema(PARTS, {})


def check(data: bytes) -> None:
    """Read every sample: by its position, raw, and by its key."""
    head = data[: PLACES.size].ljust(PLACES.size, b"\0")
    places, tar = PLACES.unpack(head), data[PLACES.size :]
    rows = []
    for number, key in enumerate(KEYS):
        row = dict.fromkeys(("split", "label", "group", "source"), "train") | {"key": key, "shape": [1]}
        own = places[4 * number : 4 * number + 4]
        row |= {"start": 0.0, "end": -1.0, "json.offset": own[0], "json.size": own[1]}
        rows.append(row | {"x.npy.offset": own[2], "x.npy.size": own[3]})
    write("dataset/shards/train-000000.tar", tar)
    index = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), index, compression="none")
    write("dataset/index/train-000000.parquet", index.getvalue())
    dataset = shard_tools.open(str(ROOT))
    for number, key in enumerate(KEYS):
        own = places[4 * number : 4 * number + 4]
        try:
            raw = dataset.raw(number)
            for part, offset, size in zip(PARTS, own[::2], own[1::2], strict=True):
                assert raw[part] == tar[offset : offset + size], "other bytes than the index says"
            assert dataset[number]["__key__"] == key == dataset.get(key)["__key__"]
        except CorruptSample as error:
            told(error)
