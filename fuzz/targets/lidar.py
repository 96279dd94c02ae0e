"""`pipelines.modality.lidar`: headers of .pcd and .ply, whole .bin and .npy files. The first byte says which."""

import io

import numpy as np

from fuzz.files import write
from pipelines.modality import Reject, Sample
from pipelines.modality.lidar import Lidar, Options

NAMES = ("a.bin", "a.pcd.bin", "a.npy", "a.pcd", "a.ply")
POINTS = np.random.default_rng(0).uniform(-50, 50, (20, 5)).astype(np.float32)


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


PCD = """# .PCD v0.7 - Point Cloud Data file format
VERSION 0.7
FIELDS x y z intensity
SIZE 4 4 4 4
TYPE F F F F
COUNT 1 1 1 1
WIDTH 3
HEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0
POINTS 3
DATA {}
"""
PLY = (
    "ply\nformat {} 1.0\ncomment x\nelement vertex 3\n"
    + "".join(f"property float {a}\n" for a in "xyz")
    + "end_header\n"
)
SEEDS = [
    b"\0" + POINTS[:, :4].tobytes(),
    b"\1" + POINTS.tobytes(),
    b"\2" + _npy(POINTS[:4, :4]),
    b"\2" + _npy(POINTS[:4, :3].astype(np.float64)),
    *(b"\3" + PCD.format(kind).encode() + bytes(48) for kind in ("binary", "ascii", "binary_compressed")),
    *(b"\4" + PLY.format(kind).encode() + bytes(36) for kind in ("binary_little_endian", "ascii")),
]
LIDAR = Lidar(Options(), layers=[])  # they are no parsers


def check(data: bytes) -> None:
    """Probe, and build what Open3D has no part in: the sample's arrays agree."""
    name = NAMES[(data or b"\0")[0] % len(NAMES)]
    path = write(f"lidar/{name}", data[1:])
    try:
        (piece,) = LIDAR.probe(path)
        assert piece.bytes > 0
        if name.endswith((".pcd", ".ply")):
            return
        (sample,) = LIDAR.build(path, [piece])
    except Reject as reject:
        assert "\n" not in reject.message and reject.error.isalpha()
        return
    assert isinstance(sample, Sample)
    coords, count, points = (np.asarray(sample.parts[part]) for part in ("coords.npy", "count.npy", "points.npy"))
    assert len(coords) == len(count) == sample.shape[0] and count.sum() == len(points) and count.min() > 0
    assert np.array_equal(coords, np.unique(coords, axis=0))
