"""Write one shard: samples in, a committed tar file with its index out, or nothing at all."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import Problem
from .schema import Shard, index_schema
from .storage import AtomicFile, atomic
from .tar import END, PART, sample_members


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
        self._columns = set(self._schema.names)
        self._rows: list[dict[str, Any]] = []
        self._keys: set[str] = set()
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
        if set(row) != self._fields or row["key"] != key:
            raise Problem(f"{self.name}: sample {key}: its index row must have {sorted(self._fields)} and this key")
        pieces, places = sample_members(key, parts)
        self.append(b"".join(pieces), {**row, **places})

    def append(self, members: bytes | memoryview, row: Mapping[str, Any]) -> None:
        """Append a sample whose members `tar.sample_members` made, somewhere else perhaps.

        members: its pieces joined. row: as `add` has it, and the places of the parts. What stands in the members is not
        looked at again. Raises Problem for a row without some field, a key that comes twice and another split.
        """
        if row.keys() != self._columns:
            raise Problem(f"{self.name}: a sample's index row must have {sorted(self._columns)}")
        key = row["key"]
        if key in self._keys:
            raise Problem(f"{self.name}: key {key} comes twice")
        if self._rows and row["split"] != self._rows[0]["split"]:
            raise Problem(f"{self.name}: sample {key} is of {row['split']}; a shard has one split")
        start = self._position
        self._write(members)
        self._keys.add(key)
        self._rows.append({**row, **{place: row[place] + start for place in self._offsets}})

    def commit(self) -> Shard | None:
        """Put the shard and its index in place and return its manifest entry; None, and no file, without samples."""
        if not self._rows:
            self.abort()
            return None
        self._write(END)
        self._tar.sync()
        with atomic(self.root, f"index/{self.name}.parquet") as file:
            pq.write_table(pa.Table.from_pylist(self._rows, self._schema), file)
        self._tar.commit()
        return Shard(
            name=f"{self.name}.tar",
            split=self._rows[0]["split"],
            sha256=self._digest.hexdigest(),
            bytes=self._position,
            samples=len(self._rows),
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
        self._tar.file.write(data)
        self._digest.update(data)
        self._position += len(data)
