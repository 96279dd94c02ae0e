"""`shard_tools.verify.walk`: a shard's members, byte for byte. What it accepts is what we would have written."""

import io
import tarfile

from fuzz.files import told
from shard_tools.errors import Problem
from shard_tools.tar import BLOCK, END, member, padding
from shard_tools.verify import walk

SEEDS = [
    END,
    member("a.json", b"{}") + END,
    member("a-0.jpg", bytes(700)) + member("a-0.json", b'{"a":1}') + member("a-0.note.txt", b"") + END,
    member("a.b", b"x" * 512) + member("folder/b_1.npy", b"y") + END,
]


def check(data: bytes) -> None:
    """Walk the bytes as they are, and with the check sums of their headers put right."""
    _check(data)
    _check(summed(data))


def _check(data: bytes) -> None:
    try:
        members = list(walk(memoryview(data)))
    except Problem as problem:
        told(problem)
        return
    again = b"".join(member(name, data[offset : offset + size]) for name, offset, size in members) + END
    assert again == data, "accepted, but not what the writer makes of the same members"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [(info.name, info.offset_data, info.size) for info in tar] == [*members], "tarfile sees other members"


def summed(data: bytes) -> bytes:
    """Return the bytes with the check sum of each header that a walk would reach."""
    tar, position = bytearray(data), 0
    while position + BLOCK <= len(tar) and any(block := tar[position : position + BLOCK]):
        block[148:156] = b" " * 8
        tar[position + 148 : position + 156] = b"%06o\0 " % sum(block)
        try:
            size = int(block[124:135], 8)
        except ValueError:
            break
        position += BLOCK + max(size, 0) + padding(size)
    return bytes(tar)
