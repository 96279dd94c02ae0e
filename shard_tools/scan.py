"""Go through the index of a data set a shard at a time, through its other tables a batch at a time."""

import io
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from .arguments import nearest
from .errors import Misuse, Problem
from .index import read_shard_index
from .schema import Manifest, Shard
from .storage import Blob, Storage

AHEAD = 8  # a far storage takes its time to answer, but answers many at once
BATCH = 65_536  # rows
BUFFER = 1 << 22  # bytes


def scan(storage: Storage, manifest: Manifest, shards: Sequence[Shard]) -> Iterator[tuple[Shard, pa.Table]]:
    """Yield each shard with its index, see `index.read_shard_index`; a few are read ahead."""
    waiting: deque[tuple[Shard, Future[pa.Table]]] = deque()
    todo = iter(shards)
    pool = ThreadPoolExecutor(AHEAD)
    try:
        while True:
            while len(waiting) < AHEAD and (shard := next(todo, None)):
                waiting.append((shard, pool.submit(read_shard_index, storage, manifest, shard)))
            if not waiting:
                return
            shard, table = waiting.popleft()
            yield shard, table.result()
    finally:
        pool.shutdown(cancel_futures=True)


def choose_shards(manifest: Manifest, split: str | None = None, shard: str | None = None) -> list[Shard]:
    """Return the shards of a split, or the one of a name, with or without .tar. Raises Misuse for an unknown name."""
    if split is not None and split not in manifest.splits:
        raise Misuse(f"no split {split!r}{nearest(split, manifest.splits)}; there is {', '.join(manifest.splits)}")
    stems = {one.name.removesuffix(".tar"): one for one in manifest.shards}
    if shard is not None and shard.removesuffix(".tar") not in stems:
        raise Misuse(f"no shard {shard!r}{nearest(shard.removesuffix('.tar'), stems)}")
    return [one for stem, one in stems.items() if split in (None, one.split) and shard in (None, stem, one.name)]


def scan_parquet(storage: Storage, name: str, schema: pa.Schema, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield some columns of a Parquet file of a data set, a batch of its rows at a time.

    Raises Problem when it is missing, not readable, of another schema, or has empty cells.
    """
    try:
        source = storage.path(name) if storage.local else io.BufferedReader(_File(storage.blob(name)), BUFFER)
        with pq.ParquetFile(source) as file:
            if not file.schema_arrow.equals(schema):
                raise Problem(f"{storage.url(name)}: its columns are not those of this version of the format")
            for batch in file.iter_batches(BATCH, columns=list(columns), use_threads=False):
                batch.validate(full=True)
                if any(column.null_count for column in batch.columns):
                    raise Problem(f"{storage.url(name)}: empty cells")
                yield pa.Table.from_batches([batch]).select(list(columns))
    except FileNotFoundError as error:
        raise Problem(f"{storage.url(name)}: missing") from error
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: names that are not Unicode
        raise Problem(f"{storage.url(name)}: not readable: {' '.join(str(error).split())}") from error


class _File(io.RawIOBase):
    """A blob as a file."""

    def __init__(self, blob: Blob) -> None:
        self._blob, self._position = blob, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._blob)}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._blob[self._position : self._position + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
