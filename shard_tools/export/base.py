"""What an export is, where it may stand, and how the shards come to stand there too."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from ..errors import Misuse
from ..reader import Dataset
from ..schema import Shard
from ..storage import Storage, atomic

CHUNK = 1 << 22


class Format(NamedTuple):
    """A format of others: one-line help, what it asks of the output folder, and what writes its files.

    in_place: its files may stand in the data set's own folder.
    shards: its reader wants the shards in the same folder.
    write: writes the files into the output, whose shards are there, and returns their names below it.
    """

    help: str
    in_place: bool
    shards: bool
    write: Callable[[Dataset, Storage], list[str]]


def rows_by_shard(dataset: Dataset) -> Iterator[tuple[Shard, pa.Table]]:
    """Yield every shard with its part of the index."""
    for shard, start in zip(dataset.shards, dataset.bounds, strict=False):
        yield shard, dataset.index.slice(start, shard.samples)


def same(dataset: Dataset, output: Storage) -> bool:
    """Return whether the output is the data set's own folder."""
    return _real(Storage(dataset.root)) == _real(output)


def check_output(dataset: Dataset, output: Storage, in_place: bool) -> None:
    """Raise Misuse unless the output is a folder that is new or empty, or the data set's own where that is allowed."""
    if same(dataset, output):
        if not in_place:
            raise Misuse(f"--output {output.root}: is the data set; this format needs a folder of its own")
    elif _real(output).startswith(f"{_real(Storage(dataset.root))}/"):
        raise Misuse(f"--output {output.root}: lies in the data set; give another folder")
    elif output.local and os.path.lexists(output.root) and not os.path.isdir(output.root):
        raise Misuse(f"--output {output.root}: is not a folder")
    elif output.names(""):
        raise Misuse(f"--output {output.root}: is not empty; give a new folder")


def place_shards(dataset: Dataset, output: Storage, copy: bool) -> list[str]:
    """Bring every shard into OUTPUT/shards, as a relative symbolic link or a copy, and return their names below OUTPUT.

    Raises Misuse where a link would have to lead to or from another file system.
    """
    source = Storage(dataset.root)
    if not copy and not (source.local and output.local):
        raise Misuse(f"{dataset.root} to {output.root}: only local files can be linked; give --copy")
    names = [f"shards/{shard.name}" for shard in dataset.shards]
    for name in names:
        if copy:
            with source.fs.open(source.path(name), "rb") as there, atomic(output.root, name) as here:
                shutil.copyfileobj(there, here, CHUNK)
        else:
            link = Path(output.root, name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(os.path.realpath(source.path(name)), os.path.realpath(link.parent)))
    return names


def shards_url(dataset: Dataset, output: Storage) -> str:
    """Return what the data set's folder `shards` is called in a file of the output: a relative path, or a URL.

    Raises Misuse for local shards that a file far away would have to refer to.
    """
    source = Storage(dataset.root)
    if same(dataset, output):
        return "shards"
    if not source.local:
        return source.url("shards")
    if not output.local:
        raise Misuse(f"--output {output.root}: files there cannot refer to local shards, {dataset.root}")
    return os.path.relpath(f"{_real(source)}/shards", _real(output))


def _real(storage: Storage) -> str:
    """Return the one path of a folder, whatever links lead to it."""
    path = storage.path("").rstrip("/")
    return os.path.realpath(path) if storage.local else storage.fs.unstrip_protocol(path)
