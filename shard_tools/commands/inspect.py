"""`shard-tools inspect`: what is in a data set."""

import argparse
import json

from rich.text import Text

from ..inspect import summary
from ..words import say_count
from .base import Command, Console, add_dataset, add_json, print_table, printable, say_bytes


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_dataset(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print what is in a data set."""
    facts = summary(args.dataset)
    if args.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return 0
    console = Console()
    size = f"{say_count(facts['samples'], 'sample')}, {say_bytes(facts['bytes'])}"
    title = f"{facts['name']}: {facts['modality']}, {size}"
    console.print(Text(printable(title), "bold"))
    print_table(
        console,
        ["split", "samples", "shards", "bytes"],
        [[name, row["samples"], row["shards"], say_bytes(row["bytes"])] for name, row in facts["splits"].items()],
    )
    print_table(
        console,
        ["part", "bytes", "a sample"],
        [[part, say_bytes(size), say_bytes(size / max(facts["samples"], 1))] for part, size in facts["parts"].items()],
    )
    print_table(
        console,
        ["layer", "kind", "cell", "dtype", "unit", "algorithm"],
        [
            [name, row["kind"], " × ".join(map(str, row["cell"])), row["dtype"], row["unit"], row["algorithm"]]
            for name, row in facts["layers"].items()
        ],
    )
    for title, key in (("lattice", "shapes"), ("label", "labels"), ("rejected for", "rejected")):
        print_table(console, [title, "count"], [list(item) for item in facts[key].items()])
    if facts["gaps"]:
        console.print(Text(printable(f"shards without samples: {', '.join(facts['gaps'])}")))
    return 0


COMMAND = Command(
    "what is in a data set: counts, shapes, layers, bytes, rejects",
    "shard-tools inspect data/clips\nshard-tools inspect data/clips --json | jq .splits",
    arguments,
    run,
)
