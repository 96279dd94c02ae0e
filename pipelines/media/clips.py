"""The clips of the shards: H.264 whose bytes depend on the frames alone, and which a trainer enters at any 16th frame.

x264's output depends on its number of threads and, unless told, on the processor; muxers write dates and versions. All
of that is turned off here.
"""

import io
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
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

from .filters import Filter

GOP = 16
AHEAD_BYTES = 2 << 20  # of frames: 16 of the usual size
# Nothing that takes long: no lookahead, no blocks below 8 × 8, no CABAC (readers decode faster without it, too). Intra
# blocks of 8 × 8 take what cannot be predicted, so that it counts as no motion.
X264 = {
    "preset": "ultrafast",
    "crf": "25",
    "profile": "high",
    "flags": "+bitexact",
    "x264-params": f"keyint={GOP}:min-keyint={GOP}:scenecut=0:open-gop=0:bframes=0:ref=1:"
    "subme=1:8x8dct=1:partitions=i8x8:deblock=0,0:aq-mode=1:threads=1:cpu-independent=1",
}
MUXER = {"movflags": "+faststart", "fflags": "+bitexact"}
SCALING = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
SAMPLING = Interpolation.POINT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
HIGH_DYNAMIC_RANGE = frozenset([ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67])  # PQ and HLG
# BT.709 → BT.601: FFmpeg's scaler could do it, too, but takes its time, and darkens by a level.
COLOURS = "ispace=bt709:iprimaries=bt709:itrc=bt709:irange=tv:space=bt470bg:primaries=bt709:trc=bt709:range=tv:fast=1"
TURNS: dict[int, list[tuple[str, str]]] = {
    0: [],
    90: [("transpose", "cclock")],
    180: [("hflip", ""), ("vflip", "")],
    270: [("transpose", "clock")],
}
STANDARD = {"dst_color_trc": ColorTrc.BT709, "dst_color_primaries": ColorPrimaries.BT709}


class Scaler:
    """Brings frames of any size and pixel format upright to 8-bit 4:2:0 of one size, BT.601 colours of limited range.

    High dynamic range becomes standard: its reference white (203 cd/m²) is white, and what is brighter is cut off.
    """

    def __init__(self, width: int, height: int, rotation: int = 0) -> None:
        """width, height: as shown. rotation: degrees counter-clockwise from stored to shown: 0, 90, 180 or 270."""
        self.width, self.height = width, height
        self._stored = (height, width) if rotation % 180 else (width, height)
        self._reformatter = VideoReformatter()
        self._turned = Filter(*self._stored, *TURNS[rotation])
        self._turned_from_709 = Filter(*self._stored, ("colorspace", COLOURS), *TURNS[rotation])

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """Return the frame scaled, then turned."""
        is_bright = frame.color_trc in HIGH_DYNAMIC_RANGE
        if frame.colorspace == Colorspace.ITU709 and not is_bright:
            return self._turned_from_709(self._scaled(frame, Colorspace.ITU709))
        return self._turned(self._scaled(frame, Colorspace.ITU601, **(STANDARD if is_bright else {})))

    def _scaled(self, frame: VideoFrame, colorspace: Colorspace, **more: Any) -> VideoFrame:
        return self._reformatter.reformat(
            frame,
            *self._stored,
            "yuv420p",
            dst_colorspace=colorspace,
            dst_color_range=ColorRange.MPEG,
            interpolation=SCALING,
            threads=1,
            **more,
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
            tick = 1 / rate
            for number, frame in enumerate(_ahead(frames, AHEAD_BYTES // (width * height * 3 // 2))):
                frame.pts, frame.time_base = number, tick
                frame.pict_type = PictureType.NONE  # a source's key frame is no reason for one here
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path.read_bytes()


def _ahead(frames: Iterable[VideoFrame], count: int) -> Iterator[VideoFrame]:
    """Yield frames, some made together: decoder and encoder, taking turns, empty the caches for each other."""
    rest = iter(frames)
    while some := deque(islice(rest, max(count, 1))):
        while some:
            yield some.popleft()


def decode_clip(clip: bytes) -> Iterator[tuple[VideoFrame, np.ndarray | None]]:
    """Yield each frame of a clip with its motion vectors (FFmpeg's AVMotionVector records), None in key frames.

    Frames are not deblocked, which saves time: the means of their cells differ by a level or two from what a reader
    sees. Raises FFmpegError, ValueError for something else than a clip.
    """
    with av.open(io.BytesIO(clip), "r", format="mp4") as container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            raise ValueError("it has no video")
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"flags2": "+export_mvs", "skip_loop_filter": "all"}
        for frame in container.decode(stream):
            vectors: Any = frame.side_data.get("MOTION_VECTORS")
            yield frame, None if vectors is None else vectors.to_ndarray()
