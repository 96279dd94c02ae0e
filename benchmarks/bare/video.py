"""Decode all frames → shorter side 256 → H.264 with the settings of the builder's clips, at a rate of frames."""

import io
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from pipelines.media.clips import SCALING, X264, payload_size

SIZE = 256


def pyav(path: Path, rate: float) -> int:
    """Return the frames encoded: the first at or after each tick of the rate, or all where the source is slower."""
    with av.open(str(path), metadata_errors="replace") as source, av.open(io.BytesIO(), "w", "mp4") as clip:
        stream = source.streams.video[0]
        stream.codec_context.thread_count = 1
        own = stream.average_rate or stream.guessed_rate or Fraction(25)
        step = max(1.0, float(own) / rate)
        width, height = payload_size(stream.codec_context.width, stream.codec_context.height, SIZE)
        ticks = min(Fraction(rate), own).limit_denominator(1001)
        out = clip.add_stream("libx264", rate=ticks, options=X264)
        out.width, out.height, out.pix_fmt = width, height, "yuv420p"
        out.codec_context.thread_count = 1
        scaler, encoded = VideoReformatter(), 0
        for number, frame in enumerate(source.decode(stream)):
            if number < encoded * step:
                continue
            scaled = scaler.reformat(frame, width, height, "yuv420p", interpolation=SCALING, threads=1)
            scaled.pts, scaled.time_base, scaled.pict_type = encoded, 1 / ticks, PictureType.NONE
            clip.mux(out.encode(scaled))
            encoded += 1
        clip.mux(out.encode())
    return encoded


def candidates(rate: float) -> dict[str, Callable[[Path], int]]:
    return {"PyAV": partial(pyav, rate=rate)}
