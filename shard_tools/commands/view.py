"""`shard-tools view`: a page with pictures of samples."""

import argparse

from ..arguments import number
from ..view import view
from ..words import say_count
from .base import Command, add_dataset


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_dataset(parser)
    parser.add_argument("--out", required=True, metavar="FILE.html", help="the page to write")
    parser.add_argument("--count", type=number(int, 1), default=12, help="how many samples, evenly spread (default 12)")
    parser.add_argument("--split", help="of this split alone, for instance val (default: all)")


def run(args: argparse.Namespace) -> int:
    """Write a page with pictures of samples."""
    shown = view(args.dataset, args.count, args.split, args.out)
    print(f"{args.out}: {say_count(shown, 'sample')} of {args.dataset}")
    return 0


COMMAND = Command(
    "one HTML page with pictures of samples, their mask layers laid over them",
    "shard-tools view data/clips --out clips.html\nshard-tools view data/photos --out p.html --split val --count 9",
    arguments,
    run,
)
