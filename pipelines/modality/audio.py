"""Sounds: any common file → windows of log mels of 16 kHz mono, with energy and flux."""

import io
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torchaudio.compliance import kaldi
from torchaudio.transforms import Resample

from pipelines.compiled import compiled
from pipelines.layers import energy, flux
from pipelines.media.sound import Sound
from pipelines.statistics import mean_std
from pipelines.sums import moments
from shard_tools.schema import Part

from . import base
from .base import NPY_ERRORS, Modality, Piece, Reject, Sample

RATE = 16_000
MELS = 128
HOP = RATE // 100
WINDOW = RATE // 40
FRAMES_A_SECOND = RATE // HOP
MARGIN = RATE // 10  # samples of 16 kHz read on both sides of a window, for the resampling filter to swing in
FFT = 512
PREEMPHASIS = np.float32(0.97)
MAX_FRAMES = 65_536  # of a window
SHORTEST_REST = 25  # frames
SUFFIXES = frozenset([
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".m4b", ".aac", ".mp4", ".aif", ".aiff",
    ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".wma", ".amr", ".ape", ".wv", ".ac3", ".mka", ".weba",
])  # fmt: skip


class Options(base.Options):
    """What a user may choose about sounds."""

    frames: int = Field(1024, ge=16, le=MAX_FRAMES, description="frames of 10 ms in a window; the last may be shorter")


