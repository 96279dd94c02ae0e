"""Folders and globs, here or in an object store, listed lazily: an entry at a time, each once."""

import fnmatch
import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipelines.modality import Reject
from shard_tools.errors import Problem

from .fetch import retried

UNKNOWN = (-1, "")  # size and stamp of a file


class Entry(NamedTuple):
    """What stands in a folder. size, stamp: see `Source`."""

    name: str
    path: str
    folder: bool
    size: int
    stamp: str


Scan = Callable[[str], tuple[object, Iterator[Entry]]]  # folder → its identity, its entries; raises OSError


def walk(scan: Scan, root: str, pattern: Sequence[str] = ()) -> Iterator[tuple[str, str, int, str]]:
    """Yield (path, path below root, size, stamp) of the files below a folder, lazily, each once.

    pattern: components of a glob that a file, or a folder above it, must match; `**` stands for any number of folders.
    Hidden files and folders are left out, unless the pattern names the dot. Links are followed, but not into a folder
    that contains them, nor (without a pattern) into one that is listed anyway. A folder that cannot be listed is
    yielded itself, so that it ends among the rejects.
    """
    pattern = _of_files(pattern)
    everything = len(pattern)
    # Folders still to be read: path, path below root, places in the pattern, and the folders that contain it.
    pending: list[tuple[str, str, frozenset[int], Any]] = [(root, "", _places({0}, pattern), None)]
    while pending:
        folder, below, places, above = pending.pop()
        try:
            identity, entries = scan(folder)
            if _within(identity, above):
                continue
            for entry in entries:
                if not (reached := _below(places, pattern, entry.name)):
                    continue
                path = f"{below}/{entry.name}" if below else entry.name
                if entry.folder:
                    pending.append((entry.path, path, reached, (identity, above)))
                elif everything in reached:
                    yield entry.path, path, entry.size, entry.stamp
        except OSError:
            yield folder, below, *UNKNOWN


def fixed(parts: Sequence[str]) -> int:
    """Return how many components of a glob come before the first that may match several names."""
    return next(number for number, part in enumerate(parts) if glob.has_magic(part))


def reaches(pattern: Sequence[str], below: str) -> bool:
    """Return whether `walk` would yield a file at a path below its root."""
    pattern = _of_files(pattern)
    reached = _places({0}, pattern)
    for name in below.split("/"):
        reached = _below(reached, pattern, name)
    return len(pattern) in reached


def _of_files(pattern: Sequence[str]) -> Sequence[str]:
    """Return a pattern of files: a last `**` stands for those below, not for folders."""
    return (*pattern, "*") if pattern and pattern[-1] == "**" else pattern


def _below(places: frozenset[int], pattern: Sequence[str], name: str) -> frozenset[int]:
    """Return the places in the pattern after an entry of this name; none where it does not match."""
    if len(pattern) in places:  # a folder above it matched
        return places if not name.startswith(".") else frozenset()
    return _advance(places, pattern, name)


def _advance(places: frozenset[int], pattern: Sequence[str], name: str) -> frozenset[int]:
    """Return the places in the pattern after a component of this name; none where it does not match."""
    reached = set()
    for place in places:
        part = pattern[place]
        if name.startswith(".") and not part.startswith("."):
            continue
        if part == "**":
            reached.add(place)
        elif fnmatch.fnmatchcase(name, part):
            reached.add(place + 1)
    return _places(reached, pattern)


def _places(places: set[int], pattern: Sequence[str]) -> frozenset[int]:
    """Return the places with those behind each `**`, which may stand for nothing."""
    for place in sorted(places):
        while place < len(pattern) and pattern[place] == "**":
            place += 1
            places.add(place)
    return frozenset(places)


def _within(identity: object, above: Any) -> bool:
    while above:
        if identity is not None and above[0] == identity:
            return True
        above = above[1]
    return False


def scan_local(root: str, by_pattern: bool) -> Scan:
    """Return what lists folders below a root. by_pattern: not all that lies there is asked for."""
    real = os.path.realpath(root)

    def scan(folder: str) -> tuple[object, Iterator[Entry]]:
        status = os.stat(folder)
        return (status.st_dev, status.st_ino), _entries(folder, "" if by_pattern else real)

    return scan


def _entries(folder: str, listed: str) -> Iterator[Entry]:
    """Yield what stands in a folder. listed: a folder of which everything is listed: a link that leads there is not."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                is_folder = entry.is_dir()
                if is_folder and listed and entry.is_symlink() and _is_listed(os.path.realpath(entry.path), listed):
                    continue
                written = UNKNOWN if is_folder else _of_status(entry.stat())
            except OSError:  # a link to nowhere or to itself
                is_folder, written = False, UNKNOWN
            yield Entry(entry.name, entry.path, is_folder, *written)


def _is_listed(folder: str, root: str) -> bool:
    """Return whether a folder is listed with a root: it lies there, and not below a hidden one."""
    return folder == root or (folder.startswith(f"{root}/") and "/." not in folder.removeprefix(root))


def scan_remote(files: Any) -> Scan:
    """Return what lists folders of an object store. files: its fsspec file system."""

    def scan(folder: str) -> tuple[object, Iterator[Entry]]:
        try:
            found = retried(files.ls, folder, detail=True)
        except Reject as reject:
            if reject.error == "NotFound":  # emptied meanwhile, or a glob's root that never was
                return None, iter(())
            raise Problem(f"{files.unstrip_protocol(folder)}: cannot be listed: {reject.message}") from None
        entries = (
            Entry(path.rpartition("/")[2], path, info["type"] == "directory", *of_object(info))
            for info in found
            if (path := info["name"].rstrip("/")) != folder  # a folder's own marker
        )
        return None, entries

    return scan


def of_file(path: str) -> tuple[int, str]:
    """Return the size and the stamp of a local file."""
    try:
        return _of_status(os.stat(path))
    except (OSError, ValueError):
        return UNKNOWN


def _of_status(status: os.stat_result) -> tuple[int, str]:
    return status.st_size, str(status.st_mtime_ns)


def of_object(info: Mapping[str, Any]) -> tuple[int, str]:
    """Return the size and the stamp of an object, of what its store says of it."""
    return int(info.get("size") or 0), str(info.get("ETag") or info.get("etag") or "")
