"""Bring an input to the local disk: URLs and members of tars; a local file stays where it is.

A passing failure of a server (no connection, time-out, 429, 5xx) is tried again, with growing pauses or as long as the
server asks; what is missing or forbidden is not.
"""

import errno
import io
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

import fsspec
import tenacity
from fsspec.callbacks import Callback

from pipelines.modality import Reject
from shard_tools.errors import Misuse

HTTP = ("http", "https")
REMOTE = (*HTTP, "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
LIMIT = 64 << 30  # bytes of one input
BLOCK = 1 << 20
PATIENCE = 300.0  # seconds: a server that asks to wait longer is given up
CONNECT, READ = 30, 60  # seconds without an answer, without a byte
NAME_BYTES = 200
_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FULL = (errno.ENOSPC, errno.EDQUOT)  # our disk, not the server
_DEFINITE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError, Reject)
_PAUSE = tenacity.wait_exponential_jitter(initial=0.25, max=30, jitter=0.25)

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
        return fsspec.filesystem(kind, **options)
    except ImportError as error:
        raise Misuse(f"{kind}://: {error}; pip install 'mmmask[remote]'") from error


def file_system(url: str) -> Any:
    """Return the fsspec file system of a URL. Raises Misuse for a protocol that is not of REMOTE or not installed.

    Chains as `zip::file://` are not followed: what comes before the first '://' is the protocol.
    """
    return _file_system(protocol(url))


class Fetcher:
    """Gives the local path of inputs, one at a time: what was fetched is removed when the next one is asked for.

    rate: requests a second of this process at most. retries: how often a passing failure is tried again. folder: where
    fetched inputs lie, in a folder `fetched` of their own, where what a killed process left is removed; a private
    temporary one unless told.
    """

    def __init__(self, rate: float | None = None, retries: int = 4, folder: str | None = None) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._next = 0.0
        self._retrying = tenacity.Retrying(
            before=self._pace,
            retry=tenacity.retry_if_exception(is_passing),
            stop=tenacity.stop_after_attempt(retries + 1),
            wait=_wait,
            reraise=True,
        )
        self._given = folder or ""
        self._folder = ""
        self._kept: tuple[str, int] | None = None
        self._local = ""

    def local(self, path: str, offset: int = -1, bytes: int = -1, name: str = "") -> str:
        """Return the local path of an input.

        path: file, URL or the tar that holds it. offset, bytes: place of a tar's member, -1 for a whole file. name: of
        the source, whose last component a member's file gets. Raises Reject: NotFound, Forbidden, Unreachable,
        Unreadable, TooLarge, Corrupt, Unsupported; and OSError when the local disk is full.
        """
        if not protocol(path) and offset < 0:
            check_file(path)
            if path.lower().endswith(".tar"):
                raise Reject("UnknownFormat", "a tar is read where it is named or matched itself: --input FOLDER/*.tar")
            return path
        if (path, offset) != self._kept:
            self._empty()
            target = os.path.join(self._folder, _base_name(name if offset >= 0 else path))
            try:
                self._fetch(path, offset, bytes, target)
            except Exception as error:
                self._empty()
                if isinstance(error, Reject | Misuse) or getattr(error, "errno", None) in _FULL:
                    raise
                raise verdict(error) from error
            self._kept, self._local = (path, offset), target
        return self._local

    def close(self) -> None:
        """Remove what was fetched."""
        if self._folder:
            shutil.rmtree(self._folder if self._given else os.path.dirname(self._folder), ignore_errors=True)
        self._folder, self._kept = "", None

    def open(self, url: str) -> BinaryIO:
        """Open a remote file to read ranges of it. Raises Reject; so does reading."""
        try:
            file = self._retrying(file_system(url).open, url, "rb", block_size=BLOCK, cache_type="none")
        except Exception as error:
            raise verdict(error) from error
        if not file.seekable() or file.size is None:
            raise _no_parts()
        return io.BufferedReader(_Ranges(file, self._retrying), BLOCK)

    def _fetch(self, path: str, offset: int, size: int, target: str) -> None:
        if (kind := protocol(path)) and kind not in REMOTE:
            raise Reject("Forbidden", f"{kind}:// is no place that inputs come from; known: {', '.join(REMOTE)}")
        if size > LIMIT:
            raise Reject("TooLarge", f"{size:,} bytes; {LIMIT:,} at most")
        if offset < 0:
            files = file_system(path)
            self._retrying(lambda: files.get_file(files._strip_protocol(path), target, callback=_Limit()))
            if not os.path.isfile(target):
                raise Reject("NotFound", "a folder, not a file")
            return
        if not kind:
            check_file(path)
        with self.open(path) if kind else open(path, "rb") as tar, open(target, "wb") as out:
            if size < 0:
                raise Reject(
                    "Corrupt", f"the tar holds no data at byte {offset}: it is damaged or cut off, or this is a link"
                )
            tar.seek(offset)
            while size and (block := tar.read(min(size, BLOCK))):
                out.write(block)
                size -= len(block)
            if size:
                raise Reject("Corrupt", f"the tar ends {size:,} bytes before its member")

    def _empty(self) -> None:
        """Have an empty folder."""
        self._kept = None
        if not self._folder:
            self._folder = os.path.join(self._given or tempfile.mkdtemp(prefix="shard-build-"), "fetched")
        shutil.rmtree(self._folder, ignore_errors=True)
        os.makedirs(self._folder, mode=0o700, exist_ok=True)

    def _pace(self, _: object) -> None:
        """Wait until the next request may be sent."""
        if self._interval:
            time.sleep(max(0.0, self._next - time.monotonic()))
            self._next = time.monotonic() + self._interval


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


