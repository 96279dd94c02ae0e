"""Samples of a sound or a film, mono, any stretch of it: by libsndfile, and by PyAV where that cannot (AAC, films, …).

What a stretch holds depends on the stretch alone, not on what was read before, to the last bit.
"""

import math
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

import av
import numpy as np
import soundfile
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import EOFError as EndOfFile
from av.error import FFmpegError
from av.stream import Disposition, Stream

from pipelines.modality.base import Reject

from .codec import Clock, bounded, duration, open_media, read_head, reason

RATES = range(1_000, 1_000_001)
BLOCK = 1 << 16  # samples read at once, so that many channels need no more memory than few
PREROLL = 1.0  # seconds decoded and thrown away after a seek: codecs lean on what came before
MP3_RUN = 600.0  # seconds that are decoded at most to get to a window of MP3
LIMIT = 32768.0  # floating-point files may hold anything; what is louder is clipped


class Sound:
    """A sound file. Attributes: rate (Hz), channels, samples (a channel, by the header)."""

    def __init__(self, path: str) -> None:
        """Raises Reject: Empty, WrongModality, Unsupported, TooLarge and what `open_media` says."""
        read_head(path)
        self._reader: _SoundFile | _PyAV
        try:
            self._reader = _SoundFile(path)
        except (soundfile.LibsndfileError, OSError, TypeError, ValueError):
            self._reader = _PyAV(path)
        self.rate, self.channels, self.samples = self._reader.rate, self._reader.channels, self._reader.samples
        if self.rate not in RATES:
            raise Reject("Unsupported", f"{self.rate} samples a second; {RATES[0]:,} to {RATES[-1]:,} are read")
        if self.samples <= 0:
            raise Reject("Empty", "there is no sound in it")
        bounded(self.samples / self.rate)

    def read(self, first: int, count: int) -> np.ndarray:
        """Return `count` samples from the `first` on, fewer at the end: the mean of the channels, float32 [n].

        Raises Reject: Corrupt where they cannot be decoded or not one of them is a number.
        """
        try:
            mono = self._reader.read(first, count)
        except (soundfile.LibsndfileError, FFmpegError, RuntimeError) as error:
            raise Reject("Corrupt", f"decoding stops: {reason(error)}") from error
        known = np.isfinite(mono)
        if not known.all():
            if not known.any():
                raise Reject("Corrupt", "not one of its samples is a number")
            mono = np.nan_to_num(mono, nan=0.0, posinf=LIMIT, neginf=-LIMIT)
        return mono.clip(-LIMIT, LIMIT)


Stretch = tuple[int, np.ndarray]  # position in samples, mono float32 [n]


class _Stretches:
    """Decoded stretches of sound in their order; those that may be asked for again are kept."""

    def __init__(self, decoded: Iterator[Stretch]) -> None:
        self._decoded = decoded
        self._kept: deque[Stretch] = deque()
        self._dropped = 0  # where the last that was not kept ends

    def reaches(self, first: int) -> bool:
        """Return whether a position can still be read from."""
        return first >= self._dropped

    def read(self, first: int, count: int) -> np.ndarray:
        """Return up to `count` samples from the `first` on; zeros where there is nothing, but something later."""
        last = first + count
        while not self._kept or _end(self._kept[-1]) < last:
            if (stretch := next(self._decoded, None)) is None:
                break
            self._kept.append(stretch)
            self._drop(first)
        self._drop(first)
        mono, end = np.zeros(count, np.float32), first
        for position, samples in self._kept:
            start, stop = max(position, first), min(position + len(samples), last)
            if start < stop:
                mono[start - first : stop - first] = samples[start - position : stop - position]
            end = max(end, min(position + len(samples), last))
        return mono[: end - first]

    def _drop(self, first: int) -> None:
        while self._kept and _end(self._kept[0]) <= first:
            self._dropped = max(self._dropped, _end(self._kept.popleft()))


def _end(stretch: Stretch) -> int:
    position, samples = stretch
    return position + len(samples)


