"""Frames of a video at given seconds, by PyAV.

The frame of second `t` is the last one shown at or before `t` by the frames' own time stamps, so a variable frame rate
is no special case. Second 0 is the stream's start. Not by decord: after a seek it gives other frames than the right
ones in HEVC, in H.264 with open groups of pictures or intra refresh and in MPEG-4 with B-frames, knows no AV1, and its
detour over RGB at the source's size is slower.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

from av.container import InputContainer
from av.error import EOFError as EndOfFile
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc
from av.video.stream import VideoStream

from pipelines.modality.base import Reject

from .codec import Clock, duration, open_media, reason

MAX_PIXELS = 2**26  # 8192 × 8192
MIN_SIDE = 16
TICK = 1.5e-3  # seconds; Matroska rounds time stamps to a thousandth
SKIM = 2.0  # seconds; a gap shorter than this is decoded through rather than sought over
SKIM_UNINDEXED = 10.0  # where the container does not say whether a key frame lies in the gap
SEEK_MARGINS = (0.0, 5.0, 30.0)  # seconds; how much earlier to land when a seek came out too late
WITHOUT_STAMPS = frozenset(["avi"])  # containers whose time stamps FFmpeg counts from the start: no seeking
# Codecs that say of a frame in so many words that no other leans on it. HEVC says it within a temporal layer only.
SKIPPING = frozenset(["h264", "mpeg1video", "mpeg2video"])
STRICT = {"err_detect": "explode"}  # damage is an error, not something to be mended
REORDERED = 32  # packets, at most, between where a frame is decoded and where it is shown (16 frames of two fields)
TRANSFERS = {int(transfer): transfer.name.lower() for transfer in ColorTrc if transfer is not ColorTrc.UNSPECIFIED}
MAX_PIXEL_ASPECT = 4.0  # beyond it, or below the inverse, a header lies


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


def pixel_aspect(stream: VideoStream) -> float:
    """Return the width of a stored pixel over its height: 1 where the header says nothing, or nothing sensible."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT else 1.0


def square(width: int, height: int, aspect: float) -> tuple[int, int]:
    """Return the (width, height) of frames whose pixels are made square: as high as they are, wider or narrower."""
    return round(width * aspect), height


@dataclass(frozen=True, slots=True)
class Source:
    """What a video is.

    width, height: as shown, in its own pixels. aspect: width of a shown pixel over its height. rotation: degrees
    counter-clockwise from stored to shown, 0..270. transfer: how light becomes numbers, in FFmpeg's words, '' where it
    is not said (smpte2084 and arib_std_b67 are high dynamic range).
    """

    width: int
    height: int
    aspect: float
    rate: Fraction
    codec: str
    transfer: str
    rotation: int


