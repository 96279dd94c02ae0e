"""Are two data sets the same, byte for byte? And if not, what differs first?"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa

from .errors import Problem
from .index import index_name, read_shard_index
from .manifest import read_manifest
from .planned import few
from .scan import scan_parquet
from .schema import PLAN, REJECTED, Shard
from .storage import Storage, in_order
from .tar import decode_part

CHUNK = 1 << 24
COLUMNS = 6  # that differ in a row, named in a message
TABLES = {"plan.parquet": PLAN, "rejected.parquet": REJECTED}

Pair = tuple["Side", "Side"]


class Side:
    """One of the two data sets."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.storage, self.manifest = Storage(root), read_manifest(root)
        self.shards = {shard.name: shard for shard in self.manifest.shards}
        self.root = self.storage.root

    def digest(self, name: str, progress: Callable[[int], object] = lambda _: None) -> str:
        """Return the sha256 of a file, '' when it is missing."""
        try:
            data = self.storage.view(name)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise Problem(f"{self.storage.url(name)}: not readable: {error}") from error
        digest = hashlib.sha256()
        for start in range(0, len(data), CHUNK):
            digest.update(data[start : start + CHUNK])
            progress(len(data[start : start + CHUNK]))
        return digest.hexdigest()


def compare(
    one: str | os.PathLike[str], two: str | os.PathLike[str], progress: Callable[[int], object] = lambda _: None
) -> list[str]:
    """Return what differs between two data sets, causes first, a line each; empty when all their bytes are equal.

    Compared are the bytes of shards, index, plan and rejects, and the manifest but for its name; not the data card,
    which is made of the manifest. progress: called with the number of bytes of shards read since the last call.
    Raises Problem or Misuse where there is no readable manifest.
    """
    sides = Side(one), Side(two)
    findings = _manifests(sides)
    shards = list(_shards(sides, progress))
    findings += few((finding for finding, _ in shards), "shards")
    if both := next((name for _, name in shards if name), None):
        findings += _first_sample(sides, both)
    findings += few(_indexes(sides), "index")
    for name, schema in TABLES.items():
        findings += _tables(sides, name, schema)
    return findings


def _manifests(sides: Pair) -> list[str]:
    """Return where the manifests differ: config and versions first, which are the cause of the rest."""
    one, two = (side.manifest.model_dump(exclude={"name", "shards"}) for side in sides)
    builds = one.pop("build"), two.pop("build")
    both = {what: (builds[0].pop(what), builds[1].pop(what)) for what in ("config", "versions")}
    both |= {"manifest": (one, two), "manifest.build": builds}
    return [finding for what, pair in both.items() for finding in few(_values(what, *pair), what)]


def _values(where: str, one: Any, two: Any) -> Iterator[str]:
    """Yield where two values of JSON differ."""
    if isinstance(one, dict) and isinstance(two, dict):
        for name in dict.fromkeys([*one, *two]):
            place = f"{where}.{name}"
            if name not in one or name not in two:
                yield f"{place}: only in the {'first' if name in one else 'second'}"
            else:
                yield from _values(place, one[name], two[name])
    elif one != two:
        yield f"{where}: {_brief(one)} and {_brief(two)}"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _shards(sides: Pair, progress: Callable[[int], object]) -> Iterator[tuple[str, str]]:
    """Yield (finding, name of the shard where both have it) for shards that differ."""
    one, two = sides
    for name in dict.fromkeys([*one.shards, *two.shards]):
        if name not in one.shards or name not in two.shards:
            owner = one if name in one.shards else two
            yield f"{name}: only in {owner.root}", ""
            continue
        found = [side.digest(f"shards/{name}", progress) for side in sides]
        for side, digest in zip(sides, found, strict=True):
            if digest != side.shards[name].sha256:
                what = "damaged: its sha256 is not the manifest's" if digest else "missing"
                yield f"{name}: in {side.root} it is {what}", ""
        if found[0] != found[1]:
            yield f"{name}: other bytes: {_say(one.shards[name])} and {_say(two.shards[name])}", name
        elif one.shards[name] != two.shards[name]:
            yield f"{name}: the files are the same, what the manifests say of them is not", ""


def _say(shard: Shard) -> str:
    return f"{shard.samples} samples in {shard.bytes} bytes"


