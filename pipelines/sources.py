"""What there is to build: folders, files and globs → sources with a name that is the same on every machine."""

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from shard_tools.arguments import nearest
from shard_tools.errors import Misuse

Labels = Literal["none", "parent"]


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """One input file.

    source: name of the input's root folder and the path below it, with forward slashes. path: where it lies here.
    label: '' or the name of its folder. group: samples of a group stay in one split. bytes: size of the file.
    """

    source: str
    path: str
    label: str
    group: str
    bytes: int


def list_sources(inputs: Iterable[str | os.PathLike[str]], labels: Labels = "none") -> list[Source]:
    """Return the files below the inputs, sorted by source, whatever the order of the inputs; each file once.

    Hidden files and folders are left out, unless named themselves. A folder that cannot be listed is a source too, so
    that it ends among the rejects. Raises Misuse for an input that is missing or has no files, and where two
    files would have the same name.
    """
    if labels not in get_args(Labels):
        raise Misuse(f"labels {labels!r}; known: {', '.join(get_args(Labels))}")
    sources = sorted({source for item in inputs for source in _expand(os.fspath(item), labels)})
    if not sources:
        raise Misuse("no inputs")
    paths: set[str] = set()
    unique: list[Source] = []
    for source in sources:
        if source.path in paths:  # by way of two inputs, one inside the other
            continue
        if unique and unique[-1].source == source.source:
            raise Misuse(
                f"two inputs would both be called {source.source}: {unique[-1].path} and {source.path}; "
                "give the folder above them, or rename one"
            )
        paths.add(source.path)
        unique.append(source)
    return unique


def inputs_digest(sources: Iterable[Source]) -> str:
    """Return the sha256 of the names, labels, groups and sizes of all sources, as they come."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source.source}\0{source.label}\0{source.group}\0{source.bytes}\n".encode())
    return digest.hexdigest()


def _expand(item: str, labels: Labels) -> Iterator[Source]:
    path = Path(os.path.abspath(os.path.expanduser(item)))
    if path.is_dir():
        matches = [path]
        root = path
    elif path.exists():
        matches = [path]
        root = path.parent
    elif glob.has_magic(item):
        matches = [Path(match) for match in glob.iglob(str(path), recursive=True)]
        root = Path(*path.parts[: next(i for i, part in enumerate(path.parts) if glob.has_magic(part))])
    else:
        close = nearest(path.name, os.listdir(path.parent)) if path.parent.is_dir() else ""
        raise Misuse(f"{item}: no such file or folder{close}")
    empty = True
    for match in matches:
        for file in _walk(match, ()) if match.is_dir() else [match]:
            empty = False
            yield _source(file, root, labels)
    if empty:
        raise Misuse(f"{item}: {'no files in this folder' if path.is_dir() else 'nothing matches'}")


def _walk(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files below a folder; links to folders are followed, but not into a folder that contains them."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        yield folder
        return
    for name in entries:
        path = folder / name
        if name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, (*above, real))
        else:
            yield path


def _source(path: Path, root: Path, labels: Labels) -> Source:
    name = _printable("/".join((root.name, *path.relative_to(root).parts)).lstrip("/"))
    try:
        size = path.stat().st_size
    except OSError:
        size = -1
    label = _printable(path.parent.name) if labels == "parent" else ""
    return Source(name, str(path), label, name, size)


def _printable(name: str) -> str:
    """Return a file name as valid Unicode: bytes that are not UTF-8 are written as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
