"""Bring an input to the local disk: URLs and members of tars; a local file stays where it is.

A server takes its time to answer, so what will be asked for next is on its way already. A passing failure (no
connection, time-out, 429, 5xx) is tried again, with growing pauses or as long as the server asks; what is missing or
forbidden is not.
"""

import io
import os
import re
import shutil
import stat
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import count
from typing import Any, BinaryIO, NamedTuple, TextIO, TypeVar
from urllib.parse import unquote, urlsplit

import fsspec
import tenacity
from fsspec.callbacks import Callback

from pipelines.modality import Reject
from pipelines.scratch import PREFIX, held
from shard_tools.errors import Misuse

from .failures import FULL, retrying, verdict

HTTP = ("http", "https")
S3 = ("s3", "s3a")
AZURE = ("az", "abfs", "abfss")
REMOTE = (*HTTP, *S3, "gs", "gcs", *AZURE)
LIMIT = 64 << 30  # bytes of one input
BLOCK = 8 << 20  # bytes that a request asks for
CONNECT, READ = 30, 60  # seconds without an answer, without a byte
NAME_BYTES = 200
AHEAD = 32  # inputs on their way at a time
AHEAD_BYTES = 64 << 20  # of them together, unless there is but one
_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

T = TypeVar("T")


def protocol(path: str) -> str:
    """Return the protocol of a URL, lower-case, and '' for a local path."""
    found = _PROTOCOL.match(path) if "://" in path else None
    return found[1].lower() if found else ""


def url_path(url: str) -> str:
    """Return the path of a URL, without host and query, or the name as it is where this is no http(s) URL."""
    try:
        return urlsplit(url).path if protocol(url) in HTTP else url
    except ValueError:  # an http URL in name only
        return ""


@cache
def _file_system(kind: str) -> Any:
    if kind not in REMOTE:
        raise Misuse(f"{kind}://: not a place inputs come from; known: {', '.join(REMOTE)}")
    options: dict[str, Any] = {"use_listings_cache": False}
    try:
        if kind in HTTP:
            import aiohttp  # of the extra `remote`

            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=READ)
            options["client_kwargs"] = {"timeout": timeout, "headers": {"User-Agent": "shard-build"}}
        if kind in S3 and "config_kwargs" not in fsspec.config.conf.get(kind, {}):  # ten at a time, unless told
            options["config_kwargs"] = {"max_pool_connections": AHEAD}
        return fsspec.filesystem(kind, **options)
    except ImportError as error:
        what = "adlfs" if kind in AZURE else "'mmmask[remote]'"
        raise Misuse(f"{kind}://: {error}; pip install {what}") from error


def file_system(url: str) -> Any:
    """Return the fsspec file system of a URL. Raises Misuse for a protocol that is not of REMOTE or not installed.

    Chains as `zip::file://` are not followed: what comes before the first '://' is the protocol.
    """
    return _file_system(protocol(url))


class Place(NamedTuple):
    """Where an input lies.

    path: file, URL or the tar that holds it. offset, bytes: of a tar's member, -1 for a whole file, and an unknown
    size. name: of the source, whose last component a member's file gets.
    """

    path: str
    offset: int = -1
    bytes: int = -1
    name: str = ""

    @property
    def file(self) -> tuple[str, int]:
        """What is the same for ranges of one input."""
        return self.path, self.offset


