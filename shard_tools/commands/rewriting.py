"""What the commands that write a data set have in common: their flags, their progress, what they say at the end."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from ..arguments import number, size
from ..rewrite import SHARD_BYTES, SHARD_SAMPLES, Output, rewrite
from ..schema import Manifest
from ..selection import Selection
from ..words import say_count
from .base import add_json, say_bytes


def add_output(parser: argparse.ArgumentParser) -> None:
    """Declare where the new data set is to stand, and how large its shards may be."""
    add = parser.add_argument
    add("--output", required=True, metavar="DATASET", help="folder or URL of the new data set")
    add("--shard-size", type=size, default=SHARD_BYTES, metavar="BYTES", help="of a shard at most (256MB)")
    add(
        "--shard-samples",
        type=number(int, 1),
        default=SHARD_SAMPLES,
        metavar="N",
        help=f"samples of a shard at most ({SHARD_SAMPLES})",
    )
    add("--overwrite", action="store_true", help="replace the data set that stands in --output")
    add_json(parser)


def write(
    args: argparse.Namespace, output: Output, selections: Sequence[Selection], command: dict[str, Any]
) -> dict[str, Any]:
    """Write a data set and return what is to be said of it. command: for its manifest."""
    with tqdm(total=sum(map(len, selections)), unit=" samples", desc=output.name, leave=False, disable=None) as bar:
        manifest = rewrite(
            output,
            selections,
            command,
            shard_bytes=args.shard_size,
            shard_samples=args.shard_samples,
            progress=bar.update,
        )
    return report(output.root, manifest)


def report(root: str, manifest: Manifest) -> dict[str, Any]:
    """Return what a new data set is, for `tell`."""
    total = sum(shard.bytes for shard in manifest.shards)
    return {"output": root, "samples": manifest.splits, "shards": len(manifest.shards), "bytes": total}


def tell(args: argparse.Namespace, reports: Sequence[dict[str, Any]], data: Any) -> int:
    """Print what was written: `data` as JSON, or a line a data set; return the exit code."""
    if args.json:
        print(json.dumps(data, ensure_ascii=False))
        return 0
    for made in reports:
        splits = ", ".join(f"{split} {count:,}" for split, count in made["samples"].items())
        samples = sum(made["samples"].values())
        counts = f"{say_count(samples, 'sample')} ({splits}) in {say_count(made['shards'], 'shard')}"
        print(f"{made['output']}: {counts}, {say_bytes(made['bytes'])}")
    return 0
