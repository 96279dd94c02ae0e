"""`shard-tools stats`: histograms, in the terminal or as a page."""

import argparse
import json
from typing import Any

from rich.text import Text
from tqdm import tqdm

from ..arguments import number
from ..manifest import read_manifest
from ..stats import stats, write_page
from ..words import printable, say_count, say_number
from .base import Command, Console, add_dataset, add_json, print_table

BAR = 40  # characters
ROWS = " ▏▎▍▌▋▊▉"
COLUMNS = " ▁▂▃▄▅▆▇█"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_dataset(parser)
    parser.add_argument("--out", metavar="FILE.html", help="write a page with pictures instead of printing bars")
    parser.add_argument(
        "--samples", type=number(int, 1), default=256, metavar="N", help="whose parts are read, evenly spread (256)"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print histograms, or write them as a page."""
    total = sum(shard.samples for shard in read_manifest(args.dataset).shards)
    with tqdm(total=total + min(args.samples, total), unit=" samples", desc="stats", leave=False, disable=None) as bar:
        figures = stats(args.dataset, args.samples, bar.update)
    if args.out is not None:
        write_page(figures, args.out)
    if args.json:
        print(json.dumps(figures, indent=2, ensure_ascii=False))
    elif args.out is not None:
        print(f"{args.out}: {len(figures['of_all']) + len(figures['of_some'])} histograms of {args.dataset}")
    else:
        _print(figures)
    return 0


def _print(figures: dict[str, Any]) -> None:
    console = Console()
    title = f"{figures['name']}: {figures['modality']}, {say_count(figures['samples'], 'sample')}"
    console.print(Text(printable(title), "bold"))
    console.print()
    head = ["of all samples, by logarithm", "min", "", "max", "mean"]
    print_table(console, head, [_row(histogram) for histogram in figures["of_all"]], len(figures["of_all"]))
    labels = figures["labels"]
    most = max(labels.values(), default=1)
    print_table(console, ["label", "", "samples"], [[name, _bar(n / most), f"{n:,}"] for name, n in labels.items()])
    head = [f"of {say_count(figures['read'], 'sample')}, evenly spread", "min", "", "max", "mean"]
    print_table(console, head, [_row(histogram) for histogram in figures["of_some"]], len(figures["of_some"]))


def _row(histogram: dict[str, Any]) -> list[str]:
    """Return title, least, bars, most and mean."""
    unit = "byte" if histogram["unit"] == "byte" else ""
    low, mean, high = (say_number(histogram[name], unit) for name in ("min", "mean", "max"))
    if histogram["min"] == histogram["max"]:
        return [histogram["title"], low, "always", "", ""]
    most = max(histogram["counts"])
    return [histogram["title"], low, "".join(_column(count / most) for count in histogram["counts"]), high, mean]


def _column(share: float) -> str:
    """Return a bar of one character; the least that is not nothing can be seen."""
    return COLUMNS[max(round(share * 8), share > 0)]


def _bar(share: float) -> str:
    """Return a bar of at most BAR characters; the least that is not nothing can be seen."""
    eighths = max(round(share * BAR * 8), share > 0)
    return "█" * (eighths // 8) + ROWS[eighths % 8].strip()


COMMAND = Command(
    "histograms: bytes, lattices, labels, durations of all samples; facts and layer values of some",
    "shard-tools stats data/photos\nshard-tools stats data/photos --out stats.html",
    arguments,
    run,
)
