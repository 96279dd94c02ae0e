"""The command `shard-tools`: what is in a data set, whether it is whole, what it looks like."""

import argparse
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from .arguments import Parser, run
from .inspect import summary
from .manifest import read_manifest
from .verify import verify
from .view import view

ROWS = 12  # of a long list people are shown no more; --json has all


class Command(NamedTuple):
    """A subcommand: its one-line help, examples, how it declares its arguments, and what it does."""

    help: str
    examples: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def inspect_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `inspect`."""
    parser.add_argument("dataset", help="folder or URL of a data set")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, for programs")


def inspect_command(args: argparse.Namespace) -> int:
    """Print what is in a data set."""
    facts = summary(args.dataset)
    if args.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return 0
    console = Console()
    console.print(
        Text(f"{facts['name']}: {facts['modality']}, {facts['samples']} samples, {_bytes(facts['bytes'])}", "bold")
    )
    _print_table(
        console,
        ["split", "samples", "shards", "bytes"],
        [[name, row["samples"], row["shards"], _bytes(row["bytes"])] for name, row in facts["splits"].items()],
    )
    _print_table(
        console,
        ["part", "bytes", "a sample"],
        [[part, _bytes(size), _bytes(size / max(facts["samples"], 1))] for part, size in facts["parts"].items()],
    )
    _print_table(
        console,
        ["layer", "kind", "cell", "dtype", "unit", "algorithm"],
        [
            [name, row["kind"], " × ".join(map(str, row["cell"])), row["dtype"], row["unit"], row["algorithm"]]
            for name, row in facts["layers"].items()
        ],
    )
    for title, key in (("lattice", "shapes"), ("label", "labels"), ("rejected for", "rejected")):
        _print_table(console, [title, "count"], [list(item) for item in facts[key].items()])
    if facts["gaps"]:
        console.print(Text(f"shards without samples: {', '.join(facts['gaps'])}"))
    return 0


def verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `verify`."""
    parser.add_argument("dataset", help="folder or URL of a data set")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON, for programs")


def verify_command(args: argparse.Namespace) -> int:
    """Check a data set; print the findings and return 1 when there are any."""
    manifest = read_manifest(args.dataset)
    total = sum(shard.bytes for shard in manifest.shards)
    with tqdm(total=total, unit="B", unit_scale=True, desc="verify", leave=False, disable=None) as bar:
        findings = verify(args.dataset, bar.update)
    if args.json:
        print(json.dumps({"dataset": args.dataset, "ok": not findings, "findings": findings}, indent=2))
    elif findings:
        print(*findings, sep="\n")
    else:
        samples = sum(manifest.splits.values())
        print(f"{args.dataset}: all is well: {len(manifest.shards)} shards, {samples} samples, {_bytes(total)}")
    return 1 if findings else 0


def view_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `view`."""
    parser.add_argument("dataset", help="folder or URL of a data set")
    parser.add_argument("--out", required=True, metavar="FILE.html", help="the page to write")
    parser.add_argument("--count", type=positive, default=12, help="how many samples, evenly spread (default 12)")
    parser.add_argument("--split", help="of this split alone, for instance val (default: all)")


def view_command(args: argparse.Namespace) -> int:
    """Write a page with pictures of samples."""
    shown = view(args.dataset, args.count, args.split, args.out)
    print(f"{args.out}: {shown} samples of {args.dataset}")
    return 0


COMMANDS = {
    "inspect": Command(
        "what is in a data set: counts, shapes, layers, bytes, rejects",
        "shard-tools inspect data/clips\nshard-tools inspect data/clips --json | jq .splits",
        inspect_arguments,
        inspect_command,
    ),
    "verify": Command(
        "check every checksum, sample and index entry; exit 1 and a list if something is wrong",
        "shard-tools verify data/clips\nshard-tools verify data/clips --json",
        verify_arguments,
        verify_command,
    ),
    "view": Command(
        "one HTML page with pictures of samples, their mask layers laid over them",
        "shard-tools view data/clips --out clips.html\nshard-tools view data/photos --out p.html --split val --count 9",
        view_arguments,
        view_command,
    ),
}


def main() -> None:
    """Run the program `shard-tools`."""
    run("shard-tools", _main)


def _main(argv: list[str]) -> int:
    parser = Parser(prog="shard-tools", description=__doc__, epilog="examples:\n" + _indent(COMMANDS.values()))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {}
    for name, command in COMMANDS.items():
        parsers[name] = commands.add_parser(
            name, help=command.help, description=command.help, epilog="examples:\n" + _indent([command])
        )
        command.arguments(parsers[name])
    if argv and argv[0] in COMMANDS:  # by its own parser, which knows the flags to offer after a typo
        return COMMANDS[argv[0]].run(parsers[argv[0]].parse_args(argv[1:]))
    parser.parse_args(argv)
    return 0


def _indent(commands: Any) -> str:
    return "\n".join(f"  {line}" for command in commands for line in command.examples.splitlines())


def positive(text: str) -> int:
    """Return a number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _print_table(console: Console, head: list[str], rows: list[list[Any]]) -> None:
    """Print a table unless it is empty. Cells are text, never markup: labels come from file names."""
    if not rows:
        return
    table = Table(*head, box=None, header_style="dim", pad_edge=False)
    for row in rows[:ROWS]:
        table.add_row(*(Text(str(cell)) for cell in row))
    if len(rows) > ROWS:
        table.add_row(f"… {len(rows) - ROWS} more")
    console.print(table, "")


if __name__ == "__main__":
    main()
