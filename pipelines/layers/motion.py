"""Motion between a clip's frames, from the vectors of its own codec, which cost next to nothing to read.

The stored clips have one reference, the frame before, and no B-frames, so every vector spans exactly one frame. Motion
from compressed video as a signal: Wu et al., "Compressed Video Action Recognition", CVPR 2018.
"""

from collections.abc import Sequence

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


def motion(vectors: Sequence[np.ndarray | None], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the motion of T frames as (uint8 [2, T, height, width], valid uint8 [T, height, width]), in cells.

    vectors: of each frame FFmpeg's AVMotionVector records, None in key frames: where a block's centre is (dst) and, as
    motion / motion_scale, how far off in the frame before its content was found. Content therefore moved by the
    negative of it.
    """
    lattice = (len(vectors), height, width)
    cells = len(vectors) * height * width
    if not (moving := [(number, records) for number, records in enumerate(vectors) if records is not None]):
        return np.full((2, *lattice), SPEC.fill, np.uint8), np.zeros(lattice, np.uint8)
    blocks = np.concatenate([records for _, records in moving])
    frame = np.repeat([number for number, _ in moving], [len(records) for _, records in moving])
    y, x = np.clip(blocks["dst_y"] // CELL, 0, height - 1), np.clip(blocks["dst_x"] // CELL, 0, width - 1)
    cell = (frame * height + y) * width + x
    area = blocks["w"].astype(np.float64) * blocks["h"]
    covered = np.bincount(cell, area, cells)
    valid = covered >= CELL * CELL / 2
    moved = [
        np.bincount(cell, -blocks[axis] / blocks["motion_scale"] * area, cells) / np.maximum(covered, 1)
        for axis in ("motion_x", "motion_y")
    ]
    stored = np.where(valid, quantise(np.stack(moved), SPEC.scale, SPEC.offset), np.uint8(SPEC.fill))
    return stored.reshape(2, *lattice), valid.reshape(lattice).astype(np.uint8)
