"""What there is to build: folders, files, globs, URLs, lists, tars and earlier rejects → sources, one at a time.

A source has a name that is the same on every machine (`docs/building.md` says which), and a group that is its own file
unless told. Listing is lazy: memory does not grow with the number of files, but for the folders still to be read; a
remote folder is listed as a whole. Sorting and what to do about equal names is the planner's.
"""

import glob
import hashlib
import os
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, Protocol, get_args
from urllib.parse import urljoin, urlsplit

import pyarrow.parquet as pq
from pyarrow import ArrowException

from pipelines.modality import Reject
from shard_tools.arguments import nearest
from shard_tools.errors import Misuse, Problem
from shard_tools.schema import ColumnType

from .columns import carried_names, check_roles, decode, encode, find_roles, merge_types, printable, type_of
from .fetch import HTTP, REMOTE, Fetcher, file_system, protocol, retried, url_path
from .lists import SUFFIXES as LISTS
from .lists import List, Row, range_of
from .tars import Member, read_members
from .together import together
from .walk import UNKNOWN, fixed, of_file, of_object, reaches, scan_local, scan_remote, walk

Labels = Literal["none", "parent"]
FORCED = "list:"  # before an input: a list, though its suffix is one of the modality's own
TAR = ".tar"
TARS = 16  # remote ones that are listed at a time
SEEN = 32  # inputs of the first tar that tell its columns: of one alone, 1 might stand for 1.0
BATCH = 10_000  # rows of rejected.parquet in memory
REJECTED_NAMES = frozenset({"source", "path", "start", "end", "stage", "error", "message"})
TAR_ROLES = ("label", "caption", "group")  # that the json of a tar's sample may have


@dataclass(frozen=True, slots=True)
class Source:
    """One input: a file, a tar's member, or a range of one.

    source: its name, with forward slashes. path: where it lies here: a file, a URL, or the tar that holds it; '' where
    a list names none. label: '' or its class. group: samples of a group stay in one split; '' only where path is.
    bytes: size, -1 where unknown. start, end: range asked for by a list, in the modality's unit; 0 and -1 for all.
    offset: first byte of a tar's member in `path`, -1 for a whole file; with offset and without bytes there is nothing
    to read (a damaged tar). columns: other columns, a JSON object of all in `Listing.columns`; '' where there are none.
    stamp: differs when the file, or the tar, has been written anew; '' where unknown.
    """

    source: str
    path: str
    label: str = ""
    group: str = ""
    bytes: int = -1
    start: float = 0.0
    end: float = -1.0
    offset: int = -1
    caption: str = ""
    columns: str = ""
    stamp: str = ""


class _Input(Protocol):
    """What one --input names. Iterating gives sources, with a group only where one is told, and the carried values."""

    nothing: str  # what to say where it gives no source
    columns: Mapping[str, ColumnType]
    captions: bool
    labelled: bool

    def __iter__(self) -> Iterator[tuple[Source, Mapping[str, Any]]]: ...
    def lists(self, path: str) -> bool: ...


class Listing:
    """What the inputs name; see `open_listing`.

    columns: carried from lists and tars, name → type. captions, labelled: whether a list or tar tells captions, labels.
    All are known before anything is listed. Iterating yields the sources, in no certain order, as often as one likes;
    the same file may come twice, by way of two inputs. It raises Misuse for an input without files and a group that is
    not found, Problem for a list, tar or remote folder that cannot be read on.
    """

    def __init__(self, inputs: Sequence[_Input], group: re.Pattern[str] | None, suffixes: Collection[str]) -> None:
        self._inputs, self._group, self._suffixes = inputs, group, suffixes
        found: dict[str, list[ColumnType]] = {}
        for item in inputs:
            for name, kind in item.columns.items():
                found.setdefault(name, []).append(kind)
        self.columns: dict[str, ColumnType] = {name: merge_types(kinds) for name, kinds in sorted(found.items())}
        self.captions = any(item.captions for item in inputs)
        self.labelled = any(item.labelled for item in inputs)

    def __iter__(self) -> Iterator[Source]:
        for item in self._inputs:
            empty = True
            for source, values in item:
                empty = False
                yield replace(
                    source, group=source.group or self._group_of(source), columns=encode(values, self.columns)
                )
            if empty:
                raise Misuse(item.nothing)

    def lists(self, path: str) -> bool:
        """Return whether a folder or glob among the inputs would list this file, or object, if it stood there."""
        return any(item.lists(path) for item in self._inputs)

    def _group_of(self, source: Source) -> str:
        if not source.path:
            return ""
        file = _file_of(source)
        if not self._group:
            return file
        found = self._group.search(source.source)
        if found and (group := found[1] if self._group.groups else found[0]):
            return group
        if PurePosixPath(source.path if source.offset < 0 else source.source).suffix.lower() in self._suffixes:
            raise Misuse(f"--group {self._group.pattern}: not found in {source.source!r}")
        return file  # of no use to this modality anyway


