"""`shard-tools ls`: a line a sample."""

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ..arguments import number
from ..manifest import read_manifest
from ..scan import choose_shards, scan
from ..storage import Storage
from ..where import Condition
from .base import Command, add_dataset, printable

BRIEF = ("key", "split", "shard", "shape", "label", "source")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_dataset(parser)
    parser.add_argument("--split", help="of this split alone")
    parser.add_argument("--shard", metavar="NAME", help="of this shard alone, for instance train-000000")
    parser.add_argument("--where", metavar="EXPR", help="that fulfil a condition of SQL over the columns of the index")
    parser.add_argument("--long", action="store_true", help="also group, range, the list's columns, size of every part")
    parser.add_argument("--limit", type=number(int, 1), metavar="N", help="no more than these")
    parser.add_argument("--json", action="store_true", help="a JSON object a line and sample, for programs")


def run(args: argparse.Namespace) -> int:
    """Print a line a sample, its fields separated by tabs."""
    for row in islice(_rows(args), args.limit):
        if not args.long:
            row = {name: row[name] for name in BRIEF}
        if args.json:
            print(json.dumps(row, ensure_ascii=False))
        else:
            print("\t".join(_cell(value) for value in row.values()))
    return 0


def _rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    manifest, storage = read_manifest(args.dataset), Storage(args.dataset)
    condition = Condition(args.where, manifest) if args.where is not None else None
    for shard, index in scan(storage, manifest, choose_shards(manifest, args.split, args.shard)):
        chosen = index.take(condition.rows(index, shard)) if condition else index
        chosen = chosen.drop_columns([name for name in chosen.column_names if name.endswith(".offset")])
        for batch in chosen.to_batches(max_chunksize=1000):
            for row in batch.to_pylist():
                brief = {**row, "shard": shard.name.removesuffix(".tar")}
                yield {**{name: brief.pop(name) for name in BRIEF}, **brief}


def _cell(value: Any) -> str:
    """Return a value as a field: lattice shapes like 32×48, an empty text as -."""
    if isinstance(value, list):
        return "×".join(map(str, value))
    return printable(str(value)) or "-"


COMMAND = Command(
    "a line a sample: key, split, shard, lattice, label, source",
    """shard-tools ls data/photos --split val | head
shard-tools ls data/photos --where "label = 'cat' AND \\"jpg.size\\" > 20000" --long --json""",
    arguments,
    run,
)
