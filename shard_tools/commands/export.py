"""`shard-tools export`: the index that a reader of another format wants."""

import argparse
import json

from ..export import FORMATS, export
from .base import Command, add_dataset, add_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    formats = "; ".join(f"{name}: {format.help}" for name, format in FORMATS.items())
    parser.add_argument("format", metavar="FORMAT", choices=FORMATS, help=formats)
    add_dataset(parser)
    in_place = " and ".join(name for name, format in FORMATS.items() if format.in_place)
    parser.add_argument(
        "--output", required=True, metavar="DIR", help=f"new folder or URL; for {in_place} also the data set's own"
    )
    parser.add_argument("--copy", action="store_true", help="where shards belong in DIR, copy them instead of linking")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the export and say what was written."""
    names = export(args.format, args.dataset, args.output, args.copy)
    if args.json:
        print(json.dumps({"format": args.format, "output": args.output, "files": names}, indent=2))
    else:
        print(f"{args.output}: {len(names)} files for {args.format}, of {args.dataset}")
    return 0


COMMAND = Command(
    "side files for the readers of Energon, DALI, wids and Hugging Face",
    "shard-tools export energon data/clips --output energon/clips\n"
    "shard-tools export wids data/photos --output data/photos",
    arguments,
    run,
)
