"""The clips of the shards: H.264 whose bytes depend on the frames alone, and which a trainer enters at any 16th frame.

x264's output depends on its number of threads and, unless told, on the processor; muxers write dates and versions. All
of that is turned off here.
"""

import io
import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from av.video.stream import VideoStream

GOP = 16
X264 = {
    "preset": "veryfast",
    "crf": "23",
    "profile": "high",
    "flags": "+bitexact",
    "x264-params": f"keyint={GOP}:min-keyint={GOP}:scenecut=0:open-gop=0:bframes=0:ref=1:threads=1:cpu-independent=1",
}
MUXER = {"movflags": "+faststart", "fflags": "+bitexact"}
SCALING = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
SAMPLING = Interpolation.POINT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
HIGH_DYNAMIC_RANGE = frozenset([ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67])  # PQ and HLG
STANDARD = {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}


class Scaler:
    """Brings frames of any size and pixel format to 8-bit 4:2:0 of one size, in BT.601 colours of limited range.

    High dynamic range becomes standard: its reference white (203 cd/m²) is white, and what is brighter is cut off.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """Return the frame scaled."""
        return self._reformatter.reformat(
            frame,
            self.width,
            self.height,
            "yuv420p",
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            interpolation=SCALING,
            threads=1,
            **(STANDARD if frame.color_trc in HIGH_DYNAMIC_RANGE else {}),
        )


class Sampler:
    """Takes every so many pixels of both axes of a frame, as RGB."""

    def __init__(self, stride: int) -> None:
        self.stride = stride
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """Return the pixels, uint8 [N, 3]."""
        sampled = self._reformatter.reformat(
            frame,
            max(frame.width // self.stride, 1),
            max(frame.height // self.stride, 1),
            "rgb24",
            interpolation=SAMPLING,
            threads=1,
        )
        return sampled.to_ndarray().reshape(-1, 3)


def payload_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Return the even (width, height) of a clip whose shorter side is `size`, or the source's where that is smaller."""
    scale = min(1.0, size / min(width, height))
    return _even(width, scale), _even(height, scale)


def _even(side: int, scale: float) -> int:
    return 2 * min(round(side * scale / 2), side // 2)


def encode_clip(frames: Iterable[VideoFrame], width: int, height: int, rate: Fraction) -> bytes:
    """Return frames of one size, yuv420p, as an MP4 file of H.264 at a constant frame rate."""
    with (
        tempfile.TemporaryDirectory() as folder
    ):  # a real file: to move the index to the front the muxer reads it again
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", format="mp4", options=MUXER) as container:
            stream = container.add_stream("libx264", rate=rate, options=X264)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.thread_count = 1
            stream.codec_context.colorspace = Colorspace.ITU601
            stream.codec_context.color_range = ColorRange.MPEG
            for number, frame in enumerate(frames):
                frame.pts, frame.time_base = number, 1 / rate
                frame.pict_type = PictureType.NONE  # a source's key frame is no reason for one here
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path.read_bytes()


def decode_clip(clip: bytes) -> Iterator[tuple[VideoFrame, np.ndarray | None]]:
    """Yield each frame of a clip with its motion vectors (FFmpeg's AVMotionVector records), None in key frames.

    Raises FFmpegError, ValueError for something else than a clip.
    """
    with av.open(io.BytesIO(clip), "r", format="mp4") as container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            raise ValueError("it has no video")
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"flags2": "+export_mvs"}
        for frame in container.decode(stream):
            vectors: Any = frame.side_data.get("MOTION_VECTORS")
            yield frame, None if vectors is None else vectors.to_ndarray()


def luma(frame: VideoFrame) -> np.ndarray:
    """Return the Y plane of a 4:2:0 frame as stored, uint8 [H, W], without a copy."""
    plane = frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def reduce_luma(frame: VideoFrame, cell: int) -> np.ndarray:
    """Return the Y plane at a pixel a lattice cell, uint8 [ceil(H / cell), ceil(W / cell)]: the rounded means.

    The last cell of an axis may be smaller.
    """
    plane = luma(frame)
    height, width = plane.shape
    rows, columns = -(-height // cell), -(-width // cell)
    whole = np.zeros((rows * cell, columns * cell), np.uint8)
    whole[:height, :width] = plane
    sums = whole.reshape(rows, cell, columns * cell).sum(1, dtype=np.uint32).reshape(rows, columns, cell).sum(2)
    down, across = (np.minimum(side - np.arange(0, side, cell), cell) for side in (height, width))
    return np.rint(sums / np.multiply.outer(down, across)).astype(np.uint8)
