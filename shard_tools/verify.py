"""Check a data set against its own words: every byte, sample and index entry, and that its files agree."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from .errors import Problem
from .index import index_name, read_parquet, read_shard_index
from .manifest import read_manifest
from .schema import MEMBER_BYTES, PLAN, REJECTED, Manifest, Shard
from .storage import Storage
from .tar import BLOCK, END, check_key, decode_part, encode_part, header, padding, split_name

CHUNK = 1 << 22
PLANNED = ["source", "start", "end", "split", "group", "label", "shard"]  # what plan and index must agree on


class Member(NamedTuple):
    """A file in a shard: its name, and where its data stands."""

    name: str
    offset: int
    size: int


def verify(root: str | os.PathLike[str], progress: Callable[[int], object] = lambda _: None) -> list[str]:
    """Return what is wrong with a data set, a line a finding; empty when all is well.

    progress: called with the number of bytes of shards checked since the last call.
    Raises Problem or Misuse where there is no readable manifest.
    """
    manifest = read_manifest(root)
    storage = Storage(root)
    findings = [*_files(storage, manifest), *_counts(manifest)]
    indexes: list[pa.Table] = []
    json_keys: Counter[tuple[str, ...]] = Counter()
    for shard in manifest.shards:
        table = None
        try:
            table = read_shard_index(storage, manifest, shard)
            indexes.append(table.append_column("shard", pa.array([shard.name[:-4]] * len(table), pa.string())))
        except Problem as problem:
            findings.append(str(problem))
        findings += (f"{shard.name}: {text}" for text in _shard(storage, manifest, shard, table, json_keys, progress))
    if len(json_keys) > 1:
        *_, (rare, count) = json_keys.most_common()
        findings.append(f"json: {count} samples have other keys than the rest: {', '.join(rare)}")
    if len(indexes) == len(manifest.shards):  # otherwise every sample of the missing index would be named here too
        findings += _plan(storage, manifest, indexes)
    return findings


def _files(storage: Storage, manifest: Manifest) -> Iterator[str]:
    """Yield the files of the manifest that are missing, and files that it does not know."""
    for folder, known in (
        ("shards", {shard.name for shard in manifest.shards}),
        ("index", {index_name(shard).split("/")[1] for shard in manifest.shards}),
    ):
        yield from (f"{folder}/{name}: not in the manifest" for name in storage.names(folder) if name not in known)
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
    if manifest.classes and "cls" not in manifest.parts:
        yield "manifest.json: classes, but no part cls"


def _shard(
    storage: Storage,
    manifest: Manifest,
    shard: Shard,
    index: pa.Table | None,
    json_keys: Counter[tuple[str, ...]],
    progress: Callable[[int], object],
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
        progress(len(data[start : start + CHUNK]))
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
    shapes = {row["key"]: tuple(row["shape"]) for row in rows}
    for name, offset, size in members:
        key, part = split_name(name)
        try:
            _check_part(manifest, part, bytes(data[offset : offset + size]), shapes.get(key, ()), json_keys)
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
    manifest: Manifest, part: str, data: bytes, shape: tuple[int, ...], json_keys: Counter[tuple[str, ...]]
) -> None:
    """Raise ValueError, or what decoding raises, when a part is not what the manifest says. shape: of the lattice."""
    value = decode_part(part, data)
    if value is None:
        return
    if part == "json":
        encode_part(part, value)  # raises for null and lists of length one
        json_keys[tuple(sorted(value))] += 1
    if part == "cls" and not -1 <= value < len(manifest.classes):
        raise ValueError(f"class {value}, the manifest has {len(manifest.classes)}")
    if not isinstance(value, np.ndarray):
        return
    layer = manifest.layers.get(part.removesuffix(".npy"))
    dtype = layer.dtype if layer else manifest.parts[part].dtype
    if dtype and value.dtype != np.dtype(dtype):
        raise ValueError(f"{value.dtype}, the manifest says {dtype}")
    if layer and (value.shape[1:] if layer.kind == "vector" else value.shape) != shape:
        raise ValueError(f"shape {list(value.shape)} does not fit the lattice {list(shape)}")
    axes = manifest.parts[part].shape.split(",") if manifest.parts[part].shape and not layer else None
    if axes and (
        len(axes) != value.ndim
        or any(axis.strip().isdigit() and int(axis) != n for axis, n in zip(axes, value.shape, strict=True))
    ):
        raise ValueError(f"shape {list(value.shape)}, the manifest says [{manifest.parts[part].shape}]")


def _plan(storage: Storage, manifest: Manifest, indexes: list[pa.Table]) -> Iterator[str]:
    """Yield where plan, index and rejects disagree, and keys that come twice."""
    tables: dict[str, pa.Table] = {}
    for name, schema in (("plan.parquet", PLAN), ("rejected.parquet", REJECTED)):
        try:
            tables[name] = read_parquet(storage, name)
        except Problem as problem:
            yield str(problem)
            return
        if not tables[name].schema.equals(schema):
            yield f"{name}: its columns are not those of format {manifest.format}"
            return
    plan, rejected = tables["plan.parquet"], tables["rejected.parquet"]
    if len(rejected) != manifest.rejected:
        yield f"rejected.parquet: {len(rejected)} rows, the manifest says {manifest.rejected}"
    planned = {row["key"]: row for row in plan.to_pylist()}
    if len(planned) != len(plan):
        yield "plan.parquet: a key comes twice"
    refused = set(rejected["source"].to_pylist())
    seen: set[str] = set()
    for table in indexes:
        for row in table.select(["key", *PLANNED]).to_pylist():
            key = row["key"]
            if key in seen:
                yield f"sample {key}: its key comes twice in the data set"
            elif key not in planned:
                yield f"sample {key}: not in plan.parquet"
            elif wrong := [name for name in PLANNED if row[name] != planned[key][name]]:
                yield f"sample {key}: index and plan.parquet differ in {', '.join(wrong)}"
            seen.add(key)
    for key, row in planned.items():
        if key not in seen and row["source"] not in refused:
            yield f"sample {key}: planned from {row['source']}, but neither in a shard nor rejected"
    built = {shard.name[:-4] for shard in manifest.shards}
    if missing := sorted({row["shard"] for row in planned.values()} - built - set(manifest.gaps)):
        yield f"plan.parquet: {missing[0]} is neither a shard nor a gap of the manifest"
