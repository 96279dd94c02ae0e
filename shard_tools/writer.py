"""Write one shard: samples in, a committed tar file with its index out, or nothing at all."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import Problem
from .schema import Shard, index_schema
from .storage import AtomicFile, atomic
from .tar import END, PART, sample_members

PIECE = 256 << 10  # bytes that are still in the processor's cache when they are used again


class ShardWriter:
    """Writes `shards/NAME.tar` and `index/NAME.parquet` below `root`; both appear at `commit` or not at all.

    The bytes depend on the samples and their order alone. Leaving the context without a commit removes what was
    written.

        with ShardWriter(root, "train-000000", ["jpg", "json"]) as writer:
            writer.add(key, {"jpg": …, "json": …}, row)
            shard = writer.commit()
    """

    def __init__(
        self, root: str | os.PathLike[str], name: str, parts: Sequence[str], columns: Mapping[str, str] | None = None
    ) -> None:
        """name: without suffix. parts: every sample has exactly these. columns: as the manifest has them.

        Raises Problem for a wrong part name.
        """
        if wrong := [part for part in parts if not PART.fullmatch(part)]:
            raise Problem(f"part {wrong[0]!r}: only a-z, 0-9, _ and dots may stand in the name of a part")
        self.root, self.name, self.parts = root, name, sorted(parts)
        self._schema = index_schema(self.parts, columns or {})
        self._fields = {field for field in self._schema.names if not field.endswith((".offset", ".size"))}
        self._offsets = [f"{part}.offset" for part in self.parts]
        self._rows: list[dict[str, Any]] = []
        self._batches: list[pa.RecordBatch] = []
        self._keys: set[str] = set()
        self._splits: set[str] = set()
        self._digest = hashlib.sha256()
        self._position = 0
        self._tar = AtomicFile(root, f"shards/{name}.tar")

    def add(self, key: str, parts: Mapping[str, bytes | memoryview], row: Mapping[str, Any]) -> None:
        """Append a sample.

        parts: the bytes of every part, b"" for one that has nothing to say (see `tar.encode_part`).
        row: key, split, label, group, shape, source, start, end and the data set's columns, for the index.
        Raises Problem for a key, part or field against the format; the shard is then as it was.
        """
        if sorted(parts) != self.parts:
            raise Problem(f"{self.name}: sample {key} has parts {sorted(parts)}, its data set {self.parts}")
        if set(row) != self._fields or row["key"] != key or any(value is None for value in row.values()):
            raise Problem(f"{self.name}: sample {key}: its index row must have {sorted(self._fields)} and this key")
        pieces, places = sample_members(key, parts, self._position)
        self._claim([key], [row["split"]])
        self._write(b"".join(pieces))
        self._rows.append({**row, **places})

    def append(self, members: bytes | memoryview, rows: pa.RecordBatch) -> None:
        """Append samples whose members `tar.sample_members` made, somewhere else perhaps.

        members: their pieces joined. rows: of `schema.index_schema`, a row a sample, with the places of the parts in
        the members. What stands there is not looked at again. Raises Problem for rows of another schema or with empty
        cells, a key that comes twice and another split.
        """
        if not rows.schema.equals(self._schema) or any(column.null_count for column in rows.columns):
            raise Problem(f"{self.name}: the index rows of samples must have {self._schema.names}, and no empty cells")
        self._claim(rows["key"].to_pylist(), rows["split"].unique().to_pylist())
        self._collect()
        for column in self._offsets:
            number = self._schema.get_field_index(column)
            rows = rows.set_column(number, self._schema[number], pc.add(rows[column], self._position))
        self._write(members)
        self._batches.append(rows)

    def commit(self) -> Shard | None:
        """Put the shard and its index in place and return its manifest entry; None, and no file, without samples."""
        if not self._keys:
            self.abort()
            return None
        self._collect()
        self._write(END)
        self._tar.sync()
        with atomic(self.root, f"index/{self.name}.parquet") as file:
            pq.write_table(pa.Table.from_batches(self._batches).combine_chunks(), file)
        self._tar.commit()
        return Shard(
            name=f"{self.name}.tar",
            split=self._splits.pop(),
            sha256=self._digest.hexdigest(),
            bytes=self._position,
            samples=len(self._keys),
        )

    def abort(self) -> None:
        """Remove what was written; nothing to do after a commit."""
        self._tar.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _write(self, data: bytes | memoryview) -> None:
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            self._digest.update(piece)
            self._tar.file.write(piece)
        self._position += len(data)

    def _claim(self, keys: Sequence[str], splits: Sequence[str]) -> None:
        """Take keys of new samples. Raises Problem where one is taken, or a split is not that of the shard."""
        if taken := (self._keys.intersection(keys) or _twice(keys)):
            raise Problem(f"{self.name}: key {min(taken)} comes twice")
        if len(both := self._splits.union(splits)) > 1:
            raise Problem(f"{self.name}: samples are of {' and '.join(sorted(both))}; a shard has one split")
        self._splits = both
        self._keys.update(keys)

    def _collect(self) -> None:
        """Make a batch of the rows that `add` has left."""
        if self._rows:
            self._batches.append(pa.RecordBatch.from_pylist(self._rows, self._schema))
            self._rows = []


def _twice(keys: Sequence[str]) -> set[str]:
    """Return the keys that come more than once."""
    return {key for key, count in Counter(keys).items() if count > 1}
