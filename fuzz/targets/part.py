"""`shard_tools.tar.decode_part`: the parts of a sample, all kinds. The first byte says which."""

import io
import math

import numpy as np
import pyarrow as pa

from shard_tools.errors import Problem
from shard_tools.tar import decode_part, encode_part

NAMES = ("a.npy", "json", "cls", "note.txt", "arrow", "jpg")


def _npy(array: np.ndarray) -> bytes:
    return b"\0" + encode_part("a.npy", array)


def _arrow(**options: str) -> bytes:
    words = pa.array(["x", "x"]).dictionary_encode()
    table = pa.table({"a": [1.0, None], "b": ["x", "ÿ"], "c": pa.array([1, None], pa.timestamp("us")), "d": words})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return b"\4" + sink.getvalue()


SEEDS = [
    _npy(np.arange(6, dtype=np.int16).reshape(2, 3)),
    _npy(np.zeros((0, 4), np.float32)),
    _npy(np.array(1.5)),
    b'\1{"a":1,"b":[1,2],"c":"\\u00ff","d":{"e":-1.5e3}}',
    b"\1[[[[]]]]",
    b"\0023",
    "\3ünïcode".encode(),
    _arrow(),
    _arrow(compression="zstd"),
    b"\5any bytes",
]


def check(data: bytes) -> None:
    """Decode; what comes out is no larger than it may be, and survives being stored again."""
    name, data = NAMES[(data or b"\0")[0] % len(NAMES)], data[1:]
    try:
        value = decode_part(name, data)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    if not data:
        assert value is None
    elif name == "a.npy":
        assert not value.dtype.hasobject
        assert value.nbytes < len(data), "an array larger than its data"
        assert math.prod(value.shape) <= len(data), "more elements than bytes"
        again = decode_part(name, encode_part(name, value))
        assert again.dtype == value.dtype and again.tobytes() == value.tobytes()
    elif name == "json" and isinstance(value, dict):
        try:
            encode_part(name, value)
        except (Problem, ValueError):  # null, NaN: what we read, though we do not write it
            return
    elif name == "arrow":
        assert value.nbytes <= 2 * len(data), "a table larger than its data"
        assert value.num_rows <= len(data), "more rows than bytes"
        str(value)
