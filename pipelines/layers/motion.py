"""Motion between a clip's frames, from the vectors of its own codec, which cost next to nothing to read.

The stored clips have one reference, the frame before, and no B-frames, so every vector spans exactly one frame. Motion
from compressed video as a signal: Wu et al., "Compressed Video Action Recognition", CVPR 2018.
"""

import numpy as np

from pipelines.layers.pool import quantise
from shard_tools.schema import Layer

CELL = 16  # an H.264 macroblock: no block of the codec straddles two cells

SPEC = Layer(
    kind="vector",
    cell=[1, CELL, CELL],
    dtype="uint8",
    scale=0.5,
    offset=-64.0,
    unit="payload pixels a payload frame, (dx, dy), forward",
    fill=128,
    algorithm="H.264 motion vectors of the stored clip, mean over the cell weighted by block area",
)
VALID_SPEC = Layer(
    kind="flag",
    cell=[1, CELL, CELL],
    dtype="uint8",
    fill=0,
    algorithm="1 where at least half of the cell is predicted from the frame before; 0 in intra blocks and key frames",
)


def motion(vectors: np.ndarray | None, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the motion of one frame as (uint8 [2, height, width], valid uint8 [height, width]), in cells.

    vectors: FFmpeg's AVMotionVector records of a frame: where a block's centre is (dst) and, as motion / motion_scale,
    how far off in the frame before its content was found. Content therefore moved by the negative of it.
    """
    if vectors is None or not len(vectors):
        return np.full((2, height, width), SPEC.fill, np.uint8), np.zeros((height, width), np.uint8)
    cell = np.clip(vectors["dst_y"] // CELL, 0, height - 1) * width + np.clip(vectors["dst_x"] // CELL, 0, width - 1)
    area = vectors["w"].astype(np.float64) * vectors["h"]
    covered = np.bincount(cell, area, height * width)
    valid = covered >= CELL * CELL / 2
    moved = [
        np.bincount(cell, -vectors[axis] / vectors["motion_scale"] * area, height * width) / np.maximum(covered, 1)
        for axis in ("motion_x", "motion_y")
    ]
    stored = np.where(valid, quantise(np.stack(moved), SPEC.scale, SPEC.offset), np.uint8(SPEC.fill))
    return stored.reshape(2, height, width), valid.reshape(height, width).astype(np.uint8)
