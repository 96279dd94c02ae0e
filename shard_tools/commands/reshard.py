"""`shard-tools reshard`: the same samples in larger or smaller shards."""

import argparse

from ..rewrite import Output
from ..selection import Selection
from .base import Command, add_dataset
from .rewriting import add_output, tell, write


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_dataset(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Write all samples into shards of another size."""
    whole = Selection.all(args.dataset)
    output = Output(args.output, [whole.storage], overwrite=args.overwrite)
    made = write(args, output, [whole], {"command": "reshard"})
    return tell(args, [made], made)


COMMAND = Command(
    "a new data set of the same samples in larger or smaller shards",
    "shard-tools reshard data/photos --shard-size 1GB --shard-samples 100000 --output data/photos-large",
    arguments,
    run,
)
