"""Check a data set against its own words: every byte, sample and index entry, and that its files agree."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from .errors import Problem
from .index import index_name, read_shard_index
from .manifest import read_manifest
from .planned import check_plan, few
from .processes import in_order
from .schema import MEMBER_BYTES, Manifest, Shard, index_schema
from .storage import Storage
from .tar import BLOCK, END, PART, check_key, decode_part, encode_part, header, padding, split_name

CHUNK = 1 << 22
FACTS = ["source", "label", "group", "start", "end"]  # what json and index must agree on


class Member(NamedTuple):
    """A file in a shard: its name, and where its data stands."""

    name: str
    offset: int
    size: int


class Checked(NamedTuple):
    """What came of one shard: the rows of its index, None where not readable; how often its json has which keys."""

    findings: list[str]
    rows: pa.Table | None
    json_keys: Counter[tuple[str, ...]]


def verify(
    root: str | os.PathLike[str], progress: Callable[[int], object] = lambda _: None, *, workers: int = 1
) -> list[str]:
    """Return what is wrong with a data set, a line a finding; empty when all is well.

    One shard a worker is in memory at a time, and 16 bytes a sample. Of many findings of one kind the first are named.
    progress: called with the bytes of each shard that was checked. workers: processes; with one, this one.
    Raises Problem or Misuse where there is no readable manifest.
    """
    manifest = read_manifest(root)
    storage = Storage(root)
    findings = [*_files(storage, manifest), *_counts(manifest)]
    disagreements: list[str] = []
    shards = _shards(root, manifest, findings, progress, workers)
    try:
        disagreements.extend(check_plan(storage, manifest, shards))
    except Problem as problem:
        disagreements.append(str(problem))
        for _ in shards:  # the rest of them is checked all the same
            pass
    return findings + disagreements


def _files(storage: Storage, manifest: Manifest) -> Iterator[str]:
    """Yield the files of the manifest that are missing, and files that it does not know."""
    for folder, known in (
        ("shards", {shard.name for shard in manifest.shards}),
        ("index", {index_name(shard).split("/")[1] for shard in manifest.shards}),
    ):
        with suppress(OSError):  # not every web server lists its folders
            yield from (f"{folder}/{name}: not in the manifest" for name in storage.names(folder) if name not in known)
    with suppress(OSError):
        if not storage.exists("README.md"):
            yield "README.md: missing"


def _counts(manifest: Manifest) -> Iterator[str]:
    """Yield where the manifest contradicts itself."""
    counted = dict.fromkeys(manifest.splits, 0)
    for shard in manifest.shards:
        counted[shard.split] = counted.get(shard.split, 0) + shard.samples
    if counted != manifest.splits:
        yield f"manifest.json: splits {manifest.splits}, but its shards add up to {counted}"
    for name, count in Counter(shard.name for shard in manifest.shards).items():
        if count > 1:
            yield f"manifest.json: {name} stands {count} times"
    for layer in manifest.layers:
        if f"{layer}.npy" not in manifest.parts:
            yield f"manifest.json: layer {layer} has no part {layer}.npy"
    if wrong := [part for part in manifest.parts if not PART.fullmatch(part)]:
        yield f"manifest.json: part {wrong[0]!r}: no name of a part"
    names = index_schema(list(manifest.parts), manifest.columns).names
    for name, count in Counter(names).items():
        if count > 1:
            yield f"manifest.json: column {name} has the name of another column of the index"
    if manifest.classes and "cls" not in manifest.parts:
        yield "manifest.json: classes, but no part cls"


def _shards(
    root: str | os.PathLike[str],
    manifest: Manifest,
    findings: list[str],
    progress: Callable[[int], object],
    workers: int,
) -> Iterator[tuple[Shard, pa.Table | None]]:
    """Yield each shard with its index, None where that is not readable, once what is wrong is among the findings."""
    json_keys: Counter[tuple[str, ...]] = Counter()
    checked = in_order(partial(_check, root, manifest), range(len(manifest.shards)), workers)
    for shard, found in zip(manifest.shards, checked, strict=True):
        findings += found.findings
        json_keys.update(found.json_keys)
        progress(shard.bytes)
        yield shard, found.rows
    if len(json_keys) > 1:
        *_, (rare, count) = json_keys.most_common()
        findings.append(f"json: {count} samples have other keys than the rest: {', '.join(rare)}")


def _check(root: str | os.PathLike[str], manifest: Manifest, number: int) -> Checked:
    """Return what came of one of the manifest's shards."""
    storage, shard = Storage(root), manifest.shards[number]
    json_keys: Counter[tuple[str, ...]] = Counter()
    findings, index = [], None
    try:
        index = read_shard_index(storage, manifest, shard)
    except Problem as problem:
        findings.append(str(problem))
    wrong = _shard(storage, manifest, shard, index, json_keys)
    findings += few((f"{shard.name}: {text}" for text in wrong), shard.name)
    return Checked(findings, index, json_keys)


