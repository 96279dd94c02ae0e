"""`shard-tools cat`: one sample, or the bytes of one of its parts."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.text import Text

from ..arguments import nearest
from ..errors import Misuse, Problem
from ..reader import Dataset
from ..storage import atomic
from ..tar import PART, check_key, decode_part
from .base import Command, Console, add_dataset, add_json, print_table, printable, say_bytes

CANDIDATES = 20_000  # keys that a misspelt one is compared with


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_dataset(parser)
    parser.add_argument("key", metavar="KEY", help="of the sample, see ls")
    parser.add_argument("--part", metavar="NAME", help="print the bytes of this part as they are stored")
    parser.add_argument(
        "--out", metavar="FILE|FOLDER", help="write the part to this file, or every part into this folder"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print a sample, or write its bytes."""
    data = Dataset(args.dataset)
    position = _find(data, args.key)
    raw = data.raw(position)
    if args.part is not None:
        if args.part not in raw:
            raise Misuse(f"no part {args.part!r}{nearest(args.part, raw)}; there is {', '.join(raw)}")
        raw = {args.part: raw[args.part]}
    if args.out is not None:
        return _save(args, raw)
    if args.part is not None and not args.json:
        sys.stdout.buffer.write(raw[args.part])
        sys.stdout.buffer.flush()
        return 0
    row = {name: value for name, value in data.row(position).items() if not name.endswith((".offset", ".size"))}
    sample = {"row": row, "json": _json(raw), "parts": {part: _describe(part, raw[part]) for part in raw}}
    if args.json:
        print(json.dumps(sample, indent=2, ensure_ascii=False))
    else:
        _print(sample)
    return 0


def _find(data: Dataset, key: str) -> int:
    try:
        return data.find(key)
    except KeyError:
        near = data.keys if len(data) <= CANDIDATES else [known for known in data.keys if known.startswith(key)]
        raise Misuse(f"{data.root}: no sample {key!r}{nearest(key, near[:CANDIDATES])}") from None


def _save(args: argparse.Namespace, raw: dict[str, bytes]) -> int:
    """Write one part to a file, or parts into a folder as KEY.PART, and say where."""
    out, written = Path(args.out), []
    if args.part is None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Misuse(f"--out {out}: no folder ({error.strerror}); choose one --part for a file") from None
    if not out.is_dir() and not out.parent.is_dir():
        raise Misuse(f"--out {out}: not in a folder that exists")
    for part, content in raw.items():
        check_key(args.key)
        if not PART.fullmatch(part):  # of an unknown data set: its names must not lead elsewhere
            raise Problem(f"part {part!r}: no name of a part")
        target = out / f"{args.key}.{part}" if out.is_dir() else out
        try:
            with atomic(target.parent, target.name) as file:
                file.write(content)
        except OSError as error:
            raise Problem(f"--out {target}: cannot be written: {error.strerror}") from error
        written.append({"file": str(target), "part": part, "bytes": len(content)})
    if args.json:
        print(json.dumps(written, ensure_ascii=False))
    else:
        print(*(f"{one['file']}: {say_bytes(float(str(one['bytes'])))}" for one in written), sep="\n")
    return 0


def _json(raw: dict[str, bytes]) -> Any:
    try:
        return decode_part("json", raw.get("json", b""))
    except ValueError:
        return None  # `parts` says why


def _describe(part: str, data: bytes) -> dict[str, Any]:
    """Return {'bytes', 'what'} and for an array dtype, shape, min, mean, max."""
    facts: dict[str, Any] = {"bytes": len(data)}
    try:
        value = decode_part(part, data)
    except ValueError as error:
        return {**facts, "what": f"damaged: {error}"}
    if value is None:
        return {**facts, "what": "empty"}
    if isinstance(value, np.ndarray):
        facts |= {"what": "array", "dtype": str(value.dtype), "shape": list(value.shape)}
        if value.size and value.dtype.kind in "biuf":
            numbers = value.astype(np.float64)
            known = numbers[np.isfinite(numbers)]
            if known.size:
                facts |= {"min": float(known.min()), "mean": float(known.mean()), "max": float(known.max())}
        return facts
    if isinstance(value, pa.Table):
        return {**facts, "what": f"table of {value.num_rows} rows, {value.num_columns} columns"}
    if isinstance(value, int | str):
        return {**facts, "what": repr(value)[:200]}
    return {**facts, "what": "json" if isinstance(value, dict) else "bytes"}


def _print(sample: dict[str, Any]) -> None:
    console = Console()
    console.print(Text(sample["row"]["key"], "bold"))
    shown = {**sample["row"], "shape": "×".join(map(str, sample["row"]["shape"]))}
    facts = {name: value for name, value in (sample["json"] or {}).items() if name not in shown}
    for name, value in ({**shown, **facts}).items():
        if name != "key":
            console.print(Text.assemble((f"{name}: ", "dim"), printable(str(value))), soft_wrap=True)
    console.print()
    print_table(
        console,
        ["part", "bytes", "what", "min", "mean", "max"],
        [
            [
                part,
                say_bytes(facts["bytes"]),
                _what(facts),
                *(_number(facts.get(name)) for name in ("min", "mean", "max")),
            ]
            for part, facts in sample["parts"].items()
        ],
    )


def _what(facts: dict[str, Any]) -> str:
    return f"{facts['dtype']} [{', '.join(map(str, facts['shape']))}]" if "dtype" in facts else facts["what"]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


COMMAND = Command(
    "one sample: what its parts hold; or the bytes of one part",
    "shard-tools cat data/photos 2967-84852788b8\n"
    "shard-tools cat data/photos 2967-84852788b8 --part jpg > a.jpg\n"
    "shard-tools cat s3://bucket/photos 2967-84852788b8 --out folder/",
    arguments,
    run,
)
