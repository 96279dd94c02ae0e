"""`shard-tools sample`: a small data set of samples drawn by chance."""

import argparse

from ..arguments import number
from ..choose import by_chance
from ..rewrite import Output
from ..selection import Selection
from .base import Command, add_dataset
from .rewriting import add_output, tell, write


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_dataset(parser)
    parser.add_argument("count", metavar="N", type=number(int, 1), help="how many samples")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Write N samples drawn by chance."""
    whole = Selection.all(args.dataset)
    output = Output(args.output, [whole.storage], overwrite=args.overwrite)
    chosen = by_chance(whole, args.count, args.seed)
    made = write(args, output, [chosen], {"command": "sample", "count": args.count, "seed": args.seed})
    return tell(args, [made], made)


COMMAND = Command(
    "a new data set of N samples drawn by chance",
    "shard-tools sample s3://bucket/photos 500 --output data/photos-500",
    arguments,
    run,
)