def open_listing(
    inputs: Iterable[str | os.PathLike[str]],
    *,
    labels: Labels = "none",
    group: str | None = None,
    column_names: Mapping[str, str] | None = None,
    suffixes: Collection[str] = frozenset(),
    reserved: Collection[str] = (),
) -> Listing:
    """Return what the inputs name, without listing it yet.

    inputs: folders, files, globs, URLs, lists, tars and rejected.parquet of an earlier build. labels: 'parent' labels
    an input by its folder, unless a list or tar tells another. group: regular expression searched in a source's name;
    its first group, or the whole match, is the source's group, unless a list tells another. column_names: of lists,
    ours → theirs, for instance {'path': 'image_url'}. suffixes: the modality's own. reserved: names that carried
    columns may not have.

    Raises Misuse for an input that is missing or unknown, a list without paths, and wrong arguments.
    """
    if labels not in get_args(Labels):
        raise Misuse(f"labels {labels!r}; known: {', '.join(get_args(Labels))}")
    named = column_names or {}
    check_roles(named)
    try:
        pattern = re.compile(group) if group else None
    except re.error as error:
        raise Misuse(f"--group {group!r}: no regular expression: {error}") from None
    opened = [_open(os.fspath(item), labels, named, suffixes, reserved) for item in inputs]
    if not opened:
        raise Misuse("no inputs")
    if named and not any(isinstance(item, _Listed | _Tars) for item in opened):
        raise Misuse(f"--column {'='.join(next(iter(named.items())))}: no list among the inputs")
    return Listing(opened, pattern, suffixes)


def _open(
    item: str, labels: Labels, column_names: Mapping[str, str], suffixes: Collection[str], reserved: Collection[str]
) -> _Input:
    forced = item.startswith(FORCED)
    where = item.removeprefix(FORCED)
    files = _Files(where, labels)
    suffix = _suffix(where)
    if files.single and not forced and suffix == ".parquet" and (not files.url or where.endswith("/rejected.parquet")):
        path, keep = _here(files, where)
        if (rejected := _Rejected(path, where, labels, keep)).ours:
            return rejected
    if files.single and suffix in LISTS and (forced or suffix not in suffixes):
        return _Listed(files, where, labels, column_names, reserved)
    if forced:
        raise Misuse(f"{item}: a list is one file, .csv .tsv .jsonl .ndjson or .parquet")
    if suffix == TAR and (files.single or files.pattern):
        return _Tars(files, where, labels, suffixes, column_names, reserved)
    return files


