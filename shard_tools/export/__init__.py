"""Data sets for readers that want an index of their own, one format a file. The shards stay as they are."""

import os

from ..errors import Misuse, Problem
from ..opening import open
from ..storage import Storage
from . import dali, energon, hf, wids
from .base import Format, check_output, place_shards, same

FORMATS: dict[str, Format] = {"dali": dali.FORMAT, "energon": energon.FORMAT, "hf": hf.FORMAT, "wids": wids.FORMAT}


def export(name: str, root: str | os.PathLike[str], output: str | os.PathLike[str], copy: bool = False) -> list[str]:
    """Write what a reader of the format `name` wants of a data set, and return the names of the files below `output`.

    output: folder or URL, new or empty; the data set's own for formats whose files may stand there.
    copy: where the format wants the shards in its own folder, copy them instead of linking them.
    Raises Misuse for an output or a copy that cannot be, and Problem for a broken data set or an unwritable output.
    """
    dataset, target, format = open(root), Storage(output), FORMATS[name]
    check_output(dataset, target, format.in_place)
    foreign = format.shards and not same(dataset, target)
    if copy and not foreign:
        raise Misuse(f"--copy: there is nothing to copy, since {name} refers to the shards where they are")
    try:
        return [*(place_shards(dataset, target, copy) if foreign else []), *format.write(dataset, target)]
    except OSError as error:
        raise Problem(f"{target.root}: the export failed: {' '.join(str(error).split())}") from error
