"""`shard-tools verify`: is a data set whole, and is it the same as another?"""

import argparse
import json
import os

from ..arguments import number
from ..compare import compare
from ..errors import Misuse
from ..manifest import read_manifest
from ..verify import verify
from ..words import say_count
from .base import Command, add_dataset, add_json, byte_bar, printable, say_bytes

GIGABYTE = 10**9


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_dataset(parser)
    parser.add_argument(
        "--against", metavar="DATASET", help="say instead whether this data set has the same bytes, and if not, why"
    )
    parser.add_argument(
        "--workers",
        type=number(int, 1),
        metavar="N",
        help="processes that check (one a GB of shards, but no more than there are CPUs)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Check a data set; print the findings and return 1 when there are any."""
    if args.against is not None and args.workers:
        raise Misuse("--workers: a comparison is one process; leave it out")
    manifest = read_manifest(args.dataset)
    total = sum(shard.bytes for shard in manifest.shards)
    if args.against is not None:
        return _compare(args, total + sum(shard.bytes for shard in read_manifest(args.against).shards))
    workers = args.workers or min(len(os.sched_getaffinity(0)), 1 + total // GIGABYTE)
    with byte_bar("verify", total) as bar:
        findings = verify(args.dataset, bar.update, workers=min(workers, len(manifest.shards)) or 1)
    if args.json:
        print(json.dumps({"dataset": args.dataset, "ok": not findings, "findings": findings}, indent=2))
    elif findings:
        print(*map(printable, findings), sep="\n")
    else:
        shards, samples = len(manifest.shards), sum(manifest.splits.values())
        size = f"{say_count(shards, 'shard')}, {say_count(samples, 'sample')}, {say_bytes(total)}"
        print(f"{args.dataset}: all is well: {size}")
    return 1 if findings else 0


def _compare(args: argparse.Namespace, total: int) -> int:
    with byte_bar("compare", total) as bar:
        differences = compare(args.dataset, args.against, bar.update)
    if args.json:
        facts = {"dataset": args.dataset, "against": args.against, "identical": not differences}
        print(json.dumps({**facts, "differences": differences}, indent=2))
    elif differences:
        print(*map(printable, differences), sep="\n")
    else:
        print(f"{args.dataset} and {args.against}: the same bytes")
    return 1 if differences else 0


COMMAND = Command(
    "check every checksum, sample and index entry, or compare with another; exit 1 and a list if something is wrong",
    "shard-tools verify data/clips\nshard-tools verify data/clips --json\n"
    "shard-tools verify data/clips --against s3://bucket/clips",
    arguments,
    run,
)
