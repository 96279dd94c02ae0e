"""`shard-tools merge`: one data set of several of a kind."""

import argparse

from ..errors import Misuse
from ..rewrite import Output, check_alike, check_keys
from ..selection import Selection
from .base import Command
from .rewriting import add_output, tell, write


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("datasets", nargs="+", metavar="DATASET", help="folders or URLs of data sets")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Write the samples of several data sets into one."""
    if len(args.datasets) < 2:
        raise Misuse("merge: give two data sets or more")
    selections = [Selection.all(root) for root in args.datasets]
    output = Output(args.output, [selection.storage for selection in selections], overwrite=args.overwrite)
    check_alike(selections)
    check_keys(selections)
    made = write(args, output, selections, {"command": "merge"})
    return tell(args, [made], made)


COMMAND = Command(
    "one new data set of several with the same parts, layers and columns",
    "shard-tools merge data/photos-2024 data/photos-2025 --output data/photos",
    arguments,
    run,
)