def _first_sample(sides: Pair, name: str) -> Iterator[str]:
    """Yield the first sample and part in which two shards of one name differ."""
    try:
        tables = [read_shard_index(side.storage, side.manifest, side.shards[name]) for side in sides]
        blobs = [in_order(side.storage.blob(f"shards/{name}")) for side in sides]
    except (OSError, Problem) as error:
        yield f"{name}: cannot say which sample: {error}"
        return
    rows = [table.to_pylist() for table in tables]
    for number, (one, two) in enumerate(zip_longest(*rows)):
        if one is None or two is None or one["key"] != two["key"]:
            keys = [row["key"] if row else "no more samples" for row in (one, two)]
            yield f"{name}: sample {number} is {keys[0]} and {keys[1]}"
            return
        for part in sorted({*sides[0].manifest.parts, *sides[1].manifest.parts}):
            if f"{part}.size" not in one or f"{part}.size" not in two:
                yield f"{name}: sample {one['key']}: only one has the part {part}"
                return
            data = [
                bytes(blob[row[f"{part}.offset"] : row[f"{part}.offset"] + row[f"{part}.size"]])
                for blob, row in zip(blobs, (one, two), strict=True)
            ]
            if data[0] != data[1]:
                yield f"{name}: sample {one['key']}: {part}: {_difference(part, *data)}"
                return
    yield f"{name}: every part of every sample is the same; the bytes between them are not"


def _difference(part: str, one: bytes, two: bytes) -> str:
    """Return in words where two stored parts differ."""
    try:
        values = decode_part(part, one), decode_part(part, two)
    except ValueError:
        values = None, None
    if isinstance(values[0], dict) and isinstance(values[1], dict):
        return next(_values(part, *values), "written in another way")
    if isinstance(values[0], np.ndarray) and isinstance(values[1], np.ndarray):
        mine, theirs = values
        if (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
            return f"{mine.dtype} {list(mine.shape)} and {theirs.dtype} {list(theirs.shape)}"
        return f"{np.count_nonzero(mine != theirs)} of {mine.size} values differ"
    common = min(len(one), len(two))
    unequal = np.flatnonzero(np.frombuffer(one[:common], np.uint8) != np.frombuffer(two[:common], np.uint8))
    at = int(unequal[0]) if len(unequal) else common
    return f"from byte {at} on; {len(one)} and {len(two)} bytes"


def _indexes(sides: Pair) -> Iterator[str]:
    """Yield index files that differ, of shards that both have."""
    for shard in sides[0].manifest.shards:
        if shard.name in sides[1].shards and sides[0].digest(index_name(shard)) != sides[1].digest(index_name(shard)):
            try:
                one, two = (read_shard_index(side.storage, side.manifest, side.shards[shard.name]) for side in sides)
            except Problem as problem:
                yield str(problem)
                continue
            yield f"{index_name(shard)}: {_rows([one], [two])}"


def _tables(sides: Pair, name: str, schema: pa.Schema) -> Iterator[str]:
    """Yield how plan or rejects differ."""
    if sides[0].digest(name) != sides[1].digest(name):
        try:
            yield f"{name}: " + _rows(*(scan_parquet(side.storage, name, schema, schema.names) for side in sides))
        except Problem as problem:
            yield str(problem)


def _rows(one: Sequence[pa.Table] | Iterator[pa.Table], two: Sequence[pa.Table] | Iterator[pa.Table]) -> str:
    """Return in words the first row in which two tables, given in equal batches, differ."""
    done = 0
    for mine, theirs in zip_longest(one, two):
        if mine is None or theirs is None or not mine.equals(theirs):
            rows = [table.to_pylist() if table is not None else [] for table in (mine, theirs)]
            for number, (a, b) in enumerate(zip_longest(*rows)):
                if a is None or b is None:
                    return f"row {done + number} is only in the {'second' if a is None else 'first'}"
                if a != b:
                    differ = [column for column in dict.fromkeys([*a, *b]) if a.get(column) != b.get(column)]
                    more = " …" if len(differ) > COLUMNS else ""
                    return f"row {done + number} differs in {', '.join(differ[:COLUMNS])}{more}"
        done += len(mine)
    return "the rows are the same, the files are not: another version of Parquet, or other row groups"