class _Files:
    """A folder, a file or a glob, here or remote."""

    columns: Mapping[str, ColumnType] = {}
    captions = labelled = False

    def __init__(self, item: str, labels: Labels) -> None:
        self._labels = labels
        self.single = False
        self.pattern: Sequence[str] = ()
        self.url = protocol(item)
        if self.url:
            self._find_remote(item)
        else:
            self._find_local(item)
        self.nothing = f"{item}: {'nothing matches' if self.pattern else 'no files in this folder'}"

    def __iter__(self) -> Iterator[tuple[Source, Mapping[str, Any]]]:
        for source in self.sources():
            yield source, {}

    def sources(self) -> Iterator[Source]:
        """Yield the files."""
        if self.single:
            yield self._source(self._prefix, self.root, *self._written)
            return
        scan = scan_remote(file_system(f"{self.url}://")) if self.url else scan_local(self.root, bool(self.pattern))
        for path, below, size, stamp in walk(scan, self.root, self.pattern):
            yield self._source(f"{self._prefix}/{below}".strip("/"), path, size, stamp)

    def lists(self, path: str) -> bool:
        """Return whether a file would be among them if it stood at a path without links, or a URL."""
        root = f"{self.url}://{self.root}" if self.url else os.path.realpath(self.root)
        if self.single or not path.startswith(f"{root}/"):
            return False
        return reaches(self.pattern, path.removeprefix(f"{root}/"))

    def _source(self, name: str, path: str, size: int, stamp: str) -> Source:
        name = printable(name)
        if self.url and protocol(path) != self.url:
            path = f"{self.url}://{path}"
        return Source(name, path, _parent(name) if self._labels == "parent" else "", "", size, stamp=stamp)

    def _find_local(self, item: str) -> None:
        given = Path(os.path.normpath(os.path.expanduser(item)))
        path = Path(os.path.abspath(given))
        self.root, self._prefix = str(path), path.name
        if path.is_dir():
            return
        if path.exists():
            self.single, self._prefix = True, f"{path.parent.name}/{path.name}".lstrip("/")
            self._written = of_file(str(path))
        elif glob.has_magic(item):
            first = fixed(given.parts)  # not of the folder we are in
            root = Path(os.path.abspath(Path(*given.parts[:first])))
            self.root, self._prefix, self.pattern = str(root), root.name, given.parts[first:]
            if not root.is_dir():
                raise Misuse(f"{item}: nothing matches: no folder {root}")
        else:
            close = nearest(path.name, os.listdir(path.parent)) if path.parent.is_dir() else ""
            raise Misuse(f"{item}: no such file or folder{close}")

    def _find_remote(self, item: str) -> None:
        files = file_system(item)
        if self.url in HTTP:  # has no folders, and ? and [ are letters of a URL
            self.single, self.root, self._prefix = True, item.partition("#")[0], url_name(item)
            self._written = UNKNOWN
            return
        path = files._strip_protocol(item).rstrip("/")
        self.root, self._prefix = path, path.rpartition("/")[2]
        if glob.has_magic(path):
            parts = path.split("/")
            first = fixed(parts)
            if not first:
                raise Misuse(f"{item}: the bucket must be named")
            self.root, self._prefix, self.pattern = "/".join(parts[:first]), parts[first - 1], parts[first:]
            return
        try:
            info = retried(files.info, path)
        except Reject as reject:
            raise Misuse(f"{item}: {reject.message}") from None
        if info["type"] != "directory" and not item.endswith("/"):
            self.single, self._prefix = True, "/".join(path.split("/")[-2:])
            self._written = of_object(info)


class _Listed:
    """A list. Local paths in it are relative to its folder; a list from afar may name only URLs."""

    def __init__(
        self, files: _Files, where: str, labels: Labels, column_names: Mapping[str, str], reserved: Collection[str]
    ) -> None:
        self._path, self._keep = _here(files, where)
        self._list = List(self._path, name=where, column_names=column_names, reserved=reserved, suffix=_suffix(where))
        self._labels = labels
        self._base = where if files.url else os.path.dirname(self._path)
        self._name = printable(next(files.sources()).source)
        self.columns: Mapping[str, ColumnType] = self._list.columns
        self.captions, self.labelled = ("caption" in self._list.roles, "label" in self._list.roles)
        self.nothing = f"{where}: the list has no rows"

    def __iter__(self) -> Iterator[tuple[Source, Mapping[str, Any]]]:
        for row in self._list.rows():
            yield self._source(row), row.values

    def lists(self, path: str) -> bool:
        """Return False: what it names is written in it."""
        return False

    def _source(self, row: Row) -> Source:
        path, name = self._place(row.path) if row.path else ("", f"{self._name}#row-{row.number}")
        name = printable(name)
        label = printable(row.label) or (_parent(name) if self._labels == "parent" and path else "")
        size, stamp = UNKNOWN if not path or protocol(path) else of_file(path)
        if path and (row.start > 0 or row.end >= 0):
            name = f"{name}#{_number(row.start)}-{_number(row.end) if row.end >= 0 else ''}"
        group = printable(row.group)
        return Source(name, path, label, group, size, row.start, row.end, caption=row.caption, stamp=stamp)

    def _place(self, path: str) -> tuple[str, str]:
        """Return (path or URL, name) of what a row names."""
        if protocol(path):
            return _checked(path), url_name(path)
        if kind := protocol(self._base):
            if kind in HTTP:
                url = ""
                with suppress(ValueError):  # what is no URL is turned away, as what is not on the web
                    url = urljoin(self._base, path)
            else:
                folder = posixpath.dirname(self._base.partition("://")[2])
                url = f"{kind}://{posixpath.normpath(posixpath.join(folder, path))}"
            inside = protocol(url) == kind and not path.startswith("/")
            return (url, url_name(url)) if inside else (f"file://{path}", f"file/{path.lstrip('/')}")
        place = os.path.normpath(os.path.join(self._base, path))
        below = place.startswith(f"{self._base}/")  # the usual case, and fast
        above = self._base if below else os.path.commonpath([self._base, place])
        return place, f"{os.path.basename(above)}/{place[len(above) :].lstrip('/')}".lstrip("/")


