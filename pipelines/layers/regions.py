"""Regions of pictures by graph-based segmentation: cells that belong together in colour.

Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004, on the picture reduced to a pixel
a lattice cell: neighbours are joined from the most alike on, unless they differ by more than both sides do inside.
In whole numbers throughout, so that equal pictures give equal bytes on every processor.
"""

import numpy as np
from numba import njit, types, uint8, uint16

from pipelines.compiled import compiled
from shard_tools.schema import Layer

SCALE = 100  # how much two cells may differ: larger regions for larger values
MIN_SIZE = 8  # cells of a region
SIDE, CENTRE = 27, 202  # of 256: a Gaussian of sigma 0.5
UNIT = 8  # differences are counted in eighths of a level of 8 bits
LARGEST = 2 * 255 * UNIT  # difference of two colours: √3 of a channel's, rounded up
NO_EDGE = np.uint32(1 << 31)

SPEC = Layer(
    kind="label",
    cell=[8, 8],
    dtype="uint16",
    algorithm="graph-based segmentation (Felzenszwalb and Huttenlocher 2004) at a pixel a cell, 8 neighbours: "
    f"scale {SCALE}, sigma 0.5, at least {MIN_SIZE} cells a region",
    version=2,
)


def regions(reduced: np.ndarray) -> np.ndarray:
    """Return the region of each cell of a picture reduced to a pixel a lattice cell.

    reduced: uint8 [h, w, 3]. Returns uint16 [h, w], labels 0..n-1 without gaps, in the order of their first cells (the
    last label stands for all beyond).
    """
    return _segment(np.ascontiguousarray(reduced))


# Indices are unsigned below: Numba then need not look whether they count from the end.


@njit
def _smooth(reduced: np.ndarray) -> np.ndarray:
    """Return the colours without their noise, int32 [c, h, w] in UNITs; edges are repeated."""
    height, width, channels = reduced.shape
    smooth = np.empty((channels, height, width), np.int32)
    plane = np.empty((height + 2, width + 2), np.int32)
    rows = np.empty((height, width + 2), np.int32)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                plane[y + 1, x + 1] = reduced[y, x, c]
        plane[:, 0], plane[:, -1] = plane[:, 1], plane[:, -2]
        plane[0], plane[-1] = plane[1], plane[-2]
        for y in range(height):
            for x in range(width + 2):
                rows[y, x] = SIDE * (plane[y, x] + plane[y + 2, x]) + CENTRE * plane[y + 1, x]
        for y in range(height):
            for x in range(width):
                smooth[c, y, x] = (SIDE * (rows[y, x] + rows[y, x + 2]) + CENTRE * rows[y, x + 1]) * UNIT >> 16
    return smooth


@njit
def _differences(smooth: np.ndarray) -> np.ndarray:
    """Return how far each cell differs from its neighbours, uint32 [4, h, w]: right, below left, below, below right."""
    channels, height, width = smooth.shape
    differences = np.full((4, height, width), NO_EDGE)
    squares = np.empty(width, np.float32)  # whole numbers below 2²⁴, which are exact
    for direction, (dy, dx) in enumerate(((0, 1), (1, -1), (1, 0), (1, 1))):
        start, end = np.uint32(max(0, -dx)), np.uint32(width - max(0, dx))
        for y in range(height - dy):
            squares[:] = 0
            for c in range(channels):
                own, other = smooth[c, y], smooth[c, y + dy, dx + start :]  # sliced: a negative step is not vectorised
                for x in range(start, end):
                    step = np.float32(own[x] - other[x - start])
                    squares[x] += step * step
            for x in range(start, end):
                differences[direction, y, x] = np.uint32(np.sqrt(squares[x]))
    return differences


@njit
def _ordered(differences: np.ndarray) -> np.ndarray:
    """Return the edges by their difference, the least first: cell * 4 + direction, uint32 [n]."""
    _, height, width = differences.shape
    cells = np.uint32(height * width)
    flat = differences.reshape(4, cells)
    starts = np.zeros(LARGEST + 2, np.uint32)  # counting sort: stable, and linear in the edges
    for difference in flat.ravel():
        if difference != NO_EDGE:
            starts[difference + 1] += 1
    for value in range(1, len(starts)):
        starts[value] += starts[value - 1]
    edges = np.empty(starts[-1], np.uint32)
    for direction in range(np.uint32(4)):
        for cell in range(cells):
            difference = flat[direction, cell]
            if difference != NO_EDGE:
                edges[starts[difference]] = cell * np.uint32(4) + direction
                starts[difference] += 1
    return edges


@njit
def _join(names: np.ndarray, following: np.ndarray, sizes: np.ndarray, a: int, b: int) -> int:
    """Make one region of those named a and b, give it the name of the larger and return that.

    names: of each cell's region, one of its cells. following: the next cell of the same region, in a ring.
    """
    if sizes[a] < sizes[b]:
        a, b = b, a
    cell = b
    for _ in range(sizes[b]):
        names[cell] = a
        cell = following[cell]
    following[a], following[b] = following[b], following[a]  # two rings become one
    sizes[a] += sizes[b]
    return a


@compiled(uint16[:, ::1](types.Array(uint8, 3, "C", readonly=True)))
def _segment(reduced: np.ndarray) -> np.ndarray:
    height, width, _ = reduced.shape
    cells = height * width
    differences = _differences(_smooth(reduced))
    edges = _ordered(differences)
    flat = differences.reshape(4, cells)
    steps = np.array([1, width - 1, width, width + 1], np.uint32)
    names = np.arange(cells).astype(np.uint32)
    following = names.copy()
    sizes = np.ones(cells, np.uint32)
    tolerance = np.full(cells, SCALE * UNIT, np.uint32)  # the largest difference inside, and SCALE / size
    borders = np.uint32(0)
    for edge in edges:
        cell, direction = edge >> np.uint32(2), edge & np.uint32(3)
        a, b = names[cell], names[cell + steps[direction]]
        if a == b:
            continue
        weight = flat[direction, cell]
        if weight <= min(tolerance[a], tolerance[b]):
            a = _join(names, following, sizes, a, b)
            tolerance[a] = weight + SCALE * UNIT // sizes[a]
        else:  # one of the two may still be too small to stay
            edges[borders] = edge
            borders += np.uint32(1)
    for edge in edges[:borders]:
        cell, direction = edge >> np.uint32(2), edge & np.uint32(3)
        a, b = names[cell], names[cell + steps[direction]]
        if a != b and min(sizes[a], sizes[b]) < MIN_SIZE:
            _join(names, following, sizes, a, b)
    labels = np.empty(cells, np.uint16)
    known = np.zeros(cells, np.uint32)  # label + 1 of a name
    count = 0
    for cell in range(np.uint32(cells)):
        name = names[cell]
        if known[name] == 0:
            count += 1
            known[name] = count
        labels[cell] = min(known[name] - 1, 65535)
    return labels.reshape(height, width)
