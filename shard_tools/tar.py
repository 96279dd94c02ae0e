"""Tar members as format 1 has them: USTAR headers that depend on name and size alone, and what stands in a part.

The rules, and the reader that breaks without each, are in `docs/format.md`.
"""

import functools
import io
import json
import math
import re
import struct
import tarfile
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from .errors import Problem
from .schema import KEY, MEMBER_BYTES

BLOCK = 512
END = bytes(2 * BLOCK)  # readers stop at two empty blocks; padding to 10240 serves tape drives only
MAX_SIZE = 8 << 30
NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")  # webdataset, Ray Data and Hugging Face split by this
PART = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
SIZE, CHECKSUM = slice(124, 135), slice(148, 156)  # of a header's bytes
_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_BLANK = tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT)  # what is the same in every header
_BLANK_SUM = sum(_BLANK) - sum(_BLANK[SIZE]) - sum(_BLANK[CHECKSUM]) + 8 * ord(" ")  # the checksum counts as spaces


def check_key(key: str) -> None:
    """Raise Problem unless `key` is made of a-z, 0-9, _ and - alone."""
    if not KEY.fullmatch(key):
        raise Problem(f"key {key!r}: only a-z, 0-9, _ and - may stand in a key")


def header(name: str, size: int) -> bytes:
    """Return the 512-byte USTAR header of a member: mtime, uid and gid 0, mode 0644, no owner names.

    Raises Problem for a name of more than 100 bytes or not printable ASCII, and for a size beyond USTAR's 8 GiB.
    """
    if not (name.isascii() and name.isprintable()) or len(name) > MEMBER_BYTES:
        raise Problem(f"member {name!r}: a name has at most {MEMBER_BYTES} printable ASCII characters")
    if not 0 <= size < MAX_SIZE:
        raise Problem(f"member {name}: {size} bytes do not fit a USTAR header; at most 8 GiB do")
    block, letters, digits = bytearray(_BLANK), name.encode(), b"%011o" % size
    block[: len(letters)], block[SIZE] = letters, digits
    block[CHECKSUM] = b"%06o\0 " % (_BLANK_SUM + sum(letters) + sum(digits))
    return bytes(block)


def padding(size: int) -> int:
    """Return how many zero bytes follow `size` bytes of data up to the next block."""
    return -size % BLOCK


def member(name: str, data: bytes) -> bytes:
    """Return a whole tar member: header, data, zeros up to the next block. Raises Problem, see `header`."""
    return header(name, len(data)) + data + bytes(padding(len(data)))


def sample_members(
    key: str, parts: Mapping[str, bytes | memoryview], start: int = 0
) -> tuple[list[bytes | memoryview], dict[str, int]]:
    """Return the members of a sample, its parts sorted, and where each part's bytes stand.

    The first are pieces that follow each other in the tar from `start` on, the second PART.offset and PART.size for
    each part. Raises Problem for a wrong key, and see `header`.
    """
    check_key(key)
    pieces: list[bytes | memoryview] = []
    places: dict[str, int] = {}
    for part in sorted(parts):
        size = len(parts[part])
        places[f"{part}.offset"], places[f"{part}.size"] = start + BLOCK, size
        pieces += header(f"{key}.{part}", size), parts[part], bytes(padding(size))
        start += BLOCK + size + padding(size)
    return pieces, places


def split_name(member: str) -> tuple[str, str]:
    """Return (key, part) of a member's name, split at the first dot of its last path component. Raises Problem."""
    if not (match := NAME.match(member)):
        raise Problem(f"member {member!r}: no KEY.PART")
    return match[1], match[2]


def encode_part(name: str, value: bytes | np.ndarray | dict[str, Any]) -> bytes:
    """Return the bytes of a part: bytes as they are, an array as .npy 1.0 in C order, a dict as compact sorted JSON.

    Raises Problem for an array or dict under a wrong part name, an array of objects, and JSON with null, NaN or a
    list of length one.
    """
    if isinstance(value, np.ndarray):
        if not name.endswith(".npy"):
            raise Problem(f"part {name}: an array is stored as .npy")
        return _encode_npy(name, value)
    if isinstance(value, dict):
        if name.split(".")[-1] != "json":
            raise Problem(f"part {name}: a dict is stored as json")
        _check_json(name, value)
        return _JSON.encode(value).encode()
    return bytes(value)