class _SoundFile:
    """Samples by libsndfile."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = soundfile.SoundFile(path)
        if not self.file.seekable():
            raise ValueError("no seeking")
        self.rate, self.channels, self.samples = self.file.samplerate, self.file.channels, self.file.frames
        self._anchor = -1
        self._run = _Stretches(iter(()))

    def read(self, first: int, count: int) -> np.ndarray:
        if first >= self.samples:
            return np.zeros(0, np.float32)
        if self.file.format != "MP3":
            return _Stretches(self._decode(first, count)).read(first, count)
        # The last bits of what its decoder gives hang on how much it decoded before, and to seek it reads the file from
        # the start: so windows are read on from fixed places far apart, whether others were asked for before or not.
        anchor = first - first % round(MP3_RUN * self.rate)
        if anchor != self._anchor or not self._run.reaches(first):
            self.file.close()
            self.file = soundfile.SoundFile(self.path)
            self._anchor, self._run = anchor, _Stretches(self._decode(anchor, self.samples - anchor))
        return self._run.read(first, count)

    def _decode(self, first: int, count: int) -> Iterator[Stretch]:
        self.file.seek(first)
        for position in range(first, first + count, BLOCK):
            block = self.file.read(min(first + count - position, BLOCK), dtype="float32", always_2d=True)
            if not len(block):
                return
            yield position, block[:, 0] if self.channels == 1 else block.mean(axis=1)


class _PyAV:
    """Samples by PyAV. Second 0 of a film is where its pictures start, as for its clips; else where the sound does."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.container, self.stream = self._open()
        context = self.stream.codec_context
        self.rate, self.channels = context.sample_rate, context.channels
        delay, end = _film(self.container, self.stream)
        length = min(delay + duration(self.container, self.stream), end)
        self.delay, self.samples = round(delay * self.rate), round(length * self.rate)
        self.container, self.stream = self._open()  # its length may have been found by reading it to the end
        self._run: _Stretches | None = None

    def _open(self) -> tuple[InputContainer, AudioStream]:
        container = open_media(self.path, "audio")
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            if container.streams.audio:
                raise Reject("Corrupt", "its header does not say how its sound is to be decoded")
            if _pictures(container):
                raise Reject("Absent", "a film without sound")
            kinds = " and ".join(sorted({other.type for other in container.streams})) or "nothing"
            raise Reject("WrongModality", f"it has no sound, only {kinds}")
        if stream.codec_context is None:
            raise Reject("Unsupported", "there is no decoder for its sound")
        stream.codec_context.thread_count = 1
        return container, stream

    def read(self, first: int, count: int) -> np.ndarray:
        if (sought := self._sought(first)) is not None:
            return sought.read(first, count)
        # What cannot be sought is decoded from the start, once for windows that follow each other.
        if self._run is None or not self._run.reaches(first):
            self._run = _Stretches(_decode(*self._open(), self.rate, self.delay))
        return self._run.read(first, count)

    def _sought(self, first: int) -> _Stretches | None:
        """Return the sound from a place at or before a position on; None where no such place is found."""
        target = (first - self.delay) / self.rate - PREROLL
        if target <= 0:
            return None
        with suppress(FFmpegError):
            self.container.seek(Clock(self.stream).stamp(target), stream=self.stream)
            decoded = _decode(self.container, self.stream, self.rate, self.delay)
            head = next(decoded, None)
            if head is not None and head[0] <= first:
                return _Stretches(chain([head], decoded))
        self.container.close()
        self.container, self.stream = self._open()
        return None


def _decode(container: InputContainer, stream: AudioStream, rate: int, delay: int) -> Iterator[Stretch]:
    """Yield what is decoded from here on. delay: samples from second 0 to the start of the stream."""
    resampler = av.AudioResampler(format="fltp", rate=rate)
    packets, clock, position = container.demux(stream), Clock(stream), delay
    while True:
        try:
            for frame in next(packets).decode():
                if not isinstance(frame, AudioFrame):
                    continue
                if frame.pts is not None:
                    position = delay + round(clock.seconds(frame.pts) * rate)
                for planar in resampler.resample(frame):
                    samples = planar.to_ndarray().mean(axis=0, dtype=np.float32)
                    yield position, samples
                    position += len(samples)
        except (StopIteration, EndOfFile):
            return
        except FFmpegError:
            continue


def _pictures(container: InputContainer) -> Stream | None:
    """Return the moving pictures of a film, None for sound, which may have a cover."""
    best = container.streams.best("video")
    return None if best is None or best.disposition & Disposition.attached_pic else best


def _film(container: InputContainer, stream: AudioStream) -> tuple[float, float]:
    """Return the seconds from the start of a film's pictures to (that of its sound, the end of the film if known).

    0 and infinity where there are no pictures.
    """
    if (pictures := _pictures(container)) is None:
        return 0.0, math.inf
    end = ((container.start_time or 0) + container.duration) / av.time_base if container.duration else math.inf
    return _start(stream) - _start(pictures), end - _start(pictures)


def _start(stream: Stream) -> float:
    return float((stream.start_time or 0) * (stream.time_base or 0))
