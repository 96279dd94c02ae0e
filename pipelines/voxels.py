"""Base voxels of LiDAR sweeps: returns put in their order, and read back."""

import numpy as np
from numba import njit

from pipelines.compiled import compiled

STEP = 0.01  # metres; a stored coordinate counts steps and decodes to the middle of its step
ZERO = 1 << 15  # the stored coordinate of the step that begins at 0 m
STEPS = (10, 10, 20)  # of a base voxel's sides
SCALE = (STEP, STEP, STEP, 1 / 65535)  # stored * SCALE + OFFSET is what a return has: metres, and intensity 0..1
OFFSET = (*((0.5 - ZERO) * STEP,) * 3, 0.0)
BRIGHTEST = np.float32(65535)  # the stored intensity 1
VOXEL_ZERO = 1 << 12  # more than a voxel's coordinate can be below zero
VOXEL_SPAN = 1 << 13
MAX_COUNT = 65535  # returns in a voxel


def voxels(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put returns into base voxels.

    points: float32 [N, 4]: x, y, z in metres within ±327.68, intensity 0..1.
    Returns (points uint16 [M, 4] in the order of the voxels and, inside one, of the source; coords int16 [V, 3], sorted
    by (x, y, z); count uint16 [V]). M is N but for returns beyond 65535 in one voxel, which are left out.
    """
    stored, coords, count = _voxels(np.ascontiguousarray(points, np.float32))
    return stored, coords.copy(), count.copy()  # not the much longer arrays that they begin


def decode(stored: np.ndarray) -> np.ndarray:
    """Return points as they are stored, uint16 [M, 4], as float32 [M, 4]: x, y, z in metres, intensity 0..1."""
    return _decode(np.ascontiguousarray(stored))


@compiled("float32[:, ::1](uint16[:, ::1])")
def _decode(stored: np.ndarray) -> np.ndarray:
    points = np.empty(stored.shape, np.float32)
    for row in range(len(stored)):
        for column in range(4):
            points[row, column] = stored[row, column] * SCALE[column] + OFFSET[column]
    return points


@njit
def _quantised(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what is stored of each return, uint16 [N, 4], and its voxel's x, y, z + VOXEL_ZERO, uint16 [3, N]."""
    stored = np.empty(points.shape, np.uint16)
    voxel = np.empty((3, len(points)), np.uint16)
    for row in range(len(points)):
        for axis in range(3):
            step = int(np.floor(np.float64(points[row, axis]) / STEP))
            stored[row, axis] = step + ZERO
            voxel[axis, row] = step // STEPS[axis] + VOXEL_ZERO
        stored[row, 3] = int(np.rint(points[row, 3] * BRIGHTEST))
    return stored, voxel


@njit
def _sorted(order: np.ndarray, coordinate: np.ndarray) -> np.ndarray:
    """Return an order of rows, uint32 [N], sorted by their coordinates: a counting sort, which is stable."""
    ends = np.zeros(VOXEL_SPAN, np.uint32)
    for value in coordinate:
        ends[value] += 1
    places = np.cumsum(ends) - ends
    ordered = np.empty_like(order)
    for row in order:
        value = coordinate[row]
        ordered[places[value]] = row
        places[value] += 1
    return ordered


@compiled("Tuple((uint16[:, ::1], int16[:, ::1], uint16[::1]))(float32[:, ::1])")
def _voxels(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    stored, voxel = _quantised(points)
    order = np.arange(len(points)).astype(np.uint32)
    for axis in (2, 1, 0):
        order = _sorted(order, voxel[axis])
    kept, coords = np.empty_like(stored), np.empty((len(points), 3), np.int16)
    count = np.zeros(len(points), np.uint16)
    returns, found, before = 0, 0, np.uint32(0)
    x, y, z = voxel[0], voxel[1], voxel[2]
    for row in order:
        if found == 0 or x[row] != x[before] or y[row] != y[before] or z[row] != z[before]:
            for axis in range(3):
                coords[found, axis] = np.int64(voxel[axis, row]) - VOXEL_ZERO
            found += 1
        before = row
        if count[found - 1] < MAX_COUNT:
            count[found - 1] += 1
            for column in range(4):
                kept[returns, column] = stored[row, column]
            returns += 1
    return kept[:returns], coords[:found], count[:found]