class _Tars:
    """Tars; a member with a suffix of the modality's is a source. Columns are those of the first tar's first ones."""

    def __init__(
        self,
        files: _Files,
        where: str,
        labels: Labels,
        suffixes: Collection[str],
        column_names: Mapping[str, str],
        reserved: Collection[str],
    ) -> None:
        self._files, self._labels, self._suffixes = files, labels, suffixes
        self.nothing = files.nothing if not files.single else f"{where}: no member with a suffix of this modality"
        first = min(files.sources(), key=lambda source: source.source, default=None)
        seen = list(islice(_members(first, suffixes), SEEN)) if first else []
        kinds = _kinds(member.facts for member in seen)
        self._roles = find_roles(list(kinds), {}, where, TAR_ROLES)
        self._roles |= {role: name for role, name in column_names.items() if role in TAR_ROLES and name in kinds}
        ours = carried_names([name for name in kinds if name not in self._roles.values()], reserved, where)
        self._carried = ours
        self.columns: Mapping[str, ColumnType] = {ours[name]: kinds[name] for name in ours}
        self.captions = any(member.caption for member in seen) or "caption" in self._roles
        self.labelled = any(member.label for member in seen) or "label" in self._roles

    def __iter__(self) -> Iterator[tuple[Source, Mapping[str, Any]]]:
        streams = map(self._sources, self._files.sources())
        return together(streams, TARS) if self._files.url else chain.from_iterable(streams)

    def lists(self, path: str) -> bool:
        """Return whether a file would be among the tars."""
        return self._files.lists(path)

    def _sources(self, tar: Source) -> Iterator[tuple[Source, Mapping[str, Any]]]:
        for member in _members(tar, self._suffixes):
            yield self._source(tar, member), {ours: member.facts.get(name) for name, ours in self._carried.items()}

    def _source(self, tar: Source, member: Member) -> Source:
        told = {role: _text(member.facts.get(name)) for role, name in self._roles.items()}
        label = printable(member.label or told.get("label", ""))
        if not label and self._labels == "parent":
            label = printable(_parent(member.name))
        return Source(
            f"{tar.source}/{printable(member.name)}".rstrip("/"),
            tar.path,
            label,
            printable(told.get("group", "")),
            member.size,
            offset=member.offset,
            caption=_text(member.caption or told.get("caption", "")),
            stamp=tar.stamp,
        )


class _Rejected:
    """The rejected.parquet of an earlier build: its sources under their old names, with their ranges."""

    captions = labelled = False

    def __init__(self, path: str, where: str, labels: Labels, keep: object) -> None:
        self._path, self._labels, self._keep, self._where = path, labels, keep, where
        self._remote = bool(protocol(where))
        self.nothing = f"{where}: nothing was rejected"
        self.columns: Mapping[str, ColumnType] = {}
        self.ours = False
        try:
            schema = pq.read_schema(path)
        except (OSError, UnicodeError, ArrowException):
            return  # not Parquet: whoever reads it says so
        self.ours = set(schema.names) >= REJECTED_NAMES
        self._names = [name for name in Source.__dataclass_fields__ if name in schema.names]
        if self.ours:
            rows = list(zip(range(BATCH), self._rows(), strict=False))
            self.captions = any(row.get("caption") for _, row in rows)
            self.labelled = any(row.get("label") for _, row in rows)
            first = next((decode(row["columns"]) for _, row in rows if row.get("columns")), {})
            self.columns = {name: type_of(value) or "string" for name, value in first.items()}

    def __iter__(self) -> Iterator[tuple[Source, Mapping[str, Any]]]:
        for row in self._rows():
            path, name = row["path"] or "", printable(row["source"] or "")
            if not protocol(path):
                path = f"file://{path}" if self._remote and path else _unescaped(path)
            offset, size = row.get("offset"), row.get("bytes")
            offset = -1 if offset is None else offset
            here, stamp = UNKNOWN if protocol(path) else of_file(path)
            if size is None or (offset < 0 and not protocol(path)):
                size = here
            source = Source(
                name,
                path,
                row.get("label") or (_parent(name) if self._labels == "parent" else ""),
                row.get("group") or "",
                size,
                *range_of(row["start"], row["end"]),
                offset,
                row.get("caption") or "",
                stamp=stamp,
            )
            yield source, decode(row.get("columns") or "")

    def lists(self, path: str) -> bool:
        """Return False: what it names is written in it."""
        return False

    def _rows(self) -> Iterator[dict[str, Any]]:
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(BATCH, columns=self._names):
                    yield from batch.to_pylist()
        except (OSError, UnicodeError, ArrowException) as error:
            raise Problem(f"{self._where}: damaged: {' '.join(str(error).split())}") from None