class Damaged(Exception):  # noqa: N818 - what happened, not whose fault it is
    """A frame could not be decoded."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """A frame, its time stamp, and the seconds that it says it is shown, 0 for none.

    Kept beside the frame: whoever gets that may give it other ones, as an encoder does.
    """

    frame: VideoFrame
    stamp: int
    seconds: float

    @classmethod
    def of(cls, frame: VideoFrame) -> "_Shown":
        """Return what a decoded frame says."""
        return cls(frame, frame.pts or 0, float((frame.duration or 0) * (frame.time_base or 0)))


class Video:
    """A video whose frames are asked for by time. Decodes on where it can, seeks where it must, skips what it may.

    What FFmpeg puts in the place of a damaged frame hangs on all that it decoded before. So the first damage is an
    error here, and the frames that are asked for together are then decoded anew from the key frame before them, with
    nothing skipped.
    """

    source: Source

    def __init__(self, path: str) -> None:
        """Raises Reject: what `open_video` says, and Corrupt where not one frame can be decoded."""
        self._path = path
        self._stamps: list[int] = []  # asked for by the latest call
        self._now: _Shown | None = None
        self._next: _Shown | None = None
        self._decoded: Iterator[_Shown] = iter(())
        self._open()
        self._seekable = self._container.format.name not in WITHOUT_STAMPS
        self._mending = not self._seekable
        self._slack = 1 + self._clock.stamp(2 * TICK) - self._clock.stamp(0)
        try:
            self._begin(after_seek=False)
        except Damaged:
            self._mend(0.0)
        if self._now is None:
            raise Reject("Corrupt", "not one frame of it can be decoded")
        self.source = _source(self._stream, self._now.frame)

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self._decoded = iter(())
        self._container.close()

    def frames(self, times: Sequence[float]) -> Iterator[VideoFrame]:
        """Yield the frame shown at each of some ascending seconds, as it is stored: not turned yet.

        Ends early where the stream does. What is yielded depends on `times` alone, not on what was read before. Raises
        Reject: Corrupt.
        """
        self._prepare([self._clock.stamp(time) for time in times])
        done = 0
        while done < len(times):
            try:
                if (frame := self._at(times[done])) is None:
                    return
            except Damaged:
                self._mend(times[0])
                continue
            except FFmpegError as error:
                raise Reject("Corrupt", f"decoding stops: {reason(error)}") from error
            yield frame
            done += 1

    def _prepare(self, stamps: list[int]) -> None:
        """Get ready for frames of other time stamps."""
        if self._seekable and self._mending:
            self._mending = False
            self._now = None
            self._reopen()
        elif self._stamps and stamps and stamps[0] <= self._stamps[-1]:
            self._now = None  # what has been decoded was chosen for other times
        self._stamps = stamps

    def _mend(self, time: float) -> None:
        """Start anew at a second; damage is no error from here on."""
        self._mending = True
        self._reopen()
        self._seek(time)

    def seconds(self) -> float:
        """Return the length of the video by its header. Raises Reject."""
        container, stream = open_video(self._path)
        with container:
            return duration(container, stream)

    def _at(self, time: float) -> VideoFrame | None:
        """Return the frame shown at a second, None behind the end. Before the first frame it is the first."""
        if not self._reachable(time):
            self._seek(time)
        while self._next is not None and self._time(self._next) <= time + TICK:
            self._now, self._next = self._next, next(self._decoded, None)
        if self._now is None:
            return None
        last = self._next is None and time > self._time(self._now) + self._shown_for(self._now) - TICK
        return None if last else self._now.frame

    def _reachable(self, time: float) -> bool:
        """Return whether decoding on from here leads to a second soon."""
        if self._now is None:
            return False
        ahead = time + TICK - self._time(self._now)
        if ahead < SKIM or self._container.format.name in WITHOUT_STAMPS:
            return ahead >= 0
        return ahead < SKIM_UNINDEXED and not self._key_frame_ahead(time)

    def _key_frame_ahead(self, time: float) -> bool:
        """Return whether the container's index has a key frame between here and a second."""
        index = self._stream.index_entries
        found = index.search_timestamp(self._clock.stamp(time))
        return found >= 0 and self._now is not None and index[found].timestamp > self._now.stamp

    def _seek(self, time: float) -> None:
        """Go to a key frame at or before a second: not every container finds it at the first try."""
        margins = () if self._container.format.name in WITHOUT_STAMPS else SEEK_MARGINS
        for target in (time - margin for margin in margins if time > margin):
            with suppress(FFmpegError):
                self._container.seek(self._clock.stamp(target), stream=self._stream)
                self._begin(after_seek=True)
                if self._now is not None and self._time(self._now) <= time + TICK:
                    return
        self._reopen()
        self._begin(after_seek=False)

    def _reopen(self) -> None:
        self._container.close()
        self._open()

    def _open(self) -> None:
        self._container, self._stream = open_video(self._path)
        self._clock = Clock(self._stream)

    def _begin(self, *, after_seek: bool) -> None:
        packets: Iterator[Packet] = self._container.demux(self._stream)
        context = self._stream.codec_context
        if not self._mending:
            if not context.is_open:
                context.options = STRICT
            if context.codec.canonical_name in SKIPPING:
                packets = self._skipping(packets)
        self._decoded = map(_Shown.of, _decode(packets, after_seek=after_seek, strictly=not self._mending))
        self._now, self._next = next(self._decoded, None), next(self._decoded, None)

    def _skipping(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        """Yield packets; the decoder skips those of frames that are neither asked for nor leant on by others."""
        context = self._stream.codec_context
        for packet, following in _with_next_stamps(packets):
            needed = packet.pts is None or following is None or self._asked_for(packet.pts, following)
            context.skip_frame = "DEFAULT" if needed else "NONREF"
            yield packet

    def _asked_for(self, stamp: int, following: int) -> bool:
        """Return whether a frame shown from one time stamp to the next may be yielded, now or for later times."""
        first = bisect_left(self._stamps, stamp - self._slack)
        return first == len(self._stamps) or self._stamps[first] < following + self._slack

    def _time(self, shown: _Shown) -> float:
        """Return when a frame is shown, in seconds from the stream's start."""
        return self._clock.seconds(shown.stamp)

    def _shown_for(self, shown: _Shown) -> float:
        """Return for how many seconds the last frame is shown."""
        return shown.seconds or float(1 / self.source.rate)


def _source(stream: VideoStream, frame: VideoFrame) -> Source:
    rotation = round(frame.rotation / 90) * 90 % 360
    width, height, aspect = frame.width, frame.height, pixel_aspect(stream)
    if rotation % 180:
        width, height, aspect = height, width, 1 / aspect
    codec, transfer = stream.codec_context.codec.canonical_name, TRANSFERS.get(frame.color_trc, "")
    return Source(width, height, aspect, frame_rate(stream), codec, transfer, rotation)


def _with_next_stamps(packets: Iterator[Packet]) -> Iterator[tuple[Packet, int | None]]:
    """Yield packets, each with the time stamp of the frame shown after its own; None where that is not known.

    Packets come in the order of decoding, so those around have to be looked at. Not known are the last stamps, and all
    behind a packet without one.
    """
    ahead, behind = deque[Packet](), deque[int]()
    stamps: list[int] = []  # of both, sorted
    with suppress(FFmpegError):
        for packet in packets:
            ahead.append(packet)
            if packet.pts is None:
                break
            insort(stamps, packet.pts)
            if len(ahead) <= REORDERED:
                continue
            now = ahead.popleft()
            assert now.pts is not None
            place = bisect_right(stamps, now.pts)
            yield now, stamps[place] if place < len(stamps) else None
            behind.append(now.pts)
            if len(behind) > REORDERED:
                del stamps[bisect_left(stamps, behind.popleft())]
    yield from ((packet, None) for packet in ahead)
    yield from ((packet, None) for packet in packets)


def _decode(packets: Iterator[Packet], *, after_seek: bool, strictly: bool) -> Iterator[VideoFrame]:
    """Yield frames in the order of their time stamps, leaving out what comes out of turn and what cannot be decoded.

    strictly: raise Damaged instead, also for what FFmpeg would mend.

    After a seek the first is a key frame: what is decoded before it, or shown before it, leans on frames that were not.
    """
    last = None
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
        except FFmpegError as error:
            if strictly:
                raise Damaged from error
