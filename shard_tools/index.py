"""Read the index of a data set: a row a sample, in the order of the manifest's shards."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import Problem
from .schema import Manifest, Shard, index_schema
from .storage import Storage


def index_name(shard: Shard) -> str:
    """Return the path of a shard's index below the data set's root."""
    return f"index/{shard.name.removesuffix('.tar')}.parquet"


def read_parquet(storage: Storage, name: str) -> pa.Table:
    """Return a Parquet file of a data set. Raises Problem when it is missing or not readable."""
    try:
        data = storage.view(name)
    except FileNotFoundError as error:
        raise Problem(f"{storage.url(name)}: missing") from error
    except OSError as error:
        raise Problem(f"not readable: {error}") from error
    try:  # One thread a file: pyarrow 26's threads abort the process at its exit now and then.
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        table.validate(full=True)  # texts that are not Unicode would fail where they are used
        return table
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: names that are not Unicode
        raise Problem(f"{storage.url(name)}: not readable: {' '.join(str(error).split())}") from error


def read_shard_index(storage: Storage, manifest: Manifest, shard: Shard) -> pa.Table:
    """Return the index of one shard as `schema.index_schema` has it. Raises Problem when it is missing or wrong."""
    name = index_name(shard)
    table = read_parquet(storage, name)
    if not table.schema.equals(index_schema(list(manifest.parts), manifest.columns)):
        raise Problem(f"{storage.url(name)}: its columns are not those of the manifest's parts")
    if table.num_rows != shard.samples:
        raise Problem(f"{storage.url(name)}: {table.num_rows} rows, the manifest says {shard.samples}")
    if wrong := [column for column in table.column_names if table[column].null_count]:
        raise Problem(f"{storage.url(name)}: empty cells in the column {wrong[0]}")
    return table


def read_index(storage: Storage, manifest: Manifest, shards: Sequence[Shard]) -> pa.Table:
    """Return the index of some shards as one table, a chunk a column. Raises Problem, see `read_shard_index`."""
    schema = index_schema(list(manifest.parts), manifest.columns)
    with ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(lambda shard: read_shard_index(storage, manifest, shard), shards))
    return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()
