"""`shard_tools.manifest.read_manifest`: the bytes of `manifest.json`."""

import json

from fuzz.files import FOLDER, told, write
from fuzz.targets.dataset import MANIFEST
from shard_tools.errors import Problem
from shard_tools.manifest import read_manifest, write_card, write_manifest
from shard_tools.schema import Layer

FULL = MANIFEST.model_copy(
    update={
        "layers": {"motion": Layer(kind="vector", cell=[1, 16], dtype="uint8", algorithm="a")},
        "classes": ["cats", "dögs"],
        "columns": {"age": "int64"},
        "statistics": {"mean": [0.5, 1], "x": None},
        "gaps": ["train-000001"],
    }
)
SHARE = 0.2
SEEDS = [
    MANIFEST.model_dump_json().encode(),
    FULL.model_dump_json(indent=1).encode(),
    b"[]",
    b'{"format": 1, "shards": []}',
]
ROOT = FOLDER / "manifest"


def check(data: bytes) -> None:
    """Read; an accepted manifest names files of its own folder alone, and is the same when written again."""
    write("manifest/manifest.json", data)
    try:
        manifest = read_manifest(ROOT)
    except Problem as problem:
        told(problem)
        return
    for shard in manifest.shards:
        assert (ROOT / "shards" / shard.name).parent == ROOT / "shards" and shard.name not in (".", "..")
    write_manifest(ROOT, manifest)
    again = read_manifest(ROOT)
    assert json.dumps(again.model_dump(), sort_keys=True) == json.dumps(manifest.model_dump(), sort_keys=True)
    write_card(ROOT, manifest)
