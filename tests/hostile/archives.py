"""Tars: as inputs of a build, and as shards for a reader.

A file is named NAME.tar; `inside` says what must become of its members when it is an input, by their names in it; '' is
what stands for the damaged rest of it.
"""

import tarfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from hostile import ACCEPTED, LOST, noise
from hostile.image import picture
from hostile.lidar import npy, npy_of
from hostile.table import arrow, lying_offsets

GOOD = picture("PNG")
MEMBERS = {f"a{number}.png": GOOD for number in range(3)}


def member(name: str, data: bytes = b"", *, size: int = -1, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Return a member in GNU's format, whose header may lie about its size."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = (len(data) if size < 0 else size), kind, link
    return info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape") + data + bytes(-len(data) % 512)


def patched(block: bytes, place: int, value: bytes) -> bytes:
    """Return a header with bytes changed and its check sum put right."""
    header = bytearray(block[:512])
    header[place : place + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + block[512:]


def tar(*members: bytes, end: bool = True) -> bytes:
    """Return members as a tar."""
    return b"".join(members) + bytes(1024 if end else 0)


def pax(name: str, data: bytes, **records: str) -> bytes:
    """Return a member with PAX records before it."""
    info = tarfile.TarInfo(name)
    info.size, info.pax_headers = len(data), {name.replace("_", "."): value for name, value in records.items()}
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)


def negative(size: int) -> bytes:
    """Return a negative number as GNU's headers have it."""
    return b"\xff" + (size % (1 << 88)).to_bytes(11, "big")


def files() -> Iterator[tuple[str, bytes, dict[str, tuple[str, ...]]]]:
    """Yield (name, bytes, inside)."""
    ok, no, bad = (ACCEPTED,), ("Unreadable", "Unsupported", "Corrupt"), ("Corrupt",)
    either = (ACCEPTED, LOST, *no, *bad, "TooLarge", "Empty", "UnknownFormat")
    three = [member(name, data) for name, data in MEMBERS.items()]
    accepted = dict.fromkeys(MEMBERS, ok)
    whole = tar(*three)
    yield "traversal", tar(*three, member("../../../etc/x.png", GOOD)), {**accepted, "etc/x.png": ok}
    yield "absolute", tar(*three, member("//etc/x.png", GOOD)), {**accepted, "etc/x.png": ok}
    yield "dots", tar(member("./a/./../b.png", GOOD)), {"a/b.png": ok}
    yield "backslashes", tar(member("b\\..\\c.png", GOOD), *three), accepted | {"b\\..\\c.png": ok}
    yield "symlink", tar(*three, member("b.png", kind=tarfile.SYMTYPE, link="/etc/passwd")), {**accepted, "b.png": no}
    yield "hard link", tar(*three, member("b.png", kind=tarfile.LNKTYPE, link="a0.png")), {**accepted, "b.png": no}
    yield "link out", tar(*three, member("b.png", kind=tarfile.LNKTYPE, link="/etc/passwd")), {**accepted, "b.png": no}
    yield (
        "link and through",
        tar(member("d", kind=tarfile.SYMTYPE, link="/tmp"), member("d/b.png", GOOD)),
        {"d/b.png": ok},
    )
    yield "device", tar(*three, member("b.png", kind=tarfile.CHRTYPE)), {**accepted, "b.png": no}
    yield "block device", tar(*three, member("b.png", kind=tarfile.BLKTYPE)), {**accepted, "b.png": no}
    yield "pipe", tar(*three, member("b.png", kind=tarfile.FIFOTYPE)), {**accepted, "b.png": no}
    yield "folder", tar(*three, member("b.png", kind=tarfile.DIRTYPE)), accepted
    yield "unknown kind", tar(*three, member("b.png", GOOD, kind=b"Z")), {**accepted, "b.png": either}
    yield "sparse", tar(*three, member("b.png", GOOD[:512], kind=tarfile.GNUTYPE_SPARSE)), {**accepted, "b.png": either}
    yield (
        "sparse by pax",
        tar(*three, pax("b.png", GOOD, GNU_sparse_major="1", GNU_sparse_minor="0")),
        {**accepted, "b.png": either, "": bad},
    )
    yield "pax path", tar(pax("harmless.png", GOOD, path="../../etc/x.png")), {"etc/x.png": ok}
    yield "pax size", tar(*three, pax("b.png", GOOD, size="1")), {**accepted, "b.png": either, "": bad}
    yield "pax size beyond", tar(*three, pax("b.png", GOOD, size="99999999999")), {**accepted, "b.png": either, "": bad}
    yield "pax negative", tar(*three, pax("b.png", GOOD, size="-1024")), {**accepted, "b.png": either, "": bad}
    yield "pax of noise", tar(*three, member("p", noise(600), kind=tarfile.XHDTYPE), *three[:0]), {**accepted, "": bad}
    yield "pax of 8 GB", tar(*three, member("p", size=8 << 30, kind=tarfile.XHDTYPE)), {**accepted, "": bad}
    yield (
        "long name of 8 GB",
        tar(*three, member("././@LongLink", size=8 << 30, kind=tarfile.GNUTYPE_LONGNAME)),
        {**accepted, "": bad},
    )
    chain = member("././@LongLink", b"name\0", kind=tarfile.GNUTYPE_LONGNAME) * 3000
    yield (
        "3000 long names",
        tar(*three, chain, member("b.png", GOOD)),
        {**accepted, "": bad, "b.png": either, "name": either},
    )
    yield "negative", tar(*three, patched(member("b.png"), 124, negative(-512))), {**accepted, "b.png": either, "": bad}
    yield (
        "backwards",
        tar(*three, patched(member("b.png"), 124, negative(-2048))),
        {**accepted, "b.png": either, "": bad},
    )
    yield "8 GB", tar(*three, member("b.png", GOOD, size=8 << 30)), {**accepted, "b.png": either, "": bad}
    yield (
        "letters for a size",
        tar(*three, patched(member("b.png"), 124, b"abcdefghijk\0")),
        {**accepted, "": bad, "b.png": either},
    )
    yield (
        "wrong sum",
        tar(*three[:2], three[2][:148] + b"0000000\0" + three[2][156:]),
        {**dict(list(accepted.items())[:2]), "": bad},
    )
    yield "cut in data", whole[: 512 + len(three[0]) + 100], {"a0.png": ok, "a1.png": bad, "": bad}
    yield "cut in a header", whole[: len(three[0]) + 100], {"a0.png": ok, "": bad}
    yield "no end", tar(*three, end=False), {**accepted, "": bad}
    yield "noise behind", whole + noise(2000), accepted
    yield "zeros in the middle", tar(three[0]) + tar(*three[1:]), {"a0.png": ok}
    yield "noise", noise(5000), {"": bad}
    yield "nothing", b"", {"": (*bad, "Empty")}
    yield "nested", tar(*three, member("b.tar", whole)), accepted
    yield "not UTF-8", tar(*three, member("\udcff\udcfe.png", GOOD)), {**accepted, "\\xff\\xfe.png": ok}
    yield "newline", tar(*three, member("b\nc.png", GOOD)), {**accepted, "b\\x0ac.png": ok}
    yield "NUL", tar(*three, patched(member("b.png", GOOD), 0, b"b\0../x.png")), {**accepted, "b": either}
    yield "deep", tar(*three, member("d/" * 2000 + "b.png", GOOD)), {**accepted, "d/" * 2000 + "b.png": ok}
    yield "no stem", tar(*three, member(".png", GOOD)), accepted
    yield "empty name", tar(*three, patched(member("b", GOOD), 0, bytes(100))), accepted
    yield (
        "sidecars",
        tar(
            member("b.png", GOOD),
            member("b.json", b"[" * 100_000),
            member("b.cls", b"\xff\xfe" * 99),
            member("b.txt", b"\0" * 999),
        ),
        {"b.png": ok},
    )
    yield "sidecar of 2 GB", tar(member("c.png", GOOD), member("c.json", size=2 << 30)), {"c.png": ok, "": bad}
    yield (
        "empty members",
        tar(*(member(f"e{number}.png") for number in range(50))),
        {f"e{number}.png": ("Empty",) for number in range(50)},
    )


def parts() -> Iterator[tuple[str, bytes]]:
    """Yield (part, bytes) that no reader of shards may take for a value, or be harmed by."""
    yield "a.npy", npy(np.array([{}], object))
    yield "a.npy", npy_of("{'descr': '|O', 'fortran_order': False, 'shape': (9,), }")
    yield "a.npy", npy_of("{'descr': '|V0', 'fortran_order': False, 'shape': (1099511627776,), }")
    yield "a.npy", npy_of("{'descr': '(0,)i4', 'fortran_order': False, 'shape': (1099511627776,), }")
    yield "a.npy", npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }")
    yield "a.npy", npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }")
    yield "a.npy", npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1), }", bytes(4))
    yield "a.npy", npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4611686018427387904), }")
    yield "a.npy", npy_of("__import__('os').system('touch owned')")
    yield "a.npy", npy_of("(" * 9000)
    yield "a.npy", npy_of(" " * 60_000)
    yield "a.npy", npy(np.zeros(9))[:-1]
    yield "a.npy", npy(np.zeros(9)) + b"x"
    yield "a.npy", b"PK\3\4" + noise(100)
    yield "a.npy", b"\x80\4cos\nsystem\n."
    yield "json", b"[" * 100_000
    yield "json", b'{"a":' * 100_000
    yield "json", b"9" * 5000
    yield "json", b"\xff\xfe"
    yield "cls", b"9" * 5000
    yield "cls", b"1.5"
    yield "note.txt", b"\xff"
    yield "arrow", arrow(pa.table({"a": np.zeros(1_000_000)}), stream=True, compression="zstd")
    yield "arrow", arrow(pa.table({"a": np.zeros(1_000_000)}), stream=True, compression="lz4")
    yield "arrow", arrow(pa.table({"a": pa.nulls(10_000_000)}), stream=True)
    yield "arrow", lying_offsets()
    yield "arrow", arrow(stream=True)[:-500]
    yield "arrow", noise(500)