class Fetcher:
    """Gives the local path of inputs, one at a time: what was fetched is removed when the next one is asked for.

    Ranges of one input that follow each other have it fetched once, also where that fails.

    rate: requests a second of this process at most. retries: how often a passing failure is tried again. folder: where
    fetched inputs lie, in a folder `fetched` of their own, where what a killed process left is removed; a private
    temporary one unless told, which goes when the fetcher does. A given one goes, too, when it is empty then.
    """

    def __init__(self, rate: float | None = None, retries: int = 4, folder: str | None = None) -> None:
        self._retrying = retrying(retries, _Pace(rate))
        self._given = folder or ""
        self._folder = ""
        self._lock: TextIO | None = None
        self._numbers = count()  # of the folders in it, one an input
        self._kept: tuple[tuple[str, int], str | Reject] | None = None  # the last input, and what became of it
        self._largest = 0  # bytes of what was fetched
        self._coming: deque[Place] = deque()
        self._started: dict[tuple[str, int], tuple[Place, Future[str]]] = {}
        self._threads = ThreadPoolExecutor(AHEAD)

    def expect(self, places: Iterable[Place]) -> None:
        """Say what will be asked for, in this order: what is behind URLs is fetched ahead."""
        if self._kept and isinstance(self._kept[1], Reject):
            self._kept = None  # another try
        for _, started in self._started.values():
            started.cancel()
            started.add_done_callback(_remove)
        self._started.clear()
        self._coming = deque({place.file: place for place in places if protocol(place.path)}.values())
        self._fetch_ahead()

    def local(self, path: str, offset: int = -1, bytes: int = -1, name: str = "") -> str:
        """Return the local path of an input, see `Place`.

        Raises Reject: NotFound, Forbidden, Unreachable, Unreadable, TooLarge, Corrupt, Unsupported; and OSError when
        the local disk is full.
        """
        if not protocol(path) and offset < 0:
            check_file(path)
            if path.lower().endswith(".tar"):
                raise Reject("UnknownFormat", "a tar is read where it is named or matched itself: --input FOLDER/*.tar")
            return path
        place = Place(path, offset, bytes, name)
        if self._kept is None or self._kept[0] != place.file:
            self._forget()
            self._kept = place.file, self._fetched(place)
        if isinstance(self._kept[1], Reject):
            raise self._kept[1]
        return self._kept[1]

    def close(self) -> None:
        """Remove what was fetched."""
        self.expect(())
        self._threads.shutdown(wait=False)
        if self._lock:
            shutil.rmtree(self._folder, ignore_errors=True)
            with suppress(OSError):  # gone already, or a given one that holds more
                if not os.path.exists(self._folder):  # else a download goes on, and `sweep` has to know the folder
                    os.remove(self._lock.name)
                os.rmdir(os.path.dirname(self._folder))
            self._lock.close()
        self._folder, self._kept, self._lock = "", None, None

    def open(self, url: str, together: int = BLOCK) -> BinaryIO:
        """Open a remote file to read ranges of it, so many bytes at a time at least. Raises Reject; so does reading."""
        try:
            file = self._retrying(file_system(url).open, url, "rb", block_size=BLOCK, cache_type="none")
        except Exception as error:
            raise verdict(error) from error
        if not file.seekable() or file.size is None:
            raise _no_parts()
        return io.BufferedReader(_Ranges(file, self._retrying), together)

    def _fetched(self, place: Place) -> str | Reject:
        """Return where an input lies that is here or on its way, or why it cannot be had."""
        _, started = self._started.pop(place.file, (place, None))
        self._fetch_ahead()
        try:
            file = started.result() if started else self._fetch(place, self._new_folder())
        except Reject as reject:
            return reject
        self._largest = max(self._largest, os.path.getsize(file))
        return file

    def _fetch_ahead(self) -> None:
        """Start what comes next, as far as there is room for it."""
        while self._coming and (not self._started or self._has_room()):
            place = self._coming.popleft()
            self._started[place.file] = place, self._threads.submit(self._fetch, place, self._new_folder())

    def _has_room(self) -> bool:
        unknown = self._largest or AHEAD_BYTES
        sizes = (place.bytes if place.bytes >= 0 else unknown for place, _ in self._started.values())
        return len(self._started) < AHEAD and sum(sizes) < AHEAD_BYTES

    def _fetch(self, place: Place, folder: str) -> str:
        """Return the path of an input that was fetched into a folder of its own. Raises see `local`."""
        target = os.path.join(folder, _base_name(place.name if place.offset >= 0 else place.path))
        try:
            os.mkdir(folder, 0o700)
            self._get(place, target)
        except Exception as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, Reject | Misuse) or getattr(error, "errno", None) in FULL:
                raise
            raise verdict(error) from error
        return target

    def _get(self, place: Place, target: str) -> None:
        if (kind := protocol(place.path)) and kind not in REMOTE:
            raise Reject("Forbidden", f"{kind}:// is no place that inputs come from; known: {', '.join(REMOTE)}")
        if place.bytes > LIMIT:
            raise Reject("TooLarge", f"{place.bytes:,} bytes; {LIMIT:,} at most")
        if place.offset < 0:
            files = file_system(place.path)
            self._retrying(lambda: files.get_file(files._strip_protocol(place.path), target, callback=_Limit()))
            if not os.path.isfile(target):
                raise Reject("NotFound", "a folder, not a file")
            return
        if not kind:
            check_file(place.path)
        own = max(1, min(place.bytes, BLOCK))  # a small member is asked for alone
        with self.open(place.path, own) if kind else open(place.path, "rb") as tar, open(target, "wb") as out:
            _copy_member(tar, place, out)

    def _new_folder(self) -> str:
        """Return the path of a folder that an input may have for itself."""
        if not self._folder:
            above = self._given or tempfile.mkdtemp(prefix=PREFIX)
            self._lock = held(above)
            if not self._given:
                weakref.finalize(self, shutil.rmtree, above, ignore_errors=True)
            self._folder = os.path.join(above, "fetched")
            shutil.rmtree(self._folder, ignore_errors=True)
            os.mkdir(self._folder, 0o700)
        return os.path.join(self._folder, str(next(self._numbers)))

    def _forget(self) -> None:
        if self._kept and isinstance(self._kept[1], str):
            shutil.rmtree(os.path.dirname(self._kept[1]), ignore_errors=True)
        self._kept = None


