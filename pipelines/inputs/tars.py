"""Tars of others as inputs: their members by place, and what stands beside them in a sample. Nothing is unpacked.

A sample is what a webdataset calls one: consecutive members whose names are equal up to the first dot of the last
component. Of img2dataset's and others alike, `.txt` is the caption, `.cls` the label, `.json` brings columns.
"""

import io
import json
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, BinaryIO

SIDECAR_BYTES = 1 << 20  # larger captions, labels and json are not read
HEADER_BYTES = 1 << 20  # of long names and PAX records
SAMPLE_MEMBERS = 256  # beyond that a sample is cut: its members are kept in memory until its end
SIDECARS = frozenset({".txt", ".cls", ".json"})


@dataclass(frozen=True, slots=True)
class Member:
    """A member that is an input.

    name: in the tar, without '.' and '..'. offset, size: of its data; size is -1 where there is nothing to read: a
    link, or (with the name '') where the tar is damaged. label, caption: '' for none. facts: the json's object.
    """

    name: str
    offset: int
    size: int
    label: str = ""
    caption: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def read_members(file: BinaryIO, suffixes: Collection[str]) -> Iterator[Member]:
    """Yield the members of a seekable tar whose suffix is one of `suffixes`, with their siblings' words.

    Only headers and small siblings are read. Where a tar breaks off, or ends without its end mark, the last Member
    has the name ''. Raises what reading `file` raises.
    """
    key, found, siblings = "", [], {}  # type: ignore[var-annotated]
    for name, info, data in _entries(file, suffixes):
        head = _key(name)
        if info is None or head != key or len(found) == SAMPLE_MEMBERS:
            yield from _sample(found, siblings)
            key, found, siblings = head, [], {}
        if info is None:
            yield Member("", data, -1)
        elif isinstance(data, bytes):
            siblings[PurePosixPath(name).suffix.lower()] = data
        else:
            found.append((name, info.offset_data, info.size if info.isreg() and not info.issparse() else -1))
    yield from _sample(found, siblings)


def _entries(file: BinaryIO, suffixes: Collection[str]) -> Iterator[tuple[str, tarfile.TarInfo | None, Any]]:
    """Yield (name, header, sibling's bytes or None); at damage ('', None, place)."""
    bounded = _Bounded(file)
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        with tarfile.open(fileobj=bounded, mode="r:", errorlevel=1) as tar:  # type: ignore[call-overload]
            while info := tar.next():
                tar.members = []  # it would remember all of them
                if info.size < 0:  # it would go back, for ever
                    raise tarfile.ReadError("a negative size")
                name = "/".join(part for part in info.name.split("/") if part not in ("", ".", ".."))
                suffix = PurePosixPath(name).suffix.lower()
                if info.isdir() or PurePosixPath(name).name.startswith("."):
                    continue
                if suffix in suffixes:
                    yield name, info, None
                elif suffix in SIDECARS and info.isreg() and info.size <= SIDECAR_BYTES:
                    file.seek(info.offset_data)
                    yield name, info, file.read(info.size)
            place = tar.offset
    except (tarfile.TarError, ValueError, OverflowError, RecursionError):  # as damaged headers have it
        yield "", None, min(bounded.place, end)
        return
    file.seek(place)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        yield "", None, min(place, end)


def _sample(found: list[tuple[str, int, int]], siblings: dict[str, bytes]) -> Iterator[Member]:
    if not found:
        return
    facts = _facts(siblings.get(".json", b""))
    label, caption = (siblings.get(suffix, b"").decode("utf-8", "replace").strip() for suffix in (".cls", ".txt"))
    for name, offset, size in found:
        yield Member(name, offset, size, label, caption, facts)


def _facts(data: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _key(name: str) -> str:
    folder, _, base = name.rpartition("/")
    return f"{folder}/{base.split('.')[0]}"


class _Bounded:
    """A file for tarfile to read headers from, that refuses those that would fill the memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.place = 0  # where the last header began
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if size > HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        if size == tarfile.BLOCKSIZE:
            self.place = self._file.tell()
        return self._file.read(size)
