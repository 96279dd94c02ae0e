"""Read a data set at random positions or from end to end, as plain dicts of bytes, arrays and numbers."""

import functools
import operator
import os
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
import pyarrow as pa

from .arguments import nearest
from .errors import Misuse, Problem
from .index import read_index
from .manifest import read_manifest
from .schema import MEMBER_BYTES
from .storage import Storage, in_order
from .tar import BLOCK, decode_part

OPEN_SHARDS = 128  # a mapped file holds a file descriptor, of which a process has 1024


class CorruptSample(Problem):
    """The bytes of a sample cannot be right. Attributes: shard (file name), key, part, reason."""

    def __init__(self, shard: str, key: str, part: str, reason: str) -> None:
        super().__init__(shard, key, part, reason)
        self.shard, self.key, self.part, self.reason = shard, key, part, reason

    def __str__(self) -> str:
        return f"{self.shard}: sample {self.key}: {self.part}: {self.reason}"


Root = str | os.PathLike[str]


class Dataset:
    """The samples of a data set, in the order of its manifest: `len(ds)`, `ds[i]`, `ds.get(key)`, `for s in ds`.

    root, split: as given to `open`.
    manifest: what the data set is.
    shards: manifest entries of the split; bounds: int64 [shards + 1], the position where each shard begins.
    index: pyarrow.Table, a row a sample (see `schema.index_schema`).

    May be pickled and forked: a copy opens the files again for itself.
    """

    def __init__(self, root: Root, split: str | None = None) -> None:
        self.root, self.split = os.fspath(root), split
        self.manifest = read_manifest(root)
        if split is not None and split not in self.manifest.splits:
            known = self.manifest.splits
            raise Misuse(f"{self.root}: no split {split!r}{nearest(split, known)}; it has {', '.join(known)}")
        storage = Storage(root)
        self.shards = [shard for shard in self.manifest.shards if split in (None, shard.split)]
        self.bounds = np.cumsum([0, *(shard.samples for shard in self.shards)], dtype=np.int64)
        self.index: pa.Table = read_index(storage, self.manifest, self.shards)
        self._parts = sorted(self.manifest.parts)
        self._offsets = {part: self.index[f"{part}.offset"].to_numpy() for part in self._parts}
        self._sizes = {part: self.index[f"{part}.size"].to_numpy() for part in self._parts}
        self._blob = functools.lru_cache(OPEN_SHARDS)(lambda shard: storage.blob(f"shards/{shard}"))

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Return {'__key__': key, part: value …}, values as `tar.decode_part` has them.

        Raises IndexError beyond the last sample and CorruptSample for bytes that cannot be right.
        """
        position = self._position(position)
        key, shard = self._key(position), self._shard(position)
        sample: dict[str, Any] = {"__key__": key}
        for part, data in self.raw(position).items():
            try:
                sample[part] = decode_part(part, data)
            except ValueError as error:
                raise CorruptSample(self.shards[shard].name, key, part, str(error)) from error
        return sample

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._in_order().__getitem__, range(len(self)))

    def raw(self, position: int) -> dict[str, bytes]:
        """Return part → bytes as they are stored.

        Raises IndexError and CorruptSample like `ds[position]`, and Problem where storage does not answer.
        """
        position = self._position(position)
        key, name = self._key(position), self.shards[self._shard(position)].name
        places = [(part, int(self._offsets[part][position]), int(self._sizes[part][position])) for part in self._parts]
        start = min(offset for _, offset, _ in places) - BLOCK
        end = max(offset + size for _, offset, size in places)
        try:
            blob = self._blob(name)
            if start < 0 or end > len(blob) or any(size < 0 for *_, size in places):
                raise CorruptSample(name, key, places[-1][0], f"ends at byte {end} of a file of {len(blob)}")
            span = blob[start:end]  # one request where the shard is far away
        except FileNotFoundError as error:
            raise CorruptSample(name, key, self._parts[0], f"shard not readable: {error}") from error
        except OSError as error:  # not the sample's fault: another try may read it
            raise Problem(f"not readable: {error}") from error
        return {part: _part(span, offset - start, size, name, key, part) for part, offset, size in places}

    def get(self, key: str) -> dict[str, Any]:
        """Return the sample of a key. Raises KeyError when there is none."""
        return self[self.find(key)]

    def find(self, key: str) -> int:
        """Return the position of a key. Raises KeyError when there is none."""
        position = self.index["key"].index(pa.scalar(key, pa.string())).as_py()
        if position < 0:
            raise KeyError(key)
        return position

    def row(self, position: int) -> dict[str, Any]:
        """Return the index row of a sample: key, split, label, group, shape, source, start, end, offsets and sizes."""
        return self.index.slice(self._position(position), 1).to_pylist()[0]

    @functools.cached_property
    def keys(self) -> list[str]:
        """The keys of all samples, in order."""
        return self.index["key"].to_pylist()

    def __reduce__(self) -> tuple[Callable[..., "Dataset"], tuple[Any, ...]]:
        return Dataset, (self.root, self.split)

    def _in_order(self) -> Self:
        """Return the same data set for one who reads from front to back: many far samples come with a request."""
        return self._with(_blob=functools.lru_cache(1)(lambda shard: in_order(self._blob(shard))))

    def _with(self, **attributes: Any) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **attributes)
        return other

    def _position(self, position: int) -> int:
        index = operator.index(position)
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.root}: no sample {index}; there are {len(self)}")
        return index % len(self)

    def _key(self, position: int) -> str:
        return self.index["key"][position].as_py()

    def _shard(self, position: int) -> int:
        return int(np.searchsorted(self.bounds, position, side="right")) - 1


def _part(span: bytes, start: int, size: int, shard: str, key: str, part: str) -> bytes:
    """Return a part's bytes once the header before them names it and its size."""
    found = span[start - BLOCK : start]
    member = f"{key}.{part}".encode()
    if found[257:262] != b"ustar" or found[:MEMBER_BYTES].rstrip(b"\0") != member:
        raise CorruptSample(shard, key, part, f"no header of this member at byte {start - BLOCK} of the sample")
    if found[124:135] != b"%011o" % size:
        raise CorruptSample(shard, key, part, f"the header gives another size than the index, {size}")
    return span[start : start + size]
