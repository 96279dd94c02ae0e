"""Open data sets for reading: one, or several as one."""

import os
from collections.abc import Mapping, Sequence

from .reader import Dataset, Root
from .zipped import Zipped


def open(root: Root | Sequence[Root] | Mapping[str, Root], split: str | None = None) -> Dataset:
    """Open a data set, or one split of it, for reading. Several are zipped: read as one, see `zipped.Zipped`.

    root: a folder or a URL that fsspec knows; or some of them, [A, B] or {"front": A, "lidar": B}.
    Only the manifest and the index are read here. Raises Misuse where there is no data set or no such split and for
    data sets that do not zip, and Problem for a broken manifest or index.
    """
    if isinstance(root, str | os.PathLike):
        return Dataset(root, split)
    return Zipped(root, split)
