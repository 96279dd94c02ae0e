"""Samples of a sound file, mono, any stretch of it: by libsndfile, and by PyAV where that cannot (AAC, WMA, …)."""

from collections.abc import Iterator
from contextlib import suppress

import av
import numpy as np
import soundfile
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import EOFError as EndOfFile
from av.error import FFmpegError

from pipelines.codec import bounded, duration, open_media, read_head, reason, seconds, stamp
from pipelines.modality.base import Reject

RATES = range(1_000, 1_000_001)
BLOCK = 1 << 16  # samples read at once, so that many channels need no more memory than few
PREROLL = 1.0  # seconds decoded and thrown away after a seek: codecs lean on what came before
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
        if len(mono) and not np.isfinite(mono).any():
            raise Reject("Corrupt", "not one of its samples is a number")
        return np.nan_to_num(mono, nan=0.0, posinf=LIMIT, neginf=-LIMIT).clip(-LIMIT, LIMIT)


class _SoundFile:
    """Samples by libsndfile."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = soundfile.SoundFile(path)
        if not self.file.seekable():
            raise ValueError("no seeking")
        self.rate, self.channels, self.samples = self.file.samplerate, self.file.channels, self.file.frames

    def read(self, first: int, count: int) -> np.ndarray:
        if first >= self.samples:
            return np.zeros(0, np.float32)
        if self.file.format == "MP3":  # after a seek its decoder remembers what it read before
            self.file.close()
            self.file = soundfile.SoundFile(self.path)
        self.file.seek(first)
        blocks = []
        while count > 0:
            block = self.file.read(min(count, BLOCK), dtype="float32", always_2d=True)
            if not len(block):
                break
            blocks.append(block.mean(axis=1))
            count -= len(block)
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


class _PyAV:
    """Samples by PyAV."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.container, self.stream = self._open()
        context = self.stream.codec_context
        self.rate, self.channels = context.sample_rate, context.channels
        self.samples = round(duration(self.container, self.stream) * self.rate)
        self.container, self.stream = self._open()  # its length may have been found by reading it to the end

    def _open(self) -> tuple[InputContainer, AudioStream]:
        container = open_media(self.path, "audio")
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            kinds = " and ".join(sorted({other.type for other in container.streams})) or "nothing"
            raise Reject("WrongModality", f"it has no sound, only {kinds}")
        if stream.codec_context is None:
            raise Reject("Unsupported", "there is no decoder for its sound")
        stream.codec_context.thread_count = 1
        return container, stream

    def read(self, first: int, count: int) -> np.ndarray:
        mono = np.zeros(count, np.float32)
        end = 0
        for position, samples in self._from(first):
            if position >= first + count:
                break
            start, stop = max(position, first), min(position + len(samples), first + count)
            if start < stop:
                mono[start - first : stop - first] = samples[start - position : stop - position]
                end = stop - first
        return mono[:end]

    def _from(self, first: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield decoded stretches as (position in samples, mono float32), the first at or before a position."""
        target = first / self.rate - PREROLL
        if target > 0:
            with suppress(FFmpegError):
                self.container.seek(stamp(self.stream, target), stream=self.stream)
                stretches = self._decode()
                head = next(stretches, None)
                if head is not None and head[0] <= first:
                    yield head
                    yield from stretches
                    return
        self.container.close()
        self.container, self.stream = self._open()
        yield from self._decode()

    def _decode(self) -> Iterator[tuple[int, np.ndarray]]:
        resampler = av.AudioResampler(format="fltp", rate=self.rate)
        packets, position = self.container.demux(self.stream), 0
        while True:
            try:
                for frame in next(packets).decode():
                    if not isinstance(frame, AudioFrame):
                        continue
                    if frame.pts is not None:
                        position = round(seconds(self.stream, frame.pts) * self.rate)
                    for planar in resampler.resample(frame):
                        samples = planar.to_ndarray().mean(axis=0, dtype=np.float32)
                        yield position, samples
                        position += len(samples)
            except (StopIteration, EndOfFile):
                return
            except FFmpegError:
                continue
