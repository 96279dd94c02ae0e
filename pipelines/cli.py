"""The command `shard-build`: flags of the engine, and of the modality's own options."""

import argparse
import json
import logging
import os
import sys
import types
import typing
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from pydantic.fields import FieldInfo
from tqdm.contrib.logging import logging_redirect_tqdm

from shard_tools.arguments import Parser, number, run, size

from .modality import Modality, get_modality, modality_names

PROG = "shard-build"
LONGEST = 30 * 24 * 3600  # seconds
EXAMPLES = """examples:
  shard-build --modality image --input photos/ --output data/photos --labels parent
  shard-build --modality video --input 'films/*.mkv' clips/ --output data/films --workers 8
  shard-build --modality image --input clips.csv --column path=image_url --output s3://bucket/photos --rate 20
  shard-build --modality image --input front/ --group '(\\d+)\\.jpg$' --output data/front
  shard-build --modality lidar --input sweeps/ --group '(\\d+)\\.bin$' --onto data/front --output data/sweeps
  shard-build --modality image --layers saliency --onto data/plain --output data/plain-saliency
  shard-build --modality video --input films/ --with audio --output data/films
  shard-build --modality audio --help        (with the options of audio)

A build that was stopped goes on when the same command is given again."""


def main() -> None:
    """Run `shard-build` and exit."""
    try:
        run(PROG, build_command, extra="build")
    except SystemExit as done:  # DuckDB's bindings complain at the end of an interpreter that had Ray in it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(done.code or 0))


def build_command(argv: list[str]) -> int:
    """Run a command line; return its exit code. Raises Problem."""
    kind = _modality(argv)
    arguments = vars(_parser(kind).parse_args(argv))
    from .engine import build  # after the command line is known to be right: Ray takes a second

    as_json = arguments.pop("json")
    options = {name: arguments.pop(name) for name in (kind.Options.model_fields if kind else ()) if name in arguments}
    arguments["inputs"] = [item for items in arguments.pop("input") or () for item in items]
    arguments["columns"] = dict(arguments.pop("column"))
    logging.basicConfig(format=f"{PROG}: %(message)s")
    with logging_redirect_tqdm(), redirect_stdout(sys.stderr):  # Ray tells there of workers that were killed
        report = build(**arguments, options=options, progress=True)
    print(json.dumps(report.as_dict()) if as_json else report)
    return 0


def _modality(argv: Sequence[str]) -> type[Modality] | None:
    """Return the modality that a command line names: its options are flags too. Raises Misuse for an unknown one."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--modality", nargs="?")
    name = first.parse_known_args(argv)[0].modality
    return get_modality(name) if name else None


def _parser(kind: type[Modality] | None) -> Parser:
    parser = Parser(prog=PROG, description="Build a shard data set from raw files.", epilog=EXAMPLES)
    add = parser.add_argument
    add("--modality", required=True, metavar="NAME", help=f"what the files are: {', '.join(modality_names())}")
    add(
        "--input",
        nargs="+",
        action="append",
        metavar="PATH",
        help="folders, files, globs, URLs, lists (csv, parquet, jsonl), tars, a rejected.parquet; may be repeated",
    )
    add("--output", required=True, metavar="FOLDER", help="the data set: a folder, or a URL like s3://bucket/name")
    add("--labels", choices=["none", "parent"], default="none", help="parent: a file's class is the name of its folder")
    add(
        "--column",
        type=_pair,
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="name of a list's column for path, label, caption, group, start or end; may be repeated",
    )
    add("--group", metavar="REGEX", help="over the names of inputs: those of one group are of one instant and zip")
    add(
        "--onto", metavar="DATASET", help="take the keys and shards of this data set; without --input: an overlay of it"
    )
    add("--layers", type=_names, metavar="A,B", help="mask layers to build (all of the modality)")
    add(
        "--with",
        dest="companions",
        type=_names,
        default=[],
        metavar="audio",
        help="build these modalities of the same inputs, too, as OUTPUT-audio: the sound of a film's clips",
    )
    add(
        "--val",
        type=number(float, 0, 1),
        default=0.1,
        metavar="SHARE",
        help="share of the inputs for the split val (0.1)",
    )
    add("--seed", type=int, default=0, help="of splits and order (0)")
    add("--shard-size", type=size, default=256 * 10**6, metavar="BYTES", help="largest shard (256MB)")
    add(
        "--shard-samples",
        type=number(int, 1),
        metavar="N",
        help="samples of a shard at most (10000; 1000 with --group, where bytes do not count)",
    )
    add(
        "--timeout",
        type=number(float, 0.1, LONGEST),
        default=300.0,
        metavar="SECONDS",
        help="that each sample of an input may take (300)",
    )
    add("--memory", type=size, default=2 << 30, metavar="BYTES", help="memory that decoding an input may take (2GiB)")
    add(
        "--rate",
        type=number(float, 1e-3),
        metavar="N",
        help="requests a second, of all workers, for inputs behind URLs",
    )
    add("--retries", type=number(int, 0), default=3, metavar="N", help="how often a failed request is retried (3)")
    add("--max-rejected", metavar="N|P%", help="stop when more inputs than this are rejected")
    add("--workers", type=number(int, 1), metavar="N", help="processes that decode (as many as there are CPUs)")
    add("--ray-address", metavar="ADDRESS", help="of a running Ray cluster; without it one is started here")
    add("--overwrite", action="store_true", help="replace the data set that stands in --output")
    add("--json", action="store_true", help="print the closing summary as JSON")
    if kind:
        group = parser.add_argument_group(f"options of {kind.name}")
        for name, option in kind.Options.model_fields.items():
            group.add_argument("--" + name.replace("_", "-"), dest=name, **_flag(option))
    return parser


def _flag(option: FieldInfo) -> dict[str, Any]:
    """Return how argparse is to read one field of a modality's options; pydantic checks the value later."""
    default = option.get_default(call_default_factory=True)
    shown = "" if default in (None, "") else f" ({default})"
    flag: dict[str, Any] = {
        "default": argparse.SUPPRESS,
        "help": f"{option.description or ''}{shown}".replace("%", "%%"),
    }
    kind: Any = option.annotation
    if typing.get_origin(kind) in (typing.Union, types.UnionType):  # X | None
        kind = next(choice for choice in typing.get_args(kind) if choice is not type(None))
    if kind is bool:
        return flag | {"action": argparse.BooleanOptionalAction}
    if typing.get_origin(kind) is typing.Literal:
        return flag | {"choices": typing.get_args(kind)}
    return flag | {"type": kind, "metavar": "N" if kind in (int, float) else "TEXT"}


def _names(text: str) -> list[str]:
    """Return the names in 'a,b'."""
    return [name for name in text.split(",") if name]


def _pair(text: str) -> tuple[str, str]:
    """Return (ours, theirs) of 'ours=theirs'."""
    ours, equals, theirs = text.partition("=")
    if not (ours and equals and theirs):
        raise argparse.ArgumentTypeError(f"{text!r}: give OURS=THEIRS, for instance path=image_url")
    return ours, theirs


if __name__ == "__main__":
    main()
