"""Raw sweep → returns sorted by voxel of .1 × .1 × .2 m, occupied voxels and their counts, as arrays."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.bare import Bare, Made, npy

VOXEL = np.array([0.1, 0.1, 0.2])


def numpy(path: Path) -> Iterator[Made]:
    columns = 5 if path.name.endswith(".pcd.bin") else 4
    points = np.fromfile(path, np.float32).reshape(-1, columns)[:, :4]
    voxel = np.floor(points[:, :3] / VOXEL).astype(np.int64) + (1 << 15)
    flat = (voxel[:, 0] << 32) | (voxel[:, 1] << 16) | voxel[:, 2]
    _, first, place, count = np.unique(flat, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(place, kind="stable")
    yield (
        1,
        {
            "coords.npy": npy(voxel[first].astype(np.int16)),
            "count.npy": npy(count.astype(np.uint16)),
            "points.npy": npy(points[order].astype(np.float16)),
        },
    )


CANDIDATES: dict[str, Bare] = {"NumPy": numpy}
