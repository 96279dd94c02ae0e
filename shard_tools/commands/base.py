"""What a command of `shard-tools` is, and what several of them say the same way."""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from rich import console
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from ..words import printable, say_bytes

__all__ = ["Command", "Console", "add_dataset", "add_json", "byte_bar", "print_table", "printable", "say_bytes"]

ROWS = 12  # of a long list people are shown no more; --json has all


class Command(NamedTuple):
    """A subcommand: its one-line help, examples, how it declares its arguments, and what it does.

    run returns the exit code; it raises Problem or Misuse for what goes wrong.
    """

    help: str
    examples: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


class Console(console.Console):
    """Rich's, with a reader that has gone (| head) left to `arguments.run`, as print does."""

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError."""
        raise BrokenPipeError


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Declare the data set that a command reads."""
    parser.add_argument("dataset", metavar="DATASET", help="folder or URL of a data set")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare --json."""
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def byte_bar(what: str, total: int) -> tqdm:
    """Return a progress bar of bytes, shown on a terminal only."""
    return tqdm(total=total, unit="B", unit_scale=True, desc=what, leave=False, disable=None)


def print_table(console: Console, head: list[str], rows: list[list[Any]], limit: int = ROWS) -> None:
    """Print a table of at most `limit` rows unless it is empty. Cells are text, not markup: some come from files."""
    if not rows:
        return
    table = Table(*head, box=None, header_style="dim", pad_edge=False)
    for row in rows[:limit]:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    if len(rows) > limit:
        table.add_row(f"… {len(rows) - limit} more")
    console.print(table, "")
