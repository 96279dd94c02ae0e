"""Where a data set lies: a local folder or any URL that fsspec knows.

Local files are memory-mapped, others are read by ranges. Writing is atomic: a file is complete under its name, or it is
not there. Credentials and endpoints of remote storage come from the environment, as fsspec and the SDK behind it read
them (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, FSSPEC_S3_…).
"""

import logging
import mmap
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import fsspec
from fsspec.implementations.local import LocalFileSystem

from .errors import Misuse, Problem

PARTIAL = ".partial"
WINDOW = 8 << 20  # bytes
OBJECT_STORES = {
    "s3",
    "s3a",
    "gs",
    "gcs",
    "az",
    "abfs",
    "abfss",
}  # an object appears there when its upload is complete, and not before
READ_ONLY = {"http", "https"}
# It logs each error that it raises, with the traceback, and whenever it may not see of what kind a bucket is.
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)


class Blob(Protocol):
    """A file that is read by ranges: len(blob) and blob[start:end]."""

    def __len__(self) -> int: ...
    def __getitem__(self, span: slice, /) -> bytes: ...


class Storage:
    """The files of one data set, named by their paths below its root.

    May be pickled, forked and used from several threads. What a remote storage refuses is raised as one of
    FileNotFoundError, PermissionError, TimeoutError and OSError, whose message is one line that names the file.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """root: folder or URL. Raises Misuse for a protocol that is unknown or whose package is not installed."""
        self.root = os.fspath(root)
        if "://" in self.root and not self.root.partition("://")[2].strip("/"):
            raise Misuse(f"{self.root}: names no bucket and no folder")
        self._protocol = self.root.partition("://")[0]
        self._connect()
        self.local = isinstance(self._fs, LocalFileSystem)
        self._whole: tuple[str, bytes] | None = None

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The file system, connected anew in a forked process, since connections do not survive a fork."""
        if self._process != os.getpid():
            self._connect()
        return self._fs

    @property
    def absolute(self) -> str:
        """The root as a process that works elsewhere takes it: an absolute path, or the URL."""
        return os.path.dirname(self.path("name")) if self.local else self.root.rstrip("/")

    def path(self, name: str) -> str:
        """Return the path of a file as its file system takes it."""
        return f"{self._base.rstrip('/')}/{name}"

    def url(self, name: str) -> str:
        """Return the path or URL of a file as a person would write it."""
        return f"{self.root.rstrip('/')}/{name}"

    def read(self, name: str) -> bytes:
        """Return a whole file. Raises FileNotFoundError or another OSError."""
        with self._errors(name):
            return self.fs.cat_file(self.path(name))

    def exists(self, name: str) -> bool:
        """Return whether there is such a file or folder."""
        with self._errors(name):
            return self.fs.exists(self.path(name))

    def size(self, name: str) -> int:
        """Return a file's size in bytes. Raises FileNotFoundError or another OSError."""
        with self._errors(name):
            size = self.fs.size(self.path(name))
        if size is None:
            raise OSError(f"{self.url(name)}: the server does not say how large it is")
        return int(size)

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of what stands in a folder; none when there is no such folder."""
        if not self.exists(folder):
            return []
        with self._errors(folder):
            paths = self.fs.ls(self.path(folder), detail=False)
        own = self.path(folder).rstrip("/")  # some tools put an empty object where a folder is to be seen
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in paths if path.rstrip("/") != own)

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of what stands in a folder, by name; nothing when there is no such folder."""
        if not self.exists(folder):
            return {}
        with self._errors(folder):
            found = self.fs.ls(self.path(folder), detail=True)
        return {info["name"].rstrip("/").rsplit("/", 1)[-1]: int(info["size"] or 0) for info in found}

    def blob(self, name: str) -> Blob:
        """Return a file to read by ranges. Raises OSError when it is not there."""
        return map_file(self.path(name)) if self.local else _Remote(self, name)

    def view(self, name: str) -> memoryview:
        """Return the bytes of a whole file, mapped where it is local. Raises OSError when it is not there."""
        return memoryview(map_file(self.path(name)) if self.local else self.read(name))

    def span(self, name: str, start: int, end: int) -> bytes:
        """Return the bytes start…end - 1 of a file. Raises OSError when not all of them come."""
        whole = self._whole
        if whole and whole[0] == name:
            return whole[1][start:end]
        with self._errors(name):
            data = self.fs.cat_file(self.path(name), start=start, end=end)
        if len(data) > end - start:  # a server that knows no ranges sends all; kept, as the next span is mostly near
            self._whole = name, data
            data = data[start:end]
        if len(data) != end - start:
            raise OSError(f"{self.url(name)}: {len(data)} of the {end - start} bytes at {start} came")
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file, see `atomic`. Raises OSError, and Misuse where nothing can be written."""
        with atomic(self.root, name) as file:
            file.write(data)

    def put(self, path: str | os.PathLike[str], name: str) -> None:
        """Store a copy of a local file under `name`, whole or not at all. Raises like `write`.

        A process killed while it uploads leaves no object, but S3 keeps the parts sent until the bucket's lifecycle
        rule for incomplete multipart uploads removes them.
        """
        if self.local:
            with open(path, "rb") as source, atomic(self.root, name) as file:
                shutil.copyfileobj(source, file)
            return
        self.check_writable()
        with self._errors(name):
            if self._protocol in OBJECT_STORES:
                # Parts sent at a time: ten, as s3fs would, hold a shard in memory twice.
                self.fs.put_file(os.fspath(path), self.path(name), max_concurrency=2)
            else:
                self._put_and_rename(os.fspath(path), name)

    def get(self, name: str, path: str | os.PathLike[str]) -> None:
        """Copy a file to a local path. Raises OSError."""
        with self._errors(name):
            self.fs.get_file(self.path(name), os.fspath(path))

    def remove(self, name: str) -> None:
        """Remove a file; nothing to do when it is not there. Raises like `write`."""
        self.check_writable()
        with suppress(FileNotFoundError), self._errors(name):
            self.fs.rm_file(self.path(name))

    def remove_tree(self, name: str) -> None:
        """Remove a folder with all that stands below it; nothing to do when it is not there. Raises like `write`."""
        self.check_writable()
        with suppress(FileNotFoundError), self._errors(name):
            self.fs.rm(self.path(name), recursive=True)

    def check_writable(self) -> None:
        """Raise Misuse where nothing can be written."""
        if self._protocol in READ_ONLY:
            raise Misuse(f"{self.root}: nothing can be written to a web server; give a folder or s3://…, gs://…")

    def _connect(self) -> None:
        try:
            self._fs, self._base = fsspec.core.url_to_fs(self.root)
            self._fs.dircache.use_listings_cache = False  # other processes write here too
            self._fs.invalidate_cache()
        except ImportError as error:
            raise Misuse(f"{self.root}: {error}; pip install 'mmmask[remote]' brings what we know of") from error
        except ValueError as error:
            raise Misuse(f"{self.root}: {error}") from error
        except Exception as error:  # the SDKs have their own, for instance for credentials that cannot be read
            raise Problem(f"{self.root}: {_line(error)}") from error
        self._process = os.getpid()

    def _put_and_rename(self, path: str, name: str) -> None:
        partial = self.path(f".{name.rsplit('/', 1)[-1]}.{uuid.uuid4().hex}{PARTIAL}")
        self.fs.makedirs(self.path(name).rsplit("/", 1)[0], exist_ok=True)
        try:
            self.fs.put_file(path, partial)
            self.fs.mv(partial, self.path(name))
        except BaseException:
            with suppress(Exception):
                self.fs.rm_file(partial)
            raise

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Raise what a remote file system raises, which may be anything, as an OSError that names the file."""
        try:
            yield
        except Exception as error:
            if self.local:
                raise
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error  # web: "not found" for any error
            kinds = (kind for kind in (FileNotFoundError, PermissionError, TimeoutError) if isinstance(cause, kind))
            text = _line(cause)
            if isinstance(cause, FileNotFoundError) and text.endswith(self.path(name).rstrip("/").rsplit("/", 1)[-1]):
                text = "no such file"
            raise next(kinds, OSError)(f"{self.url(name)}: {text}") from error