def verdict(error: BaseException) -> Reject:
    """Return what an error of reading means for the input."""
    if isinstance(error, Reject):
        return error
    status = _status(error)
    if status:
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
        kinds = {401: "Forbidden", 403: "Forbidden", 404: "NotFound", 410: "NotFound"}
        return Reject(kinds.get(status, "Unreachable"), f"the server answers {status} {phrase}".strip())
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    message = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Reject("NotFound", "no such file")
    if isinstance(error, PermissionError) or _leads_off(error):
        return Reject("Forbidden", message)
    remote = type(error).__module__.partition(".")[0] not in ("builtins",) or isinstance(
        error, TimeoutError | ConnectionError
    )
    return Reject("Unreachable" if remote else "Unreadable", message)


def is_passing(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    if status := _status(error):
        return (status in (408, 425, 429) or status >= 500) and _retry_after(error) <= PATIENCE
    if isinstance(error, _DEFINITE) or not isinstance(error, Exception) or _leads_off(error):
        return False
    return getattr(error, "errno", 0) not in _FULL


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return max(_PAUSE(state), _retry_after(error) if error else 0.0)


def _leads_off(error: BaseException) -> bool:
    """Return whether a server sent us to something that is not on the web (as aiohttp puts it)."""
    return type(error).__name__.startswith("NonHttpUrl")


def _status(error: BaseException) -> int:
    status = getattr(error, "status", None) or getattr(error, "code", None)
    return status if isinstance(status, int) else 0


def _retry_after(error: BaseException) -> float:
    """Return the seconds the server asks to wait; it may give a date."""
    asked = (getattr(error, "headers", None) or {}).get("Retry-After", "")
    if asked.isdigit():
        return float(asked)
    try:
        return max(0.0, (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _base_name(name: str) -> str:
    """Return the last component of a URL or a source's name as a file name that is safe here, with its suffix."""
    base = url_path(name).rstrip("/").rpartition("/")[2]
    base = re.sub(r"[\x00-\x1f\x7f/]", "_", unquote(base) if protocol(name) in HTTP else base)
    if base in ("", ".", ".."):
        return "input"
    stem, suffix = os.path.splitext(base)
    suffix = suffix[:20]
    return os.fsencode(stem)[: NAME_BYTES - len(os.fsencode(suffix))].decode(errors="ignore") + suffix
