"""Decode all frames → shorter side 256 → H.264 clips of the builder's length and settings, at a rate of frames."""

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from pathlib import Path

import av
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter

from benchmarks.bare import Bare, Made
from pipelines.media.clips import SCALING, X264, payload_size
from pipelines.media.frames import pixel_aspect, square

SIZE = 256
FRAMES = 64  # of a clip


def pyav(path: Path, rate: float) -> Iterator[Made]:
    """Yield clips of the first frame at or after each tick of the rate, or of all where the source is slower."""
    with av.open(str(path), metadata_errors="replace") as source:
        stream = source.streams.best("video")
        stream.codec_context.thread_count = 1
        own = stream.average_rate or stream.guessed_rate or Fraction(25)
        ticks = min(Fraction(rate), own).limit_denominator(1001)
        coded = stream.codec_context.width, stream.codec_context.height
        size = payload_size(*square(*coded, pixel_aspect(stream)), SIZE)
        frames = _scaled(source.decode(stream), max(1.0, float(own) / rate), size)
        for first in frames:
            yield _encode(chain([first], islice(frames, FRAMES - 1)), size, ticks)


def _scaled(decoded: Iterable[VideoFrame], step: float, size: tuple[int, int]) -> Iterator[VideoFrame]:
    scaler, kept = VideoReformatter(), 0
    for number, frame in enumerate(decoded):
        if number >= kept * step:
            kept += 1
            yield scaler.reformat(frame, *size, "yuv420p", interpolation=SCALING, threads=1)


def _encode(frames: Iterable[VideoFrame], size: tuple[int, int], rate: Fraction) -> Made:
    count, tick, file = 0, 1 / rate, io.BytesIO()
    with av.open(file, "w", "mp4") as clip:
        out = clip.add_stream("libx264", rate=rate, options=X264)
        out.width, out.height, out.pix_fmt = *size, "yuv420p"
        out.codec_context.thread_count = 1
        for count, frame in enumerate(frames, 1):
            frame.pts, frame.time_base, frame.pict_type = count - 1, tick, PictureType.NONE
            clip.mux(out.encode(frame))
        clip.mux(out.encode())
    return count, {"mp4": file.getvalue()}


def candidates(rate: float) -> dict[str, Bare]:
    return {"PyAV": partial(pyav, rate=rate)}
