"""Ground of a sweep: which voxels lie on the road, the pavement or the grass.

A ground surface is laid through the lowest returns of a grid of cells: first one plane, fitted again and again to the
cells near it (Zermas et al., "Fast Segmentation of 3D Point Clouds", ICRA 2017), then the neighbourhood's own height
where that is close enough to the plane for a slope or a kerb. No chance is involved: equal sweeps give equal flags.
"""

import numpy as np

from shard_tools.schema import Layer

CELL = 2.0  # metres, of the grid
HALF = 50  # cells from the sensor to the grid's edge
FIT_RANGE = 40.0  # metres; the plane is fitted to nearer cells
TOLERANCE = 0.25  # metres about the surface that still count as ground

SPEC = Layer(
    kind="flag",
    cell=[1],
    dtype="uint8",
    algorithm="plane fitted to the lowest returns of 2 m cells (Zermas et al. 2017), then the median height of 5×5 "
    "cells near it; 1 where a return of the voxel lies within 0.25 m of that surface",
)


def ground(points: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Flag the voxels that hold a return from the ground.

    points: float [M, 3] in metres, z up, in the order of the voxels; count: [V], returns in each voxel.
    Returns uint8 [V], 1 for ground.
    """
    x, y, z = np.ascontiguousarray(points.T, np.float64)
    column, row = (np.floor(axis / CELL).astype(np.int64) + HALF for axis in (x, y))
    inside = (column >= 0) & (column < 2 * HALF) & (row >= 0) & (row < 2 * HALF)
    cell = np.clip(row, 0, 2 * HALF - 1) * (2 * HALF) + np.clip(column, 0, 2 * HALF - 1)

    lowest = np.full((2 * HALF, 2 * HALF), np.inf)
    np.minimum.at(lowest.reshape(-1), cell[inside], z[inside])
    plane = _fit(lowest)
    surface = _surface(lowest - _heights(plane, *_centres())).reshape(-1)

    above = z - _heights(plane, x, y) - surface[cell]
    near = inside & (np.abs(above) < TOLERANCE)
    return np.maximum.reduceat(near, np.cumsum(count, dtype=np.int64) - count).astype(np.uint8)


def _centres() -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the grid's cells, each [rows, columns], in metres."""
    axis = (np.arange(2 * HALF) - HALF + 0.5) * CELL
    x, y = np.meshgrid(axis, axis)
    return x, y


def _heights(plane: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return z of the plane [a, b, c], z = ax + by + c, at x and y."""
    return plane[0] * x + plane[1] * y + plane[2]


def _fit(lowest: np.ndarray) -> np.ndarray:
    """Return the plane [a, b, c] through most of the low cells: least squares over ever fewer outliers."""
    x, y = _centres()
    seen = np.isfinite(lowest) & (np.hypot(x, y) < FIT_RANGE)
    x, y, z = x[seen], y[seen], lowest[seen]
    plane = np.array([0.0, 0.0, np.percentile(z, 25) if len(z) else 0.0])
    for reach in np.geomspace(1.5, TOLERANCE, 12):
        near = np.abs(z - _heights(plane, x, y)) < reach
        if near.sum() < 3:
            break
        design = np.column_stack([x, y, np.ones_like(x)])[near]
        # A pinch of damping keeps the plane level where the cells near it lie on one line.
        plane = np.linalg.solve(design.T @ design + np.diag([1.0, 1.0, 1e-6]), design.T @ z[near])
    return plane


def _surface(residual: np.ndarray) -> np.ndarray:
    """Return the ground's height over the plane: the median of the 5×5 cells about each that may be ground, or 0."""
    distance = np.hypot(*_centres())
    candidate = np.where(np.abs(residual) < 0.3 + 0.02 * distance, residual, np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(candidate, 2, constant_values=np.nan), (5, 5))
    ordered = np.sort(windows.reshape(*residual.shape, 25), axis=2)  # NaN last
    known = np.isfinite(ordered).sum(2)
    median = np.take_along_axis(ordered, np.maximum(known - 1, 0)[..., None] // 2, 2)[..., 0]
    return np.where(known > 0, median, 0.0)