class _Pace:
    """Waits until the next request may be sent. rate: of them a second, None for any number."""

    def __init__(self, rate: float | None) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def __call__(self, _: object) -> None:
        if self._interval:
            with self._lock:
                self._next = max(self._next, time.monotonic()) + self._interval
                pause = self._next - self._interval - time.monotonic()
            time.sleep(max(0.0, pause))


def _remove(fetched: Future[str]) -> None:
    """Remove an input that nobody will ask for."""
    if not fetched.cancelled() and not fetched.exception():
        shutil.rmtree(os.path.dirname(fetched.result()), ignore_errors=True)


def _copy_member(tar: BinaryIO, place: Place, out: BinaryIO) -> None:
    """Copy a member of a tar. Raises Reject."""
    left = place.bytes
    if left < 0:
        raise Reject(
            "Corrupt", f"the tar holds no data at byte {place.offset}: it is damaged or cut off, or this is a link"
        )
    tar.seek(place.offset)
    while left and (block := tar.read(min(left, BLOCK))):
        out.write(block)
        left -= len(block)
    if left:
        raise Reject("Corrupt", f"the tar ends {left:,} bytes before its member")


class _Limit(Callback):
    """Stops a download that is, or becomes, too large."""

    def set_size(self, size: int | None) -> None:
        self._check(size or 0)
        super().set_size(size)

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        self._check(self.value)

    def _check(self, size: int) -> None:
        if size > LIMIT:
            raise Reject("TooLarge", f"{size:,} bytes; {LIMIT:,} at most")


class _Ranges(io.RawIOBase):
    """A remote file whose every read is tried again when it fails in passing."""

    def __init__(self, file: Any, retrying: tenacity.Retrying) -> None:
        self._file, self._retrying, self._place = file, retrying, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size}[whence]
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        def read() -> bytes:
            self._file.seek(self._place)
            return self._file.read(len(buffer))

        if self._place >= self._file.size:
            return 0
        try:
            data = self._retrying(read)
        except ValueError as error:  # as fsspec puts it
            raise _no_parts() from error
        except Exception as error:
            raise verdict(error) from error
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def _no_parts() -> Reject:
    return Reject("Unsupported", "the server does not give parts of a file; download it first")


def retried(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Return call(…), tried again like a Fetcher does. Raises Reject."""
    try:
        return Fetcher()._retrying(call, *args, **kwargs)
    except Exception as error:
        raise verdict(error) from error


def check_file(path: str) -> None:
    """Raise Reject unless this is a local file that might be read."""
    if not path:
        raise Reject("NotFound", "the list names no file here")
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            os.scandir(path).close()
    except (OSError, ValueError) as error:
        raise verdict(error) from error
    if stat.S_ISDIR(mode):
        raise Reject("Unreadable", "a folder, not a file")
    if not stat.S_ISREG(mode):
        raise Reject("Unreadable", "not a regular file")


def _base_name(name: str) -> str:
    """Return the last component of a URL or a source's name as a file name that is safe here, with its suffix."""
    base = url_path(name).rstrip("/").rpartition("/")[2]
    base = re.sub(r"[\x00-\x1f\x7f/]", "_", unquote(base) if protocol(name) in HTTP else base)
    if base in ("", ".", ".."):
        return "input"
    stem, suffix = os.path.splitext(base)
    suffix = suffix[:20]
    return os.fsencode(stem)[: NAME_BYTES - len(os.fsencode(suffix))].decode(errors="ignore") + suffix
