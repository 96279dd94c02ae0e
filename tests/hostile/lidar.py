"""LiDAR sweeps."""

import io
import pickle
from collections.abc import Iterator

import numpy as np

from hostile import ACCEPTED, Hostile, common, hostile, noise, sparse

POINTS = np.random.default_rng(0).uniform(-40, 40, (600, 4)).astype(np.float32)
POINTS[:, 3] = np.abs(POINTS[:, 3]) / 40
HUGE = (2**31 - 1, 2**40, 10**18)


def npy(array: np.ndarray) -> bytes:
    """Return a good .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_of(header: str, data: bytes = b"") -> bytes:
    """Return a .npy file with any header."""
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + data


def pcd(points: int | str, data: bytes, kind: str = "binary", **lines: str) -> bytes:
    """Return a PCD file whose header says what it is told to."""
    head = {
        "VERSION": "0.7", "FIELDS": "x y z intensity", "SIZE": "4 4 4 4", "TYPE": "F F F F", "COUNT": "1 1 1 1",
        "WIDTH": str(points), "HEIGHT": "1", "VIEWPOINT": "0 0 0 1 0 0 0", "POINTS": str(points), "DATA": kind,
    } | lines  # fmt: skip
    return b"# .PCD v0.7\n" + "".join(f"{name} {value}\n" for name, value in head.items()).encode() + data


def ply(points: int | str, data: bytes, kind: str = "binary_little_endian", more: str = "") -> bytes:
    """Return a PLY file whose header says what it is told to."""
    fields = "".join(f"property float {name}\n" for name in ("x", "y", "z", "intensity"))
    return f"ply\nformat {kind} 1.0\nelement vertex {points}\n{fields}{more}end_header\n".encode() + data


class Exploit:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


def _with(*values: float, share: float = 1.0) -> bytes:
    points = POINTS.copy()
    points[: int(len(points) * share)] = values
    return points.tobytes()


def files() -> Iterator[Hostile]:
    """Yield the files."""
    raw, some, nan, inf = POINTS.tobytes(), (ACCEPTED, "Corrupt"), float("nan"), float("inf")
    yield from common(".bin", raw, cuts={0.0005: ("Corrupt", "WrongModality"), 0.5: (ACCEPTED,), 0.999: ("Corrupt",)})
    yield from common(".npy", npy(POINTS), cuts={0.001: ("Corrupt",), 0.01: ("Corrupt",), 0.9: ("Corrupt",)})
    yield from common(
        ".pcd", pcd(600, raw), cuts={0.001: ("UnknownFormat", "Corrupt"), 0.01: ("Corrupt",), 0.9: ("Corrupt",)}
    )
    yield from common(".ply", ply(600, raw), cuts={0.001: ("UnknownFormat", "Corrupt"), 0.005: ("Corrupt",), 0.9: some})
    yield hostile("noise.bin", noise(16_000), "WrongModality")
    yield hostile("zeros.bin", bytes(16_000), "Empty")
    yield hostile("zeros.npy", npy(np.zeros((100, 4), np.float32)), "Empty")
    yield hostile("text.bin", b"1.0 2.0 3.0 0.5\n" * 100, "WrongModality")
    yield hostile("picture.bin", b"\x89PNG\r\n\x1a\n" + noise(8), "WrongModality")
    yield hostile("picture.pcd", b"\x89PNG\r\n\x1a\n" + noise(8), "WrongModality")
    yield hostile("not numbers.bin", _with(nan, nan, nan, nan), "Empty")
    yield hostile("half not numbers.bin", _with(nan, nan, nan, nan, share=0.5))
    yield hostile("infinite.bin", _with(inf, -inf, inf, 0), "Empty")
    yield hostile("half infinite.bin", _with(inf, 1, 1, 0, share=0.5))
    yield hostile("infinitely bright.bin", _with(5, 5, 1, inf, share=0.5))
    yield hostile("negatively bright.bin", _with(5, 5, 1, -1e30, share=0.5))
    yield hostile("bright as not a number.npy", npy(np.float32([[5, 5, 1, nan], [5, 5, 1, 0.5]])))
    yield hostile("far away.bin", _with(3e38, 3e38, 3e38, 0), "Empty", "WrongModality")
    yield hostile("denormal.bin", _with(1e-44, 1e-44, 1e-44, 0), "Empty", "WrongModality")
    yield hostile("one place.bin", _with(5, 5, 1, 0.5))
    yield hostile(
        "at the edge.npy", npy(np.float32([[327.68, 1, 1, 0], [327.6799, 1, 1, 0], [-327.68, -327.68, 1, 0]]))
    )
    yield hostile("half floats.npy", npy(POINTS.astype(np.float16)))
    yield hostile("long floats.npy", npy(POINTS.astype(np.longdouble)))
    yield hostile("big-endian.npy", npy(POINTS.astype(">f8")))
    yield hostile("columns first.npy", npy(np.asfortranarray(POINTS)))
    yield hostile("pickled.npy", npy(np.array([Exploit()], object)), "Corrupt")
    yield hostile("a pickle.npy", pickle.dumps(Exploit()), "Corrupt")
    yield hostile("a pickle.bin", pickle.dumps(Exploit()).ljust(64, b"."), "WrongModality", "Corrupt")
    yield hostile(
        "objects of no bytes.npy", npy_of("{'descr': '|O', 'fortran_order': False, 'shape': (9, 4), }"), "Corrupt"
    )
    yield hostile(
        "a key of bytes.npy", npy_of("{'descr': '<f4', 'fortran_order': False, b'shape': (2, 3)}", bytes(24)), "Corrupt"
    )
    yield hostile("strings.npy", npy(np.full((9, 4), "a")), "WrongModality")
    yield hostile("integers.npy", npy(np.ones((9, 4), np.int64)), "WrongModality")
    yield hostile("complex.npy", npy(np.ones((9, 4), np.complex64)), "WrongModality")
    yield hostile("flat.npy", npy(POINTS.ravel()), "WrongModality")
    yield hostile("no axes.npy", npy(np.float32(1)), "WrongModality", "Corrupt")
    yield hostile("two columns.npy", npy(POINTS[:, :2]), "WrongModality")
    yield hostile("no rows.npy", npy(POINTS[:0]), "Empty", "Corrupt")
    yield hostile("records.npy", npy(np.zeros(9, "f4,f4,f4")), "WrongModality")
    yield hostile("times.npy", npy(np.zeros((9, 4), "M8[s]")), "WrongModality")
    for number, count in enumerate(HUGE):
        head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, 4), }}"
        yield hostile(f"huge {number}.npy", npy_of(head, raw), "Corrupt")
        yield hostile(f"huge {number}.pcd", pcd(count, raw), "Corrupt")
        yield hostile(f"huge and packed {number}.pcd", pcd(count, raw, "binary_compressed"), "Corrupt", "TooLarge")
        yield hostile(f"huge {number}.ply", ply(count, raw), "Corrupt")
        yield hostile(f"huge in letters {number}.ply", ply(count, raw, "ascii"), "Corrupt")
    yield hostile(
        "of no bytes.npy",
        npy_of("{'descr': '|V0', 'fortran_order': False, 'shape': (1099511627776, 4), }"),
        "WrongModality",
        "Corrupt",
    )
    yield hostile(
        "negative.npy",
        npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, -4), }", bytes(64)),
        "Corrupt",
        "WrongModality",
    )
    yield hostile("code.npy", npy_of("__import__('os').system('touch owned')"), "Corrupt")
    yield hostile("brackets.npy", npy_of("(" * 5000), "Corrupt")
    yield hostile("unclosed.npy", npy_of("{'descr': '<f4',"), "Corrupt")
    yield hostile("long header.npy", npy_of(" " * 60_000), "Corrupt")
    yield hostile("negative.pcd", pcd(-5, raw), "Corrupt")
    yield hostile("negative.ply", ply(-5, raw), "Corrupt")
    yield hostile("no number.pcd", pcd("many", raw), "Corrupt")
    yield hostile("no number.ply", ply("many", raw), "Corrupt")
    yield hostile("digits.ply", ply("9" * 5000, raw), "Corrupt")
    yield hostile("no points.pcd", pcd(0, b""), "Empty")
    yield hostile("no points.ply", ply(0, b""), "Empty")
    yield hostile("no height.pcd", pcd(600, raw, FIELDS="x y intensity a"), "WrongModality")
    yield hostile("no sizes.pcd", pcd(600, raw, SIZE="0 0 0 0"), *some)
    yield hostile("negative sizes.pcd", pcd(600, raw, SIZE="-4 -4 -4 -4"), *some)
    yield hostile("lying sizes.pcd", pcd(600, raw, SIZE="1 1 1 1"), *some)
    yield hostile("many counts.pcd", pcd(600, raw, COUNT="1 1 1 1000000000"), "Corrupt")
    yield hostile("lying width.pcd", pcd(600, raw, WIDTH="4000000000"), *some)
    yield hostile("other encoding.pcd", pcd(600, raw, "rot13"), "Corrupt", "Unsupported")
    yield hostile("packed noise.pcd", pcd(600, noise(4000), "binary_compressed"), "Corrupt", "TooLarge")
    yield hostile(
        "packed lies.pcd",
        pcd(600, b"\xff\xff\xff\x7f\xff\xff\xff\x7f" + raw, "binary_compressed"),
        "Corrupt",
        "TooLarge",
    )
    yield hostile("letters.pcd", pcd(3, b"a b c d\n" * 3, "ascii"), *some, "Empty")
    yield hostile("not numbers.pcd", pcd(3, b"nan nan nan nan\n" * 3, "ascii"), "Empty")
    yield hostile("few numbers.pcd", pcd(3, b"5 5\n", "ascii"), *some, "Empty")
    yield hostile(
        "mesh.ply", ply(600, raw, more="element face 5\nproperty list uchar int vertex_index\n"), "WrongModality"
    )
    yield hostile("lists.ply", ply(600, b"\xff" * 2000, more="property list uchar double l\n"), *some, "Empty")
    yield hostile("no end.ply", ply(600, raw).replace(b"end_header", b"and_header"), "Corrupt")
    yield hostile("16 GB.bin", sparse(16 << 30, raw), "TooLarge")
    yield hostile("a pcd.ply", pcd(600, raw), "Unsupported")
    yield hostile("a ply.bin", ply(600, raw), "Unsupported", "Corrupt", "WrongModality")
    yield hostile("a npy.bin", npy(POINTS), "WrongModality", "Corrupt", ACCEPTED)
    yield hostile("a sweep.xyz", b"1 2 3\n", "UnknownFormat")
