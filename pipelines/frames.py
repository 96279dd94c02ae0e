"""Frames of a video at given seconds, upright, by PyAV.

The frame of second `t` is the last one shown at or before `t` by the frames' own time stamps, so a variable frame rate
is no special case. Second 0 is the stream's start. Not by decord: after a seek it gives other frames than the right
ones in HEVC, in H.264 with open groups of pictures or intra refresh and in MPEG-4 with B-frames, knows no AV1, and its
detour over RGB at the source's size is slower.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from av.container import InputContainer
from av.error import EOFError as EndOfFile
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipelines.codec import open_media, reason, seconds, stamp
from pipelines.modality.base import Reject

MAX_PIXELS = 2**26  # 8192 × 8192
MIN_SIDE = 16
TICK = 1.5e-3  # seconds; Matroska rounds time stamps to a thousandth
SKIM = 10.0  # seconds; a gap shorter than this is decoded through rather than sought over
SEEK_MARGINS = (0.0, 5.0, 30.0)  # seconds; how much earlier to land when a seek came out too late
WITHOUT_STAMPS = frozenset(["avi"])  # containers whose time stamps FFmpeg counts from the start: no seeking


def open_video(path: str) -> tuple[InputContainer, VideoStream]:
    """Open a video. Raises Reject: what `open_media` says, and WrongModality, Unsupported, TooLarge."""
    container = open_media(path, "video")
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        kinds = " and ".join(sorted({other.type for other in container.streams} - {"video"})) or "nothing"
        raise Reject("WrongModality", f"it has no video stream, only {kinds}")
    if stream.codec_context is None:
        raise Reject("Unsupported", "there is no decoder for its video stream")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        raise Reject("TooLarge", f"frames of {width}×{height} pixels; at most {MAX_PIXELS:,} pixels")
    if min(width, height) < MIN_SIDE:
        raise Reject("Unsupported", f"frames of {width}×{height} pixels; at least {MIN_SIDE} a side")
    stream.codec_context.thread_count = 1
    return container, stream


def frame_rate(stream: VideoStream) -> Fraction:
    """Return the frames a second that the header states, 25 where it states none."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


@dataclass(frozen=True, slots=True)
class Source:
    """What a video is. width, height: as shown. rotation: degrees counter-clockwise from stored to shown, 0..270."""

    width: int
    height: int
    rate: Fraction
    codec: str
    rotation: int


class Video:
    """A video whose frames are asked for by time. Decodes on where it can, seeks where it must."""

    source: Source

    def __init__(self, path: str) -> None:
        """Raises Reject: what `open_video` says, and Corrupt where not one frame can be decoded."""
        self._path = path
        self._now: VideoFrame | None = None
        self._next: VideoFrame | None = None
        self._decoded: Iterator[VideoFrame] = iter(())
        self._container, self._stream = open_video(path)
        self._begin(after_seek=False)
        if self._now is None:
            raise Reject("Corrupt", "not one frame of it can be decoded")
        self.source = _source(self._stream, self._now)

    def frames(self, times: Sequence[float]) -> Iterator[VideoFrame]:
        """Yield the frame shown at each of some ascending seconds, upright, at the source's size.

        Ends early where the stream does. What is yielded depends on `times` alone, not on what was read before. Raises
        Reject: Corrupt.
        """
        try:
            for time in times:
                if (frame := self._at(time)) is None:
                    return
                yield self._upright(frame)
        except FFmpegError as error:
            raise Reject("Corrupt", f"decoding stops: {reason(error)}") from error

    def _at(self, time: float) -> VideoFrame | None:
        """Return the frame shown at a second, None behind the end. Before the first frame it is the first."""
        if not self._reachable(time):
            self._seek(time)
        while self._next is not None and self._time(self._next) <= time + TICK:
            self._now, self._next = self._next, next(self._decoded, None)
        if self._now is None:
            return None
        last = self._next is None and time > self._time(self._now) + self._shown_for(self._now) - TICK
        return None if last else self._now

    def _reachable(self, time: float) -> bool:
        """Return whether decoding on from here leads to a second soon."""
        if self._now is None:
            return False
        ahead = time + TICK - self._time(self._now)
        return ahead >= 0 and (ahead < SKIM or self._container.format.name in WITHOUT_STAMPS)

    def _seek(self, time: float) -> None:
        """Go to a key frame at or before a second: not every container finds it at the first try."""
        margins = () if self._container.format.name in WITHOUT_STAMPS else SEEK_MARGINS
        for target in (time - margin for margin in margins if time > margin):
            with suppress(FFmpegError):
                self._container.seek(stamp(self._stream, target), stream=self._stream)
                self._begin(after_seek=True)
                if self._now is not None and self._time(self._now) <= time + TICK:
                    return
        self._container.close()
        self._container, self._stream = open_video(self._path)
        self._begin(after_seek=False)

    def _begin(self, *, after_seek: bool) -> None:
        self._decoded = _decode(self._container, self._stream, after_seek=after_seek)
        self._now, self._next = next(self._decoded, None), next(self._decoded, None)

    def _time(self, frame: VideoFrame) -> float:
        """Return when a frame is shown, in seconds from the stream's start."""
        return seconds(self._stream, frame.pts or 0)

    def _shown_for(self, frame: VideoFrame) -> float:
        """Return for how many seconds the last frame is shown."""
        if frame.duration and frame.time_base:
            return float(frame.duration * frame.time_base)
        return float(1 / self.source.rate)

    def _upright(self, frame: VideoFrame) -> VideoFrame:
        if not self.source.rotation:
            return frame
        turned: Any = np.rot90(frame.to_ndarray(format="rgb24"), self.source.rotation // 90)
        return VideoFrame.from_ndarray(np.ascontiguousarray(turned), "rgb24")


def _source(stream: VideoStream, frame: VideoFrame) -> Source:
    rotation = round(frame.rotation / 90) * 90 % 360
    width, height = (frame.height, frame.width) if rotation % 180 else (frame.width, frame.height)
    return Source(width, height, frame_rate(stream), stream.codec_context.codec.canonical_name, rotation)


def _decode(container: InputContainer, stream: VideoStream, *, after_seek: bool) -> Iterator[VideoFrame]:
    """Yield frames in the order of their time stamps, skipping what cannot be decoded and what comes out of turn.

    After a seek the first is a key frame: what is decoded before it, or shown before it, leans on frames that were not.
    """
    packets, last = container.demux(stream), None
    while True:
        try:
            for frame in next(packets).decode():
                if not isinstance(frame, VideoFrame) or frame.pts is None:
                    continue
                if (last is None and (frame.key_frame or not after_seek)) or (last is not None and frame.pts > last):
                    last = frame.pts
                    yield frame
        except (StopIteration, EndOfFile):
            return
        except FFmpegError:
            continue
