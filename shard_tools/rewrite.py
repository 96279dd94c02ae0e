"""Make a data set from samples of others, their parts copied byte for byte: the one engine behind split, merge,
filter, reshard and sample.

Samples keep their keys, splits and order. Of several data sets they are interleaved in proportion, so that each shard
is a fair draw of all; samples of one group that stand together stay together. The same selection gives the same bytes.
"""

import hashlib
import heapq
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .arguments import nearest
from .errors import Misuse, Problem
from .index import read_parquet
from .keys import Hashes, repeated_texts
from .manifest import NAME, STATE, write_card, write_manifest
from .scan import scan
from .schema import PLAN, REJECTED, Build, Manifest, Shard
from .selection import Sample, Selection
from .storage import PARTIAL, Storage, atomic
from .tar import BLOCK, END, padding
from .writer import ShardWriter

OURS = (NAME, "README.md", "plan.parquet", "rejected.parquet", "shards", "index", STATE)
SHARD_BYTES = 256 * 10**6
SHARD_SAMPLES = 10_000


class Output:
    """Where a new data set is to stand."""

    def __init__(self, root: str | os.PathLike[str], sources: Sequence[Storage], *, overwrite: bool) -> None:
        """Raises Misuse where something stands that must not be replaced, or one of the sources lies."""
        self.storage = Storage(root)
        self.root = self.storage.root
        self.name = self.root.rstrip("/").rsplit("/", 1)[-1]
        if self.storage.local:
            self.name = os.path.basename(os.path.abspath(self.root))
            if os.path.exists(self.root) and not os.path.isdir(self.root):
                raise Misuse(f"{self.root}: the output is a file; give a folder")
        place = _place(self.storage)
        for source in sources:
            if place.startswith(_place(source)) or _place(source).startswith(place):
                raise Misuse(f"{self.root}: the output and {source.root} lie in one another; give another folder")
        try:
            found = [name for name in self.storage.names("") if not name.endswith(PARTIAL)]
        except OSError as error:
            raise Problem(f"{self.root}: not readable: {error}") from error
        if any(name not in OURS for name in found) and NAME not in found:
            raise Misuse(f"{self.root}: the output is not empty and holds no data set of ours; give another folder")
        if found and not overwrite:
            what = "a data set" if NAME in found else "an unfinished data set"
            raise Misuse(f"{self.root}: holds {what} already; give another --output, or --overwrite to replace it")

    def clear(self) -> None:
        """Remove what stands there of ours."""
        self.storage.remove(NAME)  # first: without it the rest is no data set
        for name in OURS[1:4]:
            self.storage.remove(name)
        for name in OURS[4:]:
            self.storage.remove_tree(name)


def rewrite(
    output: Output,
    selections: Sequence[Selection],
    command: dict[str, Any],
    *,
    shard_bytes: int = SHARD_BYTES,
    shard_samples: int = SHARD_SAMPLES,
    progress: Callable[[int], object] = lambda _: None,
) -> Manifest:
    """Write the chosen samples as a new data set and return its manifest.

    selections: of data sets that `check_alike` has passed. command: what was asked, for the manifest.
    shard_bytes, shard_samples: a shard ends before it would exceed one of them. progress: called with the number of
    samples written since the last call. The manifest is written last; after an error nothing is left.
    Raises Problem where a source is damaged or the output cannot be written.
    """
    if not sum(map(len, selections)):
        raise Problem(f"{output.root}: no sample was chosen; nothing was written")
    rejected = _read_rejected(selections)
    try:
        output.clear()
        shards = _write_shards(output, selections, shard_bytes, shard_samples, progress)
        with atomic(output.root, "rejected.parquet") as file:
            pq.write_table(rejected, file)
        config = {**command, "shard_size": shard_bytes, "shard_samples": shard_samples}
        manifest = _make_manifest(output.name, selections, config, shards, len(rejected))
        write_card(output.root, manifest)
        write_manifest(output.root, manifest)
    except BaseException as error:
        with suppress(OSError, Problem):  # what cannot be written may be impossible to remove too
            output.clear()
        if isinstance(error, OSError):
            raise Problem(f"{output.root}: cannot be written: {error.strerror or error}") from error
        raise
    return manifest


def check_alike(selections: Sequence[Selection]) -> None:
    """Raise Misuse, saying what differs, for data sets that cannot be one."""
    first = selections[0]
    for other in selections[1:]:
        where = f"{first.storage.root} and {other.storage.root}"
        one, two = first.manifest, other.manifest
        if one.modality != two.modality:
            raise Misuse(f"{where}: cannot be merged: modality {one.modality} and {two.modality}")
        for what in ("parts", "layers", "columns"):
            mine, theirs = getattr(one, what), getattr(two, what)
            if alone := sorted(mine.keys() ^ theirs.keys()):
                owner = first if alone[0] in mine else other
                hint = nearest(alone[0], theirs if alone[0] in mine else mine)
                raise Misuse(
                    f"{where}: cannot be merged: of the {what}, {alone[0]} is in {owner.storage.root} alone{hint}"
                )
            for name in sorted(mine):
                if mine[name] != theirs[name]:
                    raise Misuse(f"{where}: cannot be merged: {what}: {name} is {_differ(mine[name], theirs[name])}")
        if one.classes != two.classes:
            raise Misuse(f"{where}: cannot be merged: their classes differ, so their part cls means different things")