def decode_part(name: str, data: bytes) -> Any:
    """Return what a part says: npy → array, json → dict, cls → int, txt → str, arrow → pyarrow.Table, else bytes.

    An empty part is None. Nothing is unpickled, and no array or table is larger than its data. Raises ValueError for
    bytes that are not what the name says.
    """
    if not data:
        return None
    decode = DECODERS.get(name.split(".")[-1], bytes)
    try:
        return decode(data)
    except Exception as error:  # damaged bytes fail in every way a parser knows
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _encode_npy(name: str, array: np.ndarray) -> bytes:
    if array.dtype.hasobject:
        raise Problem(f"part {name}: an array of Python objects cannot be stored")
    values = np.asarray(array, order="C")
    return b"".join((_npy_start(values.shape, values.dtype), values.reshape(-1).view(np.uint8).data))


@functools.lru_cache(1024)
def _npy_start(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Return what stands before the values. Kept, since it takes longer to make than small values to write."""
    stream = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _decode_npy(data: bytes) -> np.ndarray:
    start = 10 + int.from_bytes(data[8:10], "little")
    shape, order, dtype = _npy_header(data[:start])
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError(f"an array of {dtype} {list(shape)} does not fit its {len(data) - start} bytes")
    return np.ndarray(shape, dtype, data, start, order=order).copy(order)


@functools.lru_cache(1024)
def _npy_header(data: bytes) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype]:
    """Return (shape, order, dtype). Kept, since arrays of a data set share few headers and parsing is what costs."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not a .npy file of version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which could run code")
    if not dtype.itemsize:  # any number of elements fits no bytes, and copying them takes for ever
        raise ValueError(f"an array of {dtype}, whose elements take no bytes")
    return shape, "F" if fortran else "C", dtype


def _decode_arrow(data: bytes) -> pa.Table:
    for message in pa.ipc.MessageReader.open_stream(data):
        if _is_compressed(message.type, message.metadata):
            raise ValueError("a compressed Arrow stream, whose size only unpacking it could tell")
    table = pa.ipc.open_stream(data).read_all()
    if table.num_rows > len(data):  # columns of nulls take no bytes
        raise ValueError(f"{table.num_rows} rows do not fit its {len(data)} bytes")
    table.validate(full=True)
    return table


def _is_compressed(kind: str, message: pa.Buffer) -> bool:
    """Return whether an Arrow message has compressed buffers: pyarrow does not say, so its flatbuffer is looked at.

    Fields by the order of Arrow's Message.fbs: Message.header 2, DictionaryBatch.data 1, RecordBatch.compression 3.
    """
    path = {"record batch": (2, 3), "dictionary": (2, 1, 3)}.get(kind, ())
    (table,) = struct.unpack_from("<I", message)
    for field in path:
        (back,) = struct.unpack_from("<i", message, table)
        vtable = table - back
        (size,) = struct.unpack_from("<H", message, vtable)
        slot = 4 + 2 * field
        place = struct.unpack_from("<H", message, vtable + slot)[0] if slot < size else 0
        if not place:
            return False
        table += place + struct.unpack_from("<I", message, table + place)[0]
    return bool(path)


DECODERS: dict[str, Callable[[bytes], Any]] = {
    "npy": _decode_npy,
    "json": json.loads,
    "cls": int,
    "txt": bytes.decode,
    "arrow": _decode_arrow,
}


def _check_json(where: str, value: Any) -> None:
    if value is None:
        raise Problem(f'{where}: null; write "" or -1')
    if isinstance(value, dict):
        for key, inner in value.items():
            _check_json(f"{where}: {key}", inner)
    elif isinstance(value, list | tuple):
        if len(value) == 1:
            raise Problem(f"{where}: a list of length one, which Ray Data would unwrap")
        for inner in value:
            _check_json(where, inner)