class _Remote:
    """A file behind fsspec, a request a range."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage, self._name = storage, name
        self._size = storage.size(name)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, span: slice, /) -> bytes:
        start, end, _ = span.indices(self._size)
        return self._storage.span(self._name, start, end) if start < end else b""


class _InOrder:
    """A file behind fsspec of which WINDOW bytes come with a request, for one who reads from front to back."""

    def __init__(self, blob: Blob) -> None:
        self._blob, self._start, self._window = blob, 0, b""

    def __len__(self) -> int:
        return len(self._blob)

    def __getitem__(self, span: slice, /) -> bytes:
        start, end, _ = span.indices(len(self))
        if not self._start <= start <= end <= self._start + len(self._window):
            self._start, self._window = start, self._blob[start : max(end, start + WINDOW)]
        return self._window[start - self._start : end - self._start]


def in_order(blob: Blob) -> Blob:
    """Return a file that is far away with more than is asked for at a time, a local one as it is."""
    return _InOrder(blob) if isinstance(blob, _Remote) else blob


def map_file(path: str) -> mmap.mmap | bytes:
    """Return a local file memory-mapped for reading; an empty file, which cannot be mapped, is b''."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class AtomicFile:
    """A file that appears under its name, whole and on disk or uploaded, at `commit`, and leaves nothing otherwise.

    Until then it is local: a hidden file in `root`, since readers of `shards/` must never see it, or for a URL a
    temporary file without a name, which goes with the process.
    """

    def __init__(self, root: str | os.PathLike[str], name: str) -> None:
        """root: folder or URL. Raises OSError, and Misuse where nothing can be written."""
        self._storage, self._name = Storage(root), name
        self._storage.check_writable()
        self._partial: Path | None = None
        self.file: BinaryIO
        if self._storage.local:
            self._target = Path(self._storage.path(name))
            if self._target.exists() and not self._target.is_file() and not self._target.is_dir():
                raise Misuse(f"{self._target}: a device or pipe, which would be replaced; give the name of a file")
            self._partial = Path(self._storage.path(f".{self._target.name}.{uuid.uuid4().hex}{PARTIAL}"))
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self._partial, "xb")  # noqa: SIM115 - closed by commit or abort
        else:
            self.file = tempfile.TemporaryFile()  # noqa: SIM115

    def sync(self) -> None:
        """Bring all that was written to the disk and, where it has a name there, close the file."""
        if self._partial and not self.file.closed:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()

    def commit(self) -> None:
        """Put the file under its name, replacing what stood there. Raises OSError."""
        self.sync()
        if self._partial:
            os.replace(self._partial, self._target)
            _sync_folder(self._target.parent)
        else:
            self.file.flush()
            self._storage.put(f"/dev/fd/{self.file.fileno()}", self._name)  # opens the file without a name once more
            self.file.close()

    def abort(self) -> None:
        """Remove what was written; nothing to do after a commit."""
        try:
            self.file.close()  # writes what is left, which a full disk refuses
        finally:
            if self._partial:
                self._partial.unlink(missing_ok=True)


@contextmanager
def atomic(root: str | os.PathLike[str], name: str) -> Iterator[BinaryIO]:
    """Open root/name for writing; it takes its place when the block ends well, and leaves nothing otherwise.

    root: folder or URL. Raises OSError, and Misuse where nothing can be written.
    """
    target = AtomicFile(root, name)
    try:
        yield target.file
        target.commit()
    finally:
        target.abort()


def remove_leftovers(root: str | os.PathLike[str]) -> None:
    """Remove the hidden files that a killed writer left in a local root. Not while a writer is at work."""
    storage = Storage(root)
    if storage.local:
        for path in Path(storage.path("")).glob(f".*{PARTIAL}"):
            path.unlink(missing_ok=True)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)  # a rename is on disk once its folder is
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
