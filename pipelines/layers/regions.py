"""Regions of pictures by graph-based segmentation: cells that belong together in colour.

Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004, as scikit-image has it, on the
picture reduced to a pixel a lattice cell.
"""

import numpy as np
from skimage.segmentation import felzenszwalb

from shard_tools.schema import Layer

SPEC = Layer(
    kind="label",
    cell=[8, 8],
    dtype="uint16",
    algorithm="graph-based segmentation (Felzenszwalb and Huttenlocher 2004) at a pixel a cell: "
    "scale 100, sigma 0.5, at least 8 cells a region",
)


def regions(reduced: np.ndarray) -> np.ndarray:
    """Return the region of each cell of a picture reduced to a pixel a lattice cell.

    reduced: uint8 [h, w, 3]. Returns uint16 [h, w], labels 0..n-1 without gaps (the last label stands for all beyond).
    """
    labels = felzenszwalb(reduced, scale=100, sigma=0.5, min_size=8)
    return np.minimum(labels, np.iinfo(np.uint16).max).astype(np.uint16)
