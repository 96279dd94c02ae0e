"""Saliency of pictures by the image signature: what is sparse against the rest of the picture.

Hou, Harel and Koch, "Image Signature: Highlighting Sparse Salient Regions", TPAMI 2012: the signs of the cosine
transform keep the sparse foreground. The paper works at 64 pixels a side; a pixel a lattice cell is half of that.
By Parseval the saliency of every picture has a mean of about 1, whatever its size and contrast: hence the constant
scale.
"""

import numpy as np
from scipy import fft, ndimage

from shard_tools.schema import Layer

SPEC = Layer(
    kind="scalar",
    cell=[8, 8],
    dtype="uint8",
    scale=1 / 32,
    unit="1 is the mean of a picture full of detail",
    algorithm="image signature (Hou, Harel and Koch 2012) at a pixel a cell, sigma 1.25 cells",
)
SIGMA = 1.25  # in cells
NOISE = 1e-2  # coefficients below are rounding, whose sign means nothing


def saliency(reduced: np.ndarray) -> np.ndarray:
    """Return the saliency of a picture reduced to a pixel a lattice cell.

    reduced: uint8 [h, w, 3]. Returns uint8 [h, w]; value = stored * SPEC.scale, clipped at 255 * SPEC.scale. A picture
    of one colour gives zeros.
    """
    channels = np.moveaxis(reduced.astype(np.float32), 2, 0)
    spectrum = fft.dctn(channels - channels.mean((1, 2), keepdims=True), axes=(1, 2), norm="ortho")
    signature = np.sign(spectrum) * (np.abs(spectrum) > NOISE)
    energy = (fft.idctn(signature, axes=(1, 2), norm="ortho") ** 2).mean(0)
    return np.clip(np.rint(ndimage.gaussian_filter(energy, SIGMA) / SPEC.scale), 0, 255).astype(np.uint8)
