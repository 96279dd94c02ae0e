"""Means over the cells of a lattice."""

import numpy as np
from numba import int64, types, uint8

from pipelines.compiled import compiled


def cell_means(values: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """Return the mean of each cell of float32 [h, w], float32 [ceil(h / cell), …]; the last cell may be smaller."""
    return _cell_means(np.require(values, requirements=("C", "W")), *cell)


@compiled("float32[:, ::1](float32[:, ::1], int64, int64)")
def _cell_means(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    height, width = values.shape
    column = np.empty(width)
    means = np.empty((-(-height // rows), -(-width // columns)), np.float32)
    for i in range(means.shape[0]):
        top, bottom = i * rows, min(i * rows + rows, height)
        column[:] = 0.0
        for y in range(top, bottom):
            for x in range(width):
                column[x] += values[y, x]
        for j in range(means.shape[1]):
            left, right = j * columns, min(j * columns + columns, width)
            total = 0.0
            for x in range(left, right):
                total += column[x]
            means[i, j] = total / ((bottom - top) * (right - left))
    return means


def shrink(pixels: np.ndarray, cell: int) -> np.ndarray:
    """Return a picture, uint8 [H, W, c], at a pixel a cell: the mean of cell × cell pixels, uint8 [h, w, c].

    h, w = ceil(H / cell), ceil(W / cell); the last cell of an axis may be smaller. cell: at most 256.
    """
    height, width, channels = pixels.shape
    return _shrink(np.ascontiguousarray(pixels).reshape(height, width * channels), width, channels, cell)


def shrink_plane(lines: np.ndarray, width: int, cell: int) -> np.ndarray:
    """Return a plane, the first `width` of uint8 [H, L], at a pixel a cell, uint8 [h, w], see `shrink`."""
    return _shrink(lines, width, 1, cell)[..., 0]


@compiled(uint8[:, :, ::1](types.Array(uint8, 2, "C", readonly=True), int64, int64, int64))
def _shrink(lines: np.ndarray, width: int, channels: int, cell: int) -> np.ndarray:
    """Return the means of cells, uint8 [h, w, channels]. Lines may be longer than a row of pixels."""
    height = len(lines)
    column = np.empty(width * channels, np.uint16)
    means = np.empty((-(-height // cell), -(-width // cell), channels), np.uint8)
    for i in range(means.shape[0]):
        top, bottom = i * cell, min(i * cell + cell, height)
        column[:] = 0
        for y in range(top, bottom):
            line = lines[y]
            for x in range(np.uint32(len(column))):
                column[x] += np.uint16(line[x])
        for j in range(means.shape[1]):
            left, right = j * cell, min(j * cell + cell, width)
            area = np.float64((bottom - top) * (right - left))  # whole numbers are exact, and quicker to divide
            for c in range(channels):
                total = np.uint32(0)
                for x in range(np.uint32(left * channels + c), np.uint32(right * channels), np.uint32(channels)):
                    total += column[x]
                means[i, j, c] = np.uint8((total + area / 2) / area)
    return means


def quantise(values: np.ndarray, scale: float, offset: float = 0.0) -> np.ndarray:
    """Return values as uint8 that stand for stored * scale + offset, clipped to what they can hold."""
    return np.minimum(np.maximum(np.rint((values - offset) / scale), 0), 255).astype(np.uint8)
