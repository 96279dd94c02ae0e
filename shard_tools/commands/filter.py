"""`shard-tools filter`: a data set of the samples that fulfil a condition."""

import argparse

from ..choose import fulfilling
from ..rewrite import Output
from ..selection import Selection
from .base import Command, add_dataset
from .rewriting import add_output, tell, write


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_dataset(parser)
    parser.add_argument("--where", required=True, metavar="EXPR", help="condition of SQL over the columns of the index")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Write the samples that fulfil a condition."""
    whole = Selection.all(args.dataset)
    output = Output(args.output, [whole.storage], overwrite=args.overwrite)
    made = write(args, output, [fulfilling(whole, args.where)], {"command": "filter", "where": args.where})
    return tell(args, [made], made)


COMMAND = Command(
    "a new data set of the samples that fulfil a condition",
    """shard-tools filter data/photos --where "label = 'cat' AND \\"jpg.size\\" > 20000" --output data/cats""",
    arguments,
    run,
)