class Audio(Modality[Options]):
    """The builder of sounds."""

    name = "audio"
    suffixes = SUFFIXES
    Options = Options
    facts: ClassVar[dict[str, Any]] = {"frames": -1, "seconds": -1.0, "source_rate": -1, "source_channels": -1}
    layers = {"energy": energy.SPEC, "flux": flux.SPEC}  # noqa: RUF012 - as the base class declares
    parts = {  # noqa: RUF012
        "mel.npy": Part(
            description="log mels: Kaldi filter banks of 16 kHz mono, 25 ms Hann window, 10 ms hop",
            dtype="float16",
            shape=f"frames,{MELS}",
            unit="natural log of power",
        ),
        "json": Part(description="source, label, group, start, end, " + ", ".join(facts)),
    }

    def probe(self, path: str) -> list[Piece]:
        """Return the windows of a sound, from its header. Raises Reject.

        Windows follow each other without a gap. A rest shorter than a quarter of a second is left out, unless it is
        all.
        """
        sound = Sound(path)
        samples = sound.samples * RATE // sound.rate
        if samples < WINDOW:
            raise Reject("TooShort", f"{sound.samples / sound.rate * 1000:.1f} ms; one frame takes 25")
        total = frames_of(samples)
        starts = range(0, total, self.options.frames)
        lengths = [min(self.options.frames, total - start) for start in starts]
        if len(lengths) > 1 and lengths[-1] < SHORTEST_REST:
            lengths.pop()
        return [
            Piece(start / FRAMES_A_SECOND, (start + length) / FRAMES_A_SECOND, length * MELS * 2 + length * 4 + 4096)
            for start, length in zip(starts, lengths, strict=False)
        ]

    def build(self, path: str, pieces: Sequence[Piece]) -> Iterator[Sample | Reject]:
        """Yield a window, or why there is none, for each piece, of any seconds. Raises Reject.

        Second 0 of a film is that of its clips: where its pictures start. Until its sound starts it is silent.
        """
        torch.set_num_threads(1)  # the engine has a process a core
        sound = Sound(path)
        for piece in pieces:
            try:
                yield self._window(sound, piece)
            except Reject as reject:
                yield reject

    def look(self, parts: Mapping[str, bytes]) -> dict[str, np.ndarray]:
        """Return the layers of a stored window. Raises Reject."""
        try:
            mel = np.load(io.BytesIO(parts["mel.npy"]), allow_pickle=False)
        except NPY_ERRORS as error:
            raise Reject("Corrupt", f"mel.npy is no array: {error}") from None
        if mel.ndim != 2 or mel.dtype != np.float16:
            raise Reject(
                "Corrupt", f"mel.npy is an array {mel.dtype} {list(mel.shape)}; log mels are float16 [frames, {MELS}]"
            )
        return self._look(widened(mel))

    def statistics(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Return {'mean': [128], 'std': [128]} of the log mels."""
        return mean_std(summary)

    def _window(self, sound: Sound, piece: Piece) -> Sample:
        start = round(piece.start * FRAMES_A_SECOND)
        end = round((piece.end if piece.end >= 0 else sound.samples / sound.rate) * FRAMES_A_SECOND)
        if end - start > MAX_FRAMES:
            raise Reject("TooLarge", f"{(end - start) / FRAMES_A_SECOND:g} s; a window may have {MAX_FRAMES / 100:g}")
        samples = resampled(sound, start * HOP, max(end - start - 1, 0) * HOP + WINDOW)
        if len(samples) < WINDOW:
            raise Reject("Empty", f"no sound from second {piece.start:g} on")
        mel = log_mels(samples)
        values = widened(mel)
        return Sample(
            parts={
                "mel.npy": mel,
                "json": {
                    "frames": len(mel),
                    "seconds": len(mel) / FRAMES_A_SECOND,
                    "source_rate": sound.rate,
                    "source_channels": sound.channels,
                },
                **{f"{name}.npy": layer for name, layer in self._look(values).items()},
            },
            shape=(-(-len(mel) // energy.CELL[0]), MELS // energy.CELL[1]),
            summary=moments(values),
        )

    def _look(self, mel: np.ndarray) -> dict[str, np.ndarray]:
        make = {"energy": energy.energy, "flux": flux.flux}
        return {name: make[name](mel) for name in self.layers}


def frames_of(samples: int) -> int:
    """Return how many whole windows of 25 ms, 10 ms apart, fit into samples of 16 kHz."""
    return max(0, 1 + (samples - WINDOW) // HOP)


def resampled(sound: Sound, first: int, count: int) -> np.ndarray:
    """Return up to `count` samples at 16 kHz from the `first` on, float32: a part of the whole sound, resampled."""
    # A rate that has no small ratio to ours takes the nearest: less than a sample of error in a window.
    ratio = Fraction(RATE, sound.rate).limit_denominator(1000)
    begin = max(first - MARGIN, 0) // ratio.numerator * ratio.numerator
    at_source = [index * sound.rate // RATE for index in (begin, first + count + MARGIN)]
    wave = sound.read(at_source[0], at_source[1] - at_source[0])
    if ratio != 1 and len(wave):
        wave = _resampler(ratio.denominator, ratio.numerator)(torch.from_numpy(wave)).numpy()
    return wave[first - begin : first - begin + count]


@lru_cache(maxsize=8)
def _resampler(source: int, target: int) -> Resample:
    return Resample(source, target)


def log_mels(samples: np.ndarray) -> np.ndarray:
    """Return the log mels of float32 samples of 16 kHz, full scale 1, at least one window: float16 [frames, 128].

    As Kaldi does it, and to the last bit as `torchaudio.compliance.kaldi.fbank`, which makes its window and filters
    anew for every sound: mean taken off, pre-emphasis, Hann window, power spectrum, filters, natural log.
    """
    window, filters = _window_and_filters()
    means = torch.from_numpy(samples).unfold(0, WINDOW, HOP).mean(1)
    frames = torch.from_numpy(_emphasised(samples, means.numpy(), window.numpy()))
    power = torch.from_numpy(_power(torch.fft.rfft(frames).numpy()))
    mel = torch.mm(power, filters).clamp(min=torch.finfo(torch.float32).eps).log()
    return mel.half().numpy()


def widened(mel: np.ndarray) -> np.ndarray:
    """Return log mels, float16, as float32. By torch: NumPy takes twenty times as long."""
    return torch.from_numpy(mel).float().numpy()


@compiled("float32[:, ::1](float32[::1], float32[::1], float32[::1])")
def _emphasised(samples: np.ndarray, means: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return frames, without their means, pre-emphasised and windowed: float32 [frames, 512], the end of each zero."""
    frames = np.zeros((len(means), FFT), np.float32)
    for number in range(len(means)):
        frame, wave, mean = frames[number], samples[number * HOP : number * HOP + WINDOW], means[number]
        frame[0] = ((wave[0] - mean) - PREEMPHASIS * (wave[0] - mean)) * window[0]
        for index in range(1, WINDOW):
            frame[index] = ((wave[index] - mean) - PREEMPHASIS * (wave[index - 1] - mean)) * window[index]
    return frames


@compiled("float32[:, ::1](complex64[:, ::1])")
def _power(spectra: np.ndarray) -> np.ndarray:
    """Return the power of spectra, to the last bit as torch's `abs().pow(2)`, which takes six times as long."""
    power = np.empty(spectra.shape, np.float32)
    for frame in range(len(spectra)):
        for step in range(spectra.shape[1]):
            real, imaginary = np.float64(spectra[frame, step].real), np.float64(spectra[frame, step].imag)
            magnitude = np.float32(np.sqrt(real * real + imaginary * imaginary))
            power[frame, step] = magnitude * magnitude
    return power


@lru_cache(maxsize=1)
def _window_and_filters() -> tuple[torch.Tensor, torch.Tensor]:
    """Return (a Hann window [400], Kaldi's mel filters from 20 to 8000 Hz [257, 128]).

    At 128 mels the lowest filters are narrower than the step of the spectrum, 31 Hz: bin 3 lies between two steps,
    holds nothing and is always at the floor.
    """
    filters, _ = kaldi.get_mel_banks(MELS, FFT, RATE, 20.0, 0.0, 100.0, -500.0, 1.0)
    return torch.hann_window(WINDOW, periodic=False), torch.nn.functional.pad(filters, (0, 1)).T
