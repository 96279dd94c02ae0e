"""`shard-tools split`: a data set in several, by what its samples are or by shares."""

import argparse
import re

from ..arguments import nearest
from ..choose import by_shares, by_value
from ..errors import Misuse
from ..rewrite import Output
from ..selection import Selection
from .base import Command, add_dataset
from .rewriting import add_output, tell, write

BY = ("split", "label", "group")
SHARE = re.compile(r"(\d+(?:\.\d+)?)%")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_dataset(parser)
    parser.add_argument(
        "--by",
        required=True,
        nargs="+",
        metavar="split|label|group|N%",
        help="a data set for each split, label or group; or shares such as 80%% 20%%, which keep groups together",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw of shares (0)")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Write several data sets, each in a folder of its own below --output."""
    whole = Selection.all(args.dataset)
    selections = _split(whole, args.by, args.seed)
    root = args.output.rstrip("/")
    outputs = {name: Output(f"{root}/{name}", [whole.storage], overwrite=args.overwrite) for name in selections}
    asked = {"command": "split", "by": args.by, "seed": args.seed}
    made = [write(args, outputs[name], [chosen], {**asked, "part": name}) for name, chosen in selections.items()]
    return tell(args, made, made)


def _split(whole: Selection, by: list[str], seed: int) -> dict[str, Selection]:
    if len(by) == 1 and by[0] in BY:
        return by_value(whole, by[0])
    shares = [SHARE.fullmatch(word) for word in by]
    if wrong := [word for word, share in zip(by, shares, strict=True) if share is None]:
        raise Misuse(f"--by {wrong[0]}: one of {', '.join(BY)}, or shares such as 80% 20%{nearest(wrong[0], BY)}")
    return by_shares(whole, [float(share[1]) for share in shares if share], seed)


COMMAND = Command(
    "several new data sets: one a split, label or group, or shares of the samples",
    "shard-tools split data/photos --by label --output data/by-label\n"
    "shard-tools split data/photos --by 90% 10% --output data/parts",
    arguments,
    run,
)
