"""`pipelines.inputs.tars.read_members`: tars of others as inputs. The second time with the check sums put right."""

import io
import tarfile

from fuzz.targets.tar import summed
from pipelines.inputs.columns import decode, encode, type_of
from pipelines.inputs.tars import Member, read_members

SUFFIXES = frozenset({".jpg", ".npy"})
FILES = {
    "a/1.jpg": b"picture",
    "a/1.json": b'{"caption": "x", "width": 3, "nested": [1], "f": 1e999}',
    "a/1.txt": "gr\xfc\xdf".encode("latin-1"),
    "a/1.cls": b"7",
    "../../etc/x.jpg": b"",
}


def _seed(format_: int, link: bytes = tarfile.SYMTYPE) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format_) as tar:
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("b/link.jpg")
        info.type, info.linkname = link, "/etc/passwd"
        tar.addfile(info)
        if format_ != tarfile.USTAR_FORMAT:
            info = tarfile.TarInfo("long/" * 40 + "ü.jpg")
            info.pax_headers = {"comment": "x", "size": "0"}
            tar.addfile(info)
    return file.getvalue()[:9216]


def _negative(tar: bytes) -> bytes:
    """Return a tar whose first member says that it has a negative size, in GNU's binary form."""
    return summed(tar[:124] + (-512).to_bytes(12, "big", signed=True) + tar[136:])


SEEDS = [_seed(tarfile.USTAR_FORMAT), _seed(tarfile.GNU_FORMAT, tarfile.LNKTYPE), _seed(tarfile.PAX_FORMAT)]
SEEDS.append(_negative(SEEDS[1]))


def check(data: bytes) -> None:
    """Read to the end; members lie inside the file, and their names lead nowhere else."""
    for tar in (data, summed(data)):
        members = list(read_members(io.BytesIO(tar), SUFFIXES))
        for number, member in enumerate(members):
            assert member.name or number == len(members) - 1, "read on behind the damage"
            _check(member)


def _check(member: Member) -> None:
    assert member.size >= -1 and member.offset >= 0
    assert not {"", ".", ".."} & set(member.name.split("/")) or not member.name, f"leads elsewhere: {member.name!r}"
    types = {name: kind for name, value in member.facts.items() if (kind := type_of(value))}
    row = decode(encode(member.facts, types))
    assert row.keys() == types.keys()
    encode(row, types).encode()
