"""A small made-up data set, image-like, for the tests of shard_tools: two train shards, one val shard, one reject."""

import io
import os
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from shard_tools.manifest import write_card, write_manifest
from shard_tools.schema import PLAN, REJECTED, Build, Layer, Manifest, Part
from shard_tools.storage import atomic
from shard_tools.tar import encode_part
from shard_tools.writer import ShardWriter

CLASSES = ["<b>cats</b>", "dogs"]
PARTS = {
    "jpg": Part(description="picture"),
    "json": Part(description="facts"),
    "cls": Part(description="class"),
    "note.txt": Part(description="nothing to say"),
    "saliency.npy": Part(description="a | layer"),
}
LAYERS = {
    "saliency": Layer(kind="scalar", cell=[8, 8], dtype="uint8", scale=0.25, algorithm="<i>made up</i>"),
}

Made = tuple[str, str, dict[str, Any], dict[str, Any]]
Root = TypeVar("Root", bound=str | os.PathLike[str])


def make_samples() -> list[Made]:
    """Return (key, shard, parts, index row) of each sample, in order."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(12):
        shard = f"train-{number // 4:06d}" if number < 8 else "val-000000"
        key, label = f"cat_{number}-{number:010x}", number % 2
        picture = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)).save(picture, "JPEG")
        row = {"source": f"in/<script>{number}.png", "label": CLASSES[label], "group": key, "start": 0.0, "end": -1.0}
        parts = {
            "jpg": picture.getvalue(),
            "json": {**row, "width": 24, "height": 16},
            "cls": str(label).encode(),
            "note.txt": b"",
            "saliency.npy": rng.integers(0, 256, (2, 3), np.uint8),
        }
        samples.append((key, shard, parts, {"key": key, "split": shard.split("-")[0], "shape": [2, 3], **row}))
    return samples


def make_dataset(root: Root) -> Root:
    """Write the data set to a folder or a URL and return it."""
    samples, shards = make_samples(), []
    for name in ("train-000000", "train-000001", "val-000000"):
        with ShardWriter(root, name, list(PARTS)) as writer:
            for key, shard, parts, row in samples:
                if shard == name:
                    writer.add(key, {part: encode_part(part, value) for part, value in parts.items()}, row)
            committed = writer.commit()
            assert committed is not None
            shards.append(committed)
    plan = [{**row, "shard": shard} for _, shard, _, row in samples]
    bad = {"source": "in/bad.png", "path": "in/bad.png", "start": 0.0, "end": -1.0}
    lost = {**bad, "split": "train", "group": "bad", "label": "dogs", "key": "bad-0", "shard": "train-000002"}
    with atomic(root, "plan.parquet") as file:
        pq.write_table(pa.Table.from_pylist([*plan, lost], PLAN), file)
    unknown = {"offset": -1, "bytes": -1, "label": "dogs", "group": "bad", "caption": "", "columns": ""}
    refused = {**bad, **unknown, "stage": "build", "error": "Corrupt", "message": "cut short"}
    with atomic(root, "rejected.parquet") as file:
        pq.write_table(pa.Table.from_pylist([refused], REJECTED), file)
    manifest = Manifest(
        name="<b>made up</b>",
        modality="image",
        parts=PARTS,
        layers=LAYERS,
        classes=CLASSES,
        splits={"train": 8, "val": 4},
        statistics={"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        rejected=1,
        gaps=["train-000002"],
        build=Build(config={"name": "```\n<b>"}, digest="0" * 64, versions={"mmmask": "0"}),
        shards=shards,
    )
    write_manifest(root, manifest)
    write_card(root, manifest)
    return root


def make_one(
    root: Root, modality: str, parts: dict[str, Any], layers: dict[str, Layer], shape: list[int], **about: Part
) -> Root:
    """Write a data set of one sample."""
    names = {part: about.get(part.split(".")[0], Part(description=part)) for part in parts}
    row = {"key": "a", "split": "train", "label": "", "group": "a", "shape": shape, "source": "a"}
    with ShardWriter(root, "train-000000", list(parts)) as writer:
        encoded = {part: encode_part(part, value) for part, value in parts.items()}
        writer.add("a", encoded, {**row, "start": 0.0, "end": -1.0})
        shard = writer.commit()
    assert shard is not None
    made = Build(config={}, digest="", versions={})
    write_manifest(
        root,
        Manifest(
            name="d",
            modality=modality,
            parts=names,
            layers=layers,
            splits={"train": 1},
            statistics={},
            build=made,
            shards=[shard],
        ),
    )
    return root
