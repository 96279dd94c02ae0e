"""What a build reads and what it writes lie apart: an output may be overwritten, and must not be its own input."""

import glob
import os
from collections.abc import Sequence

from shard_tools.errors import Misuse

from .inputs.sources import FORCED, Listing
from .inputs.walk import fixed
from .onto import Base

WRITTEN = ("shards/train-000000.tar", "index/train-000000.parquet", "manifest.json", "README.md")  # as an output has


def check_apart(
    inputs: Sequence[str | os.PathLike[str]], base: Base | None, listing: Listing | None, output: str
) -> None:
    """Raise Misuse where inputs or the base lie in the output, or the output in what is listed or in the base.

    output: an absolute path or a URL.
    """
    root = _real(output)
    for item in [os.fspath(item) for item in inputs]:
        if _lies_in(_real(item), root):
            raise Misuse(f"--input {item}: lies in --output {output}; give another output")
    if base and (_lies_in(_real(base.root), root) or _lies_in(root, _real(base.root))):
        raise Misuse(f"--output {output}: lies in --onto {base.root}, or that in it; give another output")
    if listing and any(listing.lists(f"{root}/{name}") for name in WRITTEN):
        raise Misuse(f"--output {output}: lies inside --input, which would list it, too; give a folder outside")


def _lies_in(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


def _real(item: str) -> str:
    """Return a path without links, or a URL; of a glob the folder above what it matches."""
    where = os.path.expanduser(item.removeprefix(FORCED))
    if not os.path.lexists(where) and glob.has_magic(where):
        parts = where.split("/")
        where = "/".join(parts[: fixed(parts)])
    return where.rstrip("/") if "://" in where else os.path.realpath(where)