def check_keys(selections: Sequence[Selection]) -> None:
    """Raise Misuse for a key that comes more than once among the samples."""

    def keys() -> Iterator[pa.ChunkedArray]:
        for selection in selections:
            for (_, index), rows in zip(
                scan(selection.storage, selection.manifest, selection.manifest.shards), selection.rows, strict=True
            ):
                yield index["key"].take(pa.array(rows))

    hashes = Hashes()
    for column in keys():
        hashes.add(column)
    if len(repeated := hashes.repeated()) and (found := repeated_texts(repeated, keys(), limit=1)):
        raise Misuse(f"cannot be merged: sample {found[0]} is there more than once")


def _differ(one: Any, two: Any) -> str:
    """Return in words where two parts, layers or columns differ first."""
    if hasattr(one, "model_dump"):
        mine, theirs = one.model_dump(), two.model_dump()
        name = next(name for name in mine if mine[name] != theirs[name])
        return f"of {name} {mine[name]!r} and {theirs[name]!r}"
    return f"{one} and {two}"


def _place(storage: Storage) -> str:
    path = storage.path("").rstrip("/")
    return f"{type(storage.fs).__name__}:{os.path.realpath(path) if storage.local else path}/"


def _splits(selections: Sequence[Selection]) -> list[str]:
    return list(dict.fromkeys(split for selection in selections for split in selection.manifest.splits))


def _write_shards(
    output: Output,
    selections: Sequence[Selection],
    shard_bytes: int,
    shard_samples: int,
    progress: Callable[[int], object],
) -> list[Shard]:
    """Write shards, index and plan; return the manifest's entries."""
    manifest, shards = selections[0].manifest, []
    with atomic(output.root, "plan.parquet") as file, pq.ParquetWriter(file, PLAN) as plan:
        for split in _splits(selections):
            samples = heapq.merge(*(selection.samples(split) for selection in selections), key=lambda one: one.place)
            for number, group in enumerate(_group(samples, shard_bytes, shard_samples)):
                name = f"{split}-{number:06d}"
                with ShardWriter(output.root, name, list(manifest.parts), manifest.columns) as writer:
                    rows = []
                    for _, row, parts in group:
                        writer.add(row["key"], parts, row)
                        rows.append({**{field: row.get(field) for field in PLAN.names}, "shard": name})
                        progress(1)
                    shard = writer.commit()
                assert shard is not None  # a group has samples
                shards.append(shard)
                plan.write_table(pa.Table.from_pylist(rows, PLAN))
    return shards


def _group(samples: Iterator[Sample], shard_bytes: int, shard_samples: int) -> Iterator[Iterator[Sample]]:
    """Yield the samples of one shard after the other; each must be used up before the next is asked for."""
    waiting = next(samples, None)

    def one_shard() -> Iterator[Sample]:
        nonlocal waiting
        filled = count = 0
        while waiting is not None:
            size = sum(BLOCK + len(part) + padding(len(part)) for part in waiting.parts.values())
            if count and (filled + size + len(END) > shard_bytes or count >= shard_samples):
                return
            filled, count = filled + size, count + 1
            yield waiting
            waiting = next(samples, None)

    while waiting is not None:
        yield one_shard()


def _read_rejected(selections: Sequence[Selection]) -> pa.Table:
    """Return the rejects of the data sets that are here as a whole.

    What was turned away from a data set says nothing about a choice of its samples.
    """
    tables = [REJECTED.empty_table()]
    for selection in selections:
        if selection.whole and selection.manifest.rejected:
            table = read_parquet(selection.storage, "rejected.parquet")
            if not table.schema.equals(REJECTED):
                path = selection.storage.url("rejected.parquet")
                raise Problem(f"{path}: its columns are not those of this version; build the data set again")
            tables.append(table)
    order = [(name, "ascending") for name in ("source", "start", "end", "stage", "error", "message")]
    return pa.concat_tables(tables).sort_by(order)


def _make_manifest(
    name: str, selections: Sequence[Selection], config: dict[str, Any], shards: list[Shard], rejected: int
) -> Manifest:
    """Return the manifest of the first source with what is new."""
    config = {
        **config,
        "from": [_origin(selection) for selection in selections],
        "statistics": _say_statistics(all(selection.whole for selection in selections), len(selections)),
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    counts = {split: sum(shard.samples for shard in shards if shard.split == split) for split in _splits(selections)}
    return selections[0].manifest.model_copy(
        update={
            "name": name,
            "splits": {split: count for split, count in counts.items() if count},
            "statistics": _merge_statistics([selection.manifest.statistics for selection in selections]),
            "rejected": rejected,
            "gaps": [],
            "build": Build(config=config, digest=digest, versions=_versions()),
            "shards": shards,
        }
    )


def _origin(selection: Selection) -> dict[str, Any]:
    manifest = selection.manifest
    return {
        "name": manifest.name,
        "samples": f"{len(selection)} of {sum(shard.samples for shard in manifest.shards)}",
        "digest": manifest.build.digest,
        "config": manifest.build.config,
        "versions": manifest.build.versions,
    }


def _say_statistics(whole: bool, sources: int) -> str:
    if sources > 1:
        return "not computed of all samples: each figure is of the first source that has it"
    return "of the source, whose samples are all here" if whole else "of the source, not computed of this choice"


def _merge_statistics(all_of_them: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return all figures, nested ones too (a table's columns by its id); where several have one, the first's."""
    merged: dict[str, Any] = {}
    for statistics in all_of_them:
        for name, value in statistics.items():
            if name not in merged:
                merged[name] = value
            elif isinstance(value, dict) and isinstance(merged[name], dict):
                merged[name] = _merge_statistics([merged[name], value])
    return merged


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("mmmask", "pyarrow")}
