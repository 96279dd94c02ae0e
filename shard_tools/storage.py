"""Where a data set lies: a local folder or any URL that fsspec knows.

Reading works anywhere; local files are memory-mapped, others are read by ranges. Writing is local and atomic: a file
is complete under its name, or it is not there.
"""

import mmap
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import fsspec
from fsspec.implementations.local import LocalFileSystem

from .errors import Misuse

PARTIAL = ".partial"


class Blob(Protocol):
    """A file that is read by ranges: len(blob) and blob[start:end]."""

    def __len__(self) -> int: ...
    def __getitem__(self, span: slice, /) -> bytes: ...


class Storage:
    """The files of one data set, named by their paths below its root."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """root: folder or URL. Raises Misuse for a protocol that is unknown or whose package is not installed."""
        self.root = os.fspath(root)
        try:
            self.fs, self._base = fsspec.core.url_to_fs(self.root)
        except (ImportError, ValueError) as error:  # an unknown protocol, or one whose package is not installed
            raise Misuse(f"{self.root}: {error}") from error
        self.local = isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """Return the path of a file as its file system takes it."""
        return f"{self._base.rstrip('/')}/{name}"

    def read(self, name: str) -> bytes:
        """Return a whole file. Raises FileNotFoundError or another OSError."""
        return self.fs.cat_file(self.path(name))

    def exists(self, name: str) -> bool:
        """Return whether there is such a file or folder."""
        return self.fs.exists(self.path(name))

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of what stands in a folder; none when there is no such folder."""
        if not self.exists(folder):
            return []
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in self.fs.ls(self.path(folder), detail=False))

    def blob(self, name: str) -> Blob:
        """Return a file to read by ranges. Raises OSError when it is not there."""
        return map_file(self.path(name)) if self.local else _Remote(self, name)

    def view(self, name: str) -> memoryview:
        """Return the bytes of a whole file, mapped where it is local. Raises OSError when it is not there."""
        return memoryview(map_file(self.path(name)) if self.local else self.read(name))


class _Remote:
    """A file behind fsspec, a request a range."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._fs, self._path = storage.fs, storage.path(name)
        self._size = int(self._fs.size(self._path))

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice, /) -> bytes:
        start, end, _ = span.indices(self._size)
        return self._fs.cat_file(self._path, start=start, end=end) if start < end else b""


def map_file(path: str) -> mmap.mmap | bytes:
    """Return a local file memory-mapped for reading; an empty file, which cannot be mapped, is b''."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class AtomicFile:
    """A local file that appears under its name, whole and on disk, at `commit`, and leaves nothing otherwise.

    Until then it is a hidden file in `folder`, the root of the data set: readers of `shards/` must never see it.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str) -> None:
        self._target = Path(folder, name)
        self._partial = Path(folder, f".{self._target.name}.{uuid.uuid4().hex}{PARTIAL}")
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self.file: BinaryIO = open(self._partial, "xb")  # noqa: SIM115 - closed by commit or abort

    def sync(self) -> None:
        """Bring all that was written to the disk and close the file."""
        if not self.file.closed:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()

    def commit(self) -> None:
        """Put the file under its name, replacing what stood there."""
        self.sync()
        os.replace(self._partial, self._target)
        _sync_folder(self._target.parent)

    def abort(self) -> None:
        """Remove what was written; nothing to do after a commit."""
        self.file.close()
        self._partial.unlink(missing_ok=True)


@contextmanager
def atomic(folder: str | os.PathLike[str], name: str) -> Iterator[BinaryIO]:
    """Open folder/name for writing; it takes its place when the block ends well, and leaves nothing otherwise."""
    target = AtomicFile(folder, name)
    try:
        yield target.file
        target.commit()
    finally:
        target.abort()


def remove_leftovers(root: str | os.PathLike[str]) -> None:
    """Remove the hidden files that a killed writer left in a data set's root. Not while a writer is at work."""
    for path in Path(root).glob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)  # a rename is on disk once its folder is
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
