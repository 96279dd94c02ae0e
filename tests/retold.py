"""A data set written once more from a built one, changed: an overlay of it, or one where some samples are absent."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import shard_tools
from shard_tools.manifest import write_card, write_manifest
from shard_tools.schema import Layer, Part
from shard_tools.tar import encode_part
from shard_tools.writer import ShardWriter

Change = Callable[[int, dict[str, Any], dict[str, bytes]], tuple[dict[str, Any], dict[str, bytes]]]
DEPTH = Layer(kind="scalar", cell=[8, 8], dtype="uint8", scale=0.5, unit="m", algorithm="made up")


def make_overlay(base: Path, root: Path) -> Path:
    """Write the layer `depth` of a data set, and nothing else, beside it."""

    def change(place: int, row: dict[str, Any], _: dict[str, bytes]) -> tuple[dict[str, Any], dict[str, bytes]]:
        layer = np.full(row["shape"], place, np.uint8)
        return row, {"depth.npy": encode_part("depth.npy", layer)}

    parts = {"depth.npy": Part(description="layer depth", dtype="uint8", shape="L", unit="m")}
    return retell(base, root, change, parts=parts, layers={"depth": DEPTH}, classes=[])


def make_absent(base: Path, root: Path, absent: set[str]) -> Path:
    """Write a data set again in which the samples of some keys are absent: no payload, no layers, no lattice."""

    def change(_: int, row: dict[str, Any], parts: dict[str, bytes]) -> tuple[dict[str, Any], dict[str, bytes]]:
        if row["key"] not in absent:
            return row, parts
        empty = {part: data if part in ("json", "cls") else b"" for part, data in parts.items()}
        return {**row, "shape": [0] * len(row["shape"])}, empty

    return retell(base, root, change)


def retell(base: Path, root: Path, change: Change, **manifest: Mapping[str, Any] | list[str]) -> Path:
    """Write a data set again, every index row and its parts passed through `change`."""
    data, place, shards = shard_tools.open(base), 0, []
    told = data.manifest.model_copy(update={"name": root.name, **manifest})
    for shard in data.shards:
        with ShardWriter(root, shard.name.removesuffix(".tar"), list(told.parts)) as writer:
            for _ in range(shard.samples):
                row = {k: v for k, v in data.row(place).items() if not k.endswith((".offset", ".size"))}
                row, parts = change(place, row, data.raw(place))
                writer.add(row["key"], parts, row)
                place += 1
            shards.append(writer.commit())
    told = told.model_copy(update={"shards": shards})
    write_manifest(root, told)
    write_card(root, told)
    return root
