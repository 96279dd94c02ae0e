"""Motion between a clip's frames, from the vectors of its own codec, which cost next to nothing to read.

The stored clips have one reference, the frame before, and no B-frames, so every vector spans exactly one frame. Motion
from compressed video as a signal: Wu et al., "Compressed Video Action Recognition", CVPR 2018.
"""

from collections.abc import Sequence

import numpy as np

from pipelines.compiled import compiled
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
SCALE, OFFSET = SPEC.scale, SPEC.offset
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
    if not (moving := [(number, records) for number, records in enumerate(vectors) if records is not None]):
        return np.full((2, *lattice), SPEC.fill, np.uint8), np.zeros(lattice, np.uint8)
    blocks = np.frombuffer(bytearray().join(records.data for _, records in moving), moving[0][1].dtype)
    frame = np.repeat([number for number, _ in moving], [len(records) for _, records in moving])
    fields = (blocks[name] for name in ("dst_y", "dst_x", "w", "h", "motion_x", "motion_y", "motion_scale"))
    stored, valid = np.full((2, *lattice), SPEC.fill, np.uint8), np.zeros(lattice, np.uint8)
    _fill(stored, valid, frame, *fields)
    return stored, valid


@compiled(
    "void(uint8[:, :, :, ::1], uint8[:, :, ::1], int64[:], int16[:], int16[:], uint8[:], uint8[:], int32[:], int32[:], "
    "uint16[:])",
)
def _fill(
    stored: np.ndarray,
    valid: np.ndarray,
    frame: np.ndarray,
    dst_y: np.ndarray,
    dst_x: np.ndarray,
    w: np.ndarray,
    h: np.ndarray,
    motion_x: np.ndarray,
    motion_y: np.ndarray,
    motion_scale: np.ndarray,
) -> None:
    """Fill the cells that blocks cover, see `motion`, with the mean of how far each moved, weighted by area."""
    frames, height, width = valid.shape
    moved, covered = np.zeros((2, *valid.shape)), np.zeros(valid.shape)
    for block in range(len(frame)):
        t = frame[block]
        y = min(max(dst_y[block] // CELL, 0), height - 1)
        x = min(max(dst_x[block] // CELL, 0), width - 1)
        area = np.float64(w[block]) * h[block]
        moved[0, t, y, x] += -motion_x[block] / motion_scale[block] * area
        moved[1, t, y, x] += -motion_y[block] / motion_scale[block] * area
        covered[t, y, x] += area
    for t in range(frames):
        for y in range(height):
            for x in range(width):
                if covered[t, y, x] >= CELL * CELL / 2:
                    valid[t, y, x] = 1
                    for axis in range(2):
                        steps = np.rint((moved[axis, t, y, x] / covered[t, y, x] - OFFSET) / SCALE)
                        stored[axis, t, y, x] = min(max(steps, 0), 255)
