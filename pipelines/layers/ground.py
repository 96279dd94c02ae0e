"""Ground of a sweep: which voxels lie on the road, the pavement or the grass.

A ground surface is laid through the lowest returns of a grid of cells: first one plane, fitted again and again to the
cells near it (Zermas et al., "Fast Segmentation of 3D Point Clouds", ICRA 2017), then the neighbourhood's own height
where that is close enough to the plane for a slope or a kerb. No chance is involved: equal sweeps give equal flags.
"""

from typing import Any

import numpy as np
from numba import njit

from pipelines.compiled import compiled
from shard_tools.schema import Layer

CELL = 2.0  # metres, of the grid
HALF = 50  # cells from the sensor to the grid's edge
FIT_RANGE = 40.0  # metres; the plane is fitted to nearer cells
TOLERANCE = 0.25  # metres about the surface that still count as ground
REACHES = np.geomspace(1.5, TOLERANCE, 12)  # metres about the plane of the cells that the next is fitted to
DAMPING = np.diag([1.0, 1.0, 1e-6])  # keeps the plane level where the cells near it lie on one line

SPEC = Layer(
    kind="flag",
    cell=[1],
    dtype="uint8",
    algorithm="plane fitted to the lowest returns of 2 m cells (Zermas et al. 2017), then the median height of 5×5 "
    "cells near it; 1 where a return of the voxel lies within 0.25 m of that surface",
)


AXIS = (np.arange(2 * HALF) - HALF + 0.5) * CELL
X, Y = np.meshgrid(AXIS, AXIS)  # metres; the centres of the grid's cells, [rows, columns]
DISTANCE = np.hypot(X, Y)
REACH = 0.3 + 0.02 * DISTANCE  # metres about the plane where a cell's lowest return may still be ground


def ground(points: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Flag the voxels that hold a return from the ground.

    points: float32 [M, 3] in metres, z up, in the order of the voxels; count: uint16 [V], returns in each voxel, M in
    all. Returns uint8 [V], 1 for ground.
    """
    lowest = _lowest(points)
    plane = _fit(lowest)
    return _flags(points, count, plane, _surface(lowest - _heights(plane, X, Y), REACH))


def _fit(lowest: np.ndarray) -> np.ndarray:
    """Return the plane [a, b, c] through most of the low cells: least squares over ever fewer outliers."""
    seen = np.isfinite(lowest) & (DISTANCE < FIT_RANGE)
    cells = np.column_stack([X[seen], Y[seen], lowest[seen]])
    plane = np.array([0.0, 0.0, np.percentile(cells[:, 2], 25) if len(cells) else 0.0])
    for reach in REACHES:
        matrix, vector = _normal_equations(cells, plane, reach)
        if matrix[2, 2] < 3:
            break
        plane = np.linalg.solve(matrix + DAMPING, vector)
    return plane


@compiled(
    "float64(float64[::1], float64, float64)",
    "float64[:, ::1](float64[::1], float64[:, ::1], float64[:, ::1])",
)
def _heights(plane: np.ndarray, x: Any, y: Any) -> Any:
    """Return z of the plane [a, b, c], z = ax + by + c, at x and y."""
    return plane[0] * x + plane[1] * y + plane[2]


@compiled("Tuple((float64[:, ::1], float64[::1]))(float64[:, ::1], float64[::1], float64)")
def _normal_equations(cells: np.ndarray, plane: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (A [3, 3], b [3]): A @ p = b for the best plane p through the cells [n, 3] no farther than reach from one.

    A[2, 2] is how many they are.
    """
    matrix, vector = np.zeros((3, 3)), np.zeros(3)
    for cell in range(len(cells)):
        x, y, z = cells[cell, 0], cells[cell, 1], cells[cell, 2]
        if abs(z - _heights(plane, x, y)) < reach:
            design = (x, y, 1.0)
            for i in range(3):
                vector[i] += design[i] * z
                for j in range(3):
                    matrix[i, j] += design[i] * design[j]
    return matrix, vector


@njit
def _cell(x: float, y: float) -> tuple[int, int]:
    """Return the row and the column of the cell at x and y, (-1, -1) beyond the grid."""
    row, column = int(np.floor(y / CELL)) + HALF, int(np.floor(x / CELL)) + HALF
    return (row, column) if 0 <= row < 2 * HALF and 0 <= column < 2 * HALF else (-1, -1)


@compiled("float64[:, ::1](float32[:, :])")
def _lowest(points: np.ndarray) -> np.ndarray:
    """Return the lowest z in each cell, infinity where there is no return."""
    lowest = np.full((2 * HALF, 2 * HALF), np.inf)
    for index in range(len(points)):
        row, column = _cell(points[index, 0], points[index, 1])
        if row >= 0:
            lowest[row, column] = min(lowest[row, column], points[index, 2])
    return lowest


@compiled("float64[:, ::1](float64[:, ::1], float64[:, ::1])")
def _surface(residual: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return the ground's height over the plane: the median of the 5×5 cells about each that may be ground, or 0.

    residual: of the lowest returns over the plane; reach: how much of it may be ground; both [rows, columns], metres.
    """
    height, width = residual.shape
    surface = np.zeros((height, width))
    ordered = np.empty(25)
    for row in range(height):
        for column in range(width):
            known = 0
            for y in range(max(row - 2, 0), min(row + 3, height)):
                for x in range(max(column - 2, 0), min(column + 3, width)):
                    if abs(residual[y, x]) < reach[y, x]:
                        place = known
                        while place > 0 and ordered[place - 1] > residual[y, x]:
                            ordered[place] = ordered[place - 1]
                            place -= 1
                        ordered[place] = residual[y, x]
                        known += 1
            if known > 0:
                surface[row, column] = ordered[(known - 1) // 2]
    return surface


@compiled("uint8[::1](float32[:, :], uint16[:], float64[::1], float64[:, ::1])")
def _flags(points: np.ndarray, count: np.ndarray, plane: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Return which voxels hold a return near the surface over the plane."""
    flags = np.zeros(len(count), np.uint8)
    last = 0
    for voxel in range(len(count)):
        first, last = last, last + int(count[voxel])
        for index in range(first, last):
            x, y, z = np.float64(points[index, 0]), np.float64(points[index, 1]), np.float64(points[index, 2])
            row, column = _cell(x, y)
            if row >= 0 and abs(z - _heights(plane, x, y) - surface[row, column]) < TOLERANCE:
                flags[voxel] = 1
    return flags
