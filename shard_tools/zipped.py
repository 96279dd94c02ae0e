"""Data sets of the same keys, read as one: an overlay with its base, a camera with a LiDAR.

A part that one of them alone has keeps its name. One that several have is called NAME.part for each, so that two
cameras give `front.jpg`, `front.json`, `back.jpg` and `back.json`.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from .errors import Misuse
from .reader import CorruptSample, Dataset, Root
from .schema import Manifest, Shard, index_schema

PREFIX = re.compile(r"[a-z0-9_]+")

Renamed = dict[str, str]  # the parts of one data set → what they are called here


class Zipped(Dataset):
    """Data sets with the same keys in the same shards as one data set, which has all their parts, layers and columns.

    members: the data sets; names: what each is called. root: their roots, joined by '+'.
    manifest, index: as a `Dataset` has them. What not all can have (statistics, modality, build; a row's source,
    shape of the lattice, start and end) is the first's; `members[n].manifest` and `members[n].row(i)` have each one's.
    """

    def __init__(self, roots: Sequence[Root] | Mapping[str, Root], split: str | None = None) -> None:
        """roots: folders or URLs by name; in a list each has the name that its manifest gives.

        Raises Misuse for data sets that do not zip, with the first thing that differs, and like `Dataset`.
        """
        named = isinstance(roots, Mapping)
        self.split, self._roots = split, {**roots} if isinstance(roots, Mapping) else [*roots]
        self.members = [Dataset(root, split) for root in (roots.values() if isinstance(roots, Mapping) else roots)]
        if not self.members:
            raise Misuse("no data set to open: the list is empty")
        first = self.members[0]
        for other in self.members[1:]:
            _compare(first, other)
        self.names = [*roots] if named else [_slug(data.manifest.name) for data in self.members]
        self._renamed = _rename(self.names, self.members)
        self.root = "+".join(data.root for data in self.members)
        self.shards, self.bounds = first.shards, first.bounds
        self.manifest = _merge_manifests([data.manifest for data in self.members], self._renamed)
        self.index = _merge_indexes([data.index for data in self.members], self._renamed, self.manifest)

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Return {'__key__': key, part: value …} with the parts of all data sets. Raises like `Dataset`."""
        position = self._position(position)
        return {"__key__": self._key(position), **self._gather(position, Dataset.__getitem__)}

    def raw(self, position: int) -> dict[str, bytes]:
        """Return part → bytes as they are stored, of all data sets. Raises like `Dataset.raw`."""
        return self._gather(self._position(position), Dataset.raw)

    def _in_order(self) -> Self:
        return self._with(members=[data._in_order() for data in self.members])

    def __reduce__(self) -> tuple[Callable[..., Dataset], tuple[Any, ...]]:
        return Zipped, (self._roots, self.split)

    def _gather(self, position: int, read: Callable[[Dataset, int], dict[str, Any]]) -> dict[str, Any]:
        parts: dict[str, Any] = {}
        for data, renamed in zip(self.members, self._renamed, strict=True):
            try:
                sample = read(data, position)
            except CorruptSample as error:
                reason = f"{error.reason} (in {data.root})"
                raise CorruptSample(error.shard, error.key, renamed[error.part], reason) from error
            parts |= {name: sample[part] for part, name in renamed.items()}
        return parts


def _compare(first: Dataset, other: Dataset) -> None:
    """Raise Misuse unless both have the same shards with the same keys in the same order."""
    differ = f"{first.root} and {other.root} cannot be read as one"
    for one, two in zip_longest(first.shards, other.shards):
        if one is None or two is None or (one.name, one.samples) != (two.name, two.samples):
            raise Misuse(f"{differ}: the first has {_say(one)} where the second has {_say(two)}")
    equal = pc.equal(first.index["key"], other.index["key"])
    if (position := equal.index(False).as_py()) >= 0:
        one, two = (data.index["key"][position].as_py() for data in (first, other))
        raise Misuse(f"{differ}: sample {position} has the key {one} in the first and {two} in the second")


def _say(shard: Shard | None) -> str:
    return f"{shard.name} with {shard.samples} samples" if shard else "no more shards"


def _slug(name: str) -> str:
    """Return a data set's name as it may stand in the name of a part."""
    return re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_")


def _rename(names: Sequence[str], members: Sequence[Dataset]) -> list[Renamed]:
    """Return the new names of each data set's parts. Raises Misuse where they cannot be told apart."""
    owners = Counter(part for data in members for part in data.manifest.parts)
    renamed = [
        {part: part if owners[part] == 1 else f"{name}.{part}" for part in sorted(data.manifest.parts)}
        for name, data in zip(names, members, strict=True)
    ]
    for name, parts in zip(names, renamed, strict=True):
        if any(part != new for part, new in parts.items()) and not PREFIX.fullmatch(name):
            raise Misuse(f"{name!r}: the name of a data set that shares parts with others is made of a-z, 0-9 and _")
    (part, count), *_ = Counter(name for parts in renamed for name in parts.values()).most_common(1)
    if count > 1:
        roots = " and ".join(data.root for data, parts in zip(members, renamed, strict=True) if part in parts.values())
        raise Misuse(f"{roots} both bring a part {part}; give each a name of its own: open({{'a': …, 'b': …}})")
    return renamed


def _merge_manifests(manifests: Sequence[Manifest], renamed: Sequence[Renamed]) -> Manifest:
    """Return the first manifest with the parts, layers and columns of all, and the first classes there are."""
    pairs = list(zip(manifests, renamed, strict=True))
    return manifests[0].model_copy(
        update={
            "name": "+".join(manifest.name for manifest in manifests),
            "parts": {names[part]: about for manifest, names in pairs for part, about in manifest.parts.items()},
            "layers": {
                names[f"{layer}.npy"].removesuffix(".npy"): about
                for manifest, names in pairs
                for layer, about in manifest.layers.items()
            },
            "columns": {name: type_ for manifest in reversed(manifests) for name, type_ in manifest.columns.items()},
            "classes": next((manifest.classes for manifest in manifests if manifest.classes), []),
        }
    )


def _merge_indexes(indexes: Sequence[pa.Table], renamed: Sequence[Renamed], manifest: Manifest) -> pa.Table:
    """Return the index of all: offsets and sizes of each, columns of a list and all else of the first that has them."""
    columns: dict[str, pa.ChunkedArray] = {}
    for index, names in zip(indexes, renamed, strict=True):
        for part, name in names.items():
            columns |= {f"{name}.{what}": index[f"{part}.{what}"] for what in ("offset", "size")}
    for index in reversed(indexes):
        columns |= {name: index[name] for name in index.column_names if not name.endswith((".offset", ".size"))}
    schema = index_schema(list(manifest.parts), manifest.columns)
    return pa.table([columns[name] for name in schema.names], schema=schema)