def _kinds(facts: Iterable[Mapping[str, Any]]) -> dict[str, ColumnType]:
    """Return the type of each column that some rows have; null, which says nothing, where there is nothing else."""
    found: dict[str, set[ColumnType]] = {}
    for name, value in chain.from_iterable(row.items() for row in facts):
        if kind := type_of(value):
            found.setdefault(name, set()).update(() if value is None else {kind})
    return {name: merge_types(kinds or {"string"}) for name, kinds in found.items()}


def _members(tar: Source, suffixes: Collection[str]) -> Iterator[Member]:
    """Yield the members of a tar; one without a name where it cannot be opened."""
    fetcher = Fetcher()
    try:
        file: BinaryIO = fetcher.open(tar.path) if protocol(tar.path) else open(tar.path, "rb")  # noqa: SIM115
    except OSError:
        yield Member("", 0, -1)
        return
    except Reject as reject:
        raise Problem(f"{tar.path}: {reject.message}") from None
    with file:
        try:
            yield from read_members(file, suffixes)
        except Reject as reject:
            raise Problem(f"{tar.path}: {reject.message}") from None
        except OSError:
            yield Member("", 0, -1)


def _here(files: _Files, where: str) -> tuple[str, Fetcher | None]:
    """Return the local path of one file, and what keeps it there."""
    if not files.url:
        return files.root, None
    fetcher = Fetcher()
    try:
        return fetcher.local(next(files.sources()).path), fetcher
    except Reject as reject:
        fetcher.close()
        raise Misuse(f"{where}: {reject.message}") from None


def url_name(url: str) -> str:
    """Return the name of a source behind a URL: host and path; of http(s) with a short hash of its query."""
    kind, rest = protocol(url), url.partition("://")[2]
    if kind not in HTTP:
        return rest.strip("/")
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2].lower()
    except ValueError:  # no URL; fetching it says so
        return rest
    name = f"{host}{parts.path}".rstrip("/")
    if not parts.query:
        return name
    stem, suffix = posixpath.splitext(name) if parts.path.strip("/") else (name, "")
    return f"{stem}-{hashlib.sha256(parts.query.encode('utf-8', 'replace')).hexdigest()[:8]}{suffix}"


def _checked(url: str) -> str:
    """Return a URL of a list without its fragment. Raises Misuse where the package for its protocol is missing."""
    kind = protocol(url)
    if kind in REMOTE:  # fetching any other is refused, a row at a time
        file_system(url)
    return url.partition("#")[0] if kind in HTTP else url


def _file_of(source: Source) -> str:
    """Return what samples of one file share: the name without a range; of a tar's member without its suffixes."""
    if source.offset >= 0:
        folder, _, base = source.source.rpartition("/")
        return f"{folder}/{base.partition('.')[0]}"
    if source.start > 0 or source.end >= 0:
        return re.sub(r"#[0-9.]+-[0-9.]*$", "", source.source)
    return source.source


def _unescaped(path: str) -> str:
    """Return the path of a file whose name is not Unicode from how rejected.parquet writes it."""
    if "\\x" not in path or os.path.lexists(path):
        return path
    written = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), path.encode())
    return os.fsdecode(written)


def _suffix(where: str) -> str:
    return PurePosixPath(url_path(where)).suffix.lower()


def _parent(name: str) -> str:
    return name.rpartition("/")[0].rpartition("/")[2]


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _text(value: object) -> str:
    return "" if value is None else str(value).encode("utf-8", "backslashreplace").decode()
