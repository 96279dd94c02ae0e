"""Saliency of pictures by the image signature: what is sparse against the rest of the picture.

Hou, Harel and Koch, "Image Signature: Highlighting Sparse Salient Regions", TPAMI 2012: the signs of the cosine
transform keep the sparse foreground. The paper works at 64 pixels a side; a pixel a lattice cell is half of that.
By Parseval the saliency of every picture has a mean of about 1, whatever its size and contrast: hence the constant
scale.

On lattices this small a transform is fastest as a product with its matrix. The matrices are rounded to whole multiples
of 2⁻¹⁶, so that every sum of a product is exact in float64, and equal pictures give equal bytes on every processor,
in whatever order its linear algebra adds.
"""

from functools import lru_cache

import numpy as np
from numba import float64, types, uint8
from scipy import fft, ndimage

from pipelines.compiled import compiled
from shard_tools.schema import Layer

SPEC = Layer(
    kind="scalar",
    cell=[8, 8],
    dtype="uint8",
    scale=1 / 32,
    unit="1 is the mean of a picture full of detail",
    algorithm="image signature (Hou, Harel and Koch 2012) at a pixel a cell, sigma 1.25 cells",
    version=2,
)
SCALE = SPEC.scale
SIGMA = 1.25  # in cells
NOISE = 0.25  # coefficients below are what rounding to 8 bits leaves, whose sign means nothing
ONE = float(1 << 16)  # of the matrices' fixed point
ENERGY = float(1 << 12)  # and of the energy's: fewer bits, since it has no upper bound


def saliency(reduced: np.ndarray) -> np.ndarray:
    """Return the saliency of pictures reduced to a pixel a lattice cell.

    reduced: uint8 [..., h, w, c], one picture or any number of equal size. Returns uint8 [..., h, w]; value = stored *
    SPEC.scale, clipped at 255 * SPEC.scale. A picture of one colour gives zeros.
    """
    height, width = reduced.shape[-3:-1]
    pictures = np.ascontiguousarray(reduced).reshape(-1, *reduced.shape[-3:])
    (down, up), (left, right) = _cosines(height), _cosines(width)
    found = _signature(pictures, down, up, left, right, _gaussians(height)[0], _gaussians(width)[1])
    return found.reshape(reduced.shape[:-1])


@lru_cache(maxsize=64)
def _cosines(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix of the orthonormal cosine transform (DCT-II) and its transpose, in units of 1 / ONE."""
    return _both_ways(fft.dct(np.eye(size), axis=0, norm="ortho"))


@lru_cache(maxsize=64)
def _gaussians(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix of a Gaussian filter that mirrors at the edges and its transpose, in units of 1 / ONE."""
    return _both_ways(ndimage.gaussian_filter1d(np.eye(size), SIGMA, axis=0))


def _both_ways(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    whole = np.rint(matrix * ONE)
    return whole, np.ascontiguousarray(whole.T)


@compiled(uint8[:, :, ::1](types.Array(uint8, 4, "C", readonly=True), *[float64[:, ::1]] * 6))
def _signature(
    pictures: np.ndarray,
    down: np.ndarray,
    up: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    smooth_down: np.ndarray,
    smooth_across: np.ndarray,
) -> np.ndarray:
    """Return the saliency of pictures [n, h, w, c]; their transform is down @ plane @ right, the inverse up, left."""
    count, height, width, channels = pictures.shape
    saliencies = np.empty((count, height, width), np.uint8)
    plane, product = np.empty((height, width)), np.empty((height, width))
    energy = np.empty((height, width))
    for n in range(count):
        energy[:] = 0.0
        for c in range(channels):
            total = 0
            for y in range(height):
                for x in range(width):
                    total += pictures[n, y, x, c]
            mean = np.rint(total / (height * width))
            for y in range(height):
                for x in range(width):
                    plane[y, x] = pictures[n, y, x, c] - mean
            np.dot(down, plane, product)
            np.dot(product, right, plane)
            plane[0, 0] = 0.0  # what rounding left of the mean
            for y in range(height):
                for x in range(width):
                    plane[y, x] = np.sign(np.rint(plane[y, x] * (0.5 / NOISE / ONE**2)))
            np.dot(up, plane, product)
            np.dot(product, left, plane)
            for y in range(height):
                for x in range(width):
                    energy[y, x] += plane[y, x] ** 2
        for y in range(height):
            for x in range(width):
                energy[y, x] = np.rint(energy[y, x] * (ENERGY / channels / ONE**4))
        np.dot(smooth_down, energy, product)
        np.dot(product, smooth_across, plane)
        for y in range(height):
            for x in range(width):
                saliencies[n, y, x] = min(np.rint(plane[y, x] / (SCALE * ONE**2 * ENERGY)), 255.0)
    return saliencies