def _shard(
    storage: Storage,
    manifest: Manifest,
    shard: Shard,
    index: pa.Table | None,
    json_keys: Counter[tuple[str, ...]],
) -> Iterator[str]:
    """Yield what is wrong with one shard: its bytes, its tar, its samples against the index and the manifest."""
    try:
        data = storage.view(f"shards/{shard.name}")
    except OSError:
        yield "missing"
        return
    digest = hashlib.sha256()
    for start in range(0, len(data), CHUNK):
        digest.update(data[start : start + CHUNK])
    if len(data) != shard.bytes:
        yield f"{len(data)} bytes, the manifest says {shard.bytes}"
    if digest.hexdigest() != shard.sha256:
        yield "its sha256 is not the manifest's: the file was changed or damaged"
    members: list[Member] = []
    try:
        members += walk(data)
    except Problem as problem:
        yield str(problem)
        return
    if index is None:
        return
    rows = index.to_pylist()
    yield from _against_index(members, rows, sorted(manifest.parts))
    yield from (
        f"sample {row['key']}: the index has split {row['split']}" for row in rows if row["split"] != shard.split
    )
    by_key = {row["key"]: row for row in rows}
    for name, offset, size in members:
        key, part = split_name(name)
        try:
            if key in by_key and part in manifest.parts:  # anything else is reported above
                _check_part(manifest, part, bytes(data[offset : offset + size]), by_key[key], json_keys)
        except (ValueError, Problem) as error:
            yield f"sample {key}: {part}: {error}"


def walk(data: memoryview) -> Iterator[Member]:
    """Yield the members of a tar, in order. Raises Problem at the first byte against the rules of format 1.

    A header is a pure function of name and size, so it is right when making it again gives the same bytes.
    """
    position = 0
    while bytes(data[position : position + BLOCK]).strip(b"\0"):
        block = bytes(data[position : position + BLOCK])
        try:
            name = block[:MEMBER_BYTES].rstrip(b"\0").decode("ascii")
            size = int(block[124:135], 8)
        except ValueError:
            raise Problem(f"byte {position}: no tar header") from None
        if header(name, size) != block:
            raise Problem(f"byte {position}: the header of {name} is not as USTAR with mtime, uid, gid 0 would have it")
        check_key(split_name(name)[0])
        start = position + BLOCK
        position = start + size + padding(size)
        if position > len(data):
            raise Problem(f"byte {start}: {name} of {size} bytes goes beyond the end of the file")
        if any(data[start + size : position]):
            raise Problem(f"byte {start + size}: {name} is followed by something else than zeros")
        yield Member(name, start, size)
    if data[position:] != END:
        raise Problem(f"byte {position}: a tar ends with {len(END)} zero bytes; here are {len(data) - position} bytes")


def _against_index(members: list[Member], rows: list[dict[str, Any]], parts: list[str]) -> Iterator[str]:
    """Yield the first place where the tar and its index part."""
    expected = (
        Member(f"{row['key']}.{part}", row[f"{part}.offset"], row[f"{part}.size"]) for row in rows for part in parts
    )
    for found, wanted in zip_longest(members, expected):
        if found != wanted:
            yield f"the tar has {_say(found)} where its index has {_say(wanted)}"
            return


def _say(member: Member | None) -> str:
    return f"{member.name} at {member.offset}, {member.size} bytes," if member else "no more members"


def _check_part(
    manifest: Manifest, part: str, data: bytes, row: dict[str, Any], json_keys: Counter[tuple[str, ...]]
) -> None:
    """Raise ValueError, or what decoding raises, when a part is not what the manifest and the index row say."""
    value = decode_part(part, data)
    if value is None:
        return
    if part == "json":
        encode_part(part, value)  # raises for null and lists of length one
        json_keys[tuple(sorted(value))] += 1
        _check_facts(manifest, value, row)
    if part == "cls" and not -1 <= value < len(manifest.classes):
        raise ValueError(f"class {value}, the manifest has {len(manifest.classes)}")
    if not isinstance(value, np.ndarray):
        return
    layer = manifest.layers.get(part.removesuffix(".npy"))
    dtype = layer.dtype if layer else manifest.parts[part].dtype
    if dtype and value.dtype != np.dtype(dtype):
        raise ValueError(f"{value.dtype}, the manifest says {dtype}")
    shape = tuple(row["shape"])
    if layer and (value.shape[1:] if layer.kind == "vector" else value.shape) != shape:
        raise ValueError(f"shape {list(value.shape)} does not fit the lattice {list(shape)}")
    axes = manifest.parts[part].shape.split(",") if manifest.parts[part].shape and not layer else None
    if axes and (
        len(axes) != value.ndim
        or any(axis.strip().isdigit() and int(axis) != n for axis, n in zip(axes, value.shape, strict=True))
    ):
        raise ValueError(f"shape {list(value.shape)}, the manifest says [{manifest.parts[part].shape}]")


def _check_facts(manifest: Manifest, facts: dict[str, Any], row: dict[str, Any]) -> None:
    """Raise ValueError when the json of a sample lacks what its index row says, or says something else."""
    for name in [*FACTS, *manifest.columns]:
        if name not in facts:
            raise ValueError(f"no {name}")
        if facts[name] != row[name] or isinstance(facts[name], bool) != isinstance(row[name], bool):
            raise ValueError(f"{name} {facts[name]!r}, the index has {row[name]!r}")
