"""Parquet and Arrow tables, from probe to samples. The first byte says which."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from fuzz.files import write
from fuzz.tables import check_table

NAMES = ("a.parquet", "a.arrow", "a.arrows")
TABLE = pa.table(
    {
        "n": [1, None, 3],
        "f": [0.5, float("nan"), 1e300],
        "s": ["x", "ÿ", None],
        "t": pa.array([1, None, 2], pa.timestamp("ms", "UTC")),
        "d": pa.array(["u", "u", "v"]).dictionary_encode(),
        "l": [[1, 2], [], None],
    }
)


def _ipc(new: object) -> bytes:
    file = io.BytesIO()
    with new(file, TABLE.schema) as writer:  # type: ignore[operator]
        writer.write_table(TABLE)
    return file.getvalue()


def _parquet(**options: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(TABLE, file, **options)
    return file.getvalue()


SHARE = 0.1
SEEDS = [
    b"\0" + _parquet(compression="none", use_dictionary=False, store_schema=False, write_statistics=False),
    b"\0" + _parquet(),
    b"\1" + _ipc(pa.ipc.new_file),
    b"\2" + _ipc(pa.ipc.new_stream),
]


def check(data: bytes) -> None:
    """Probe and build."""
    check_table(write(f"columnar/{NAMES[(data or b'0')[0] % len(NAMES)]}", data[1:]))
