"""Sounds: any common file → windows of log mels of 16 kHz mono, with energy and flux."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torchaudio.compliance import kaldi
from torchaudio.transforms import Resample

from pipelines.layers import energy, flux
from pipelines.sound import Sound
from pipelines.statistics import mean_std, moments
from shard_tools.schema import Part

from . import base
from .base import Modality, Piece, Reject, Sample

RATE = 16_000
MELS = 128
HOP = RATE // 100
WINDOW = RATE // 40
FRAMES_A_SECOND = RATE // HOP
MARGIN = RATE // 10  # samples of 16 kHz read on both sides of a window, for the resampling filter to swing in
SHORTEST_REST = 25  # frames
SUFFIXES = frozenset([
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".m4b", ".aac", ".mp4", ".aif", ".aiff",
    ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".wma", ".amr", ".ape", ".wv", ".ac3", ".mka", ".weba",
])  # fmt: skip


class Options(base.Options):
    """What a user may choose about sounds."""

    frames: int = Field(1024, ge=16, le=65536, description="frames of 10 ms in a window; the last may be shorter")


class Audio(Modality[Options]):
    """The builder of sounds."""

    name = "audio"
    suffixes = SUFFIXES
    Options = Options
    layers = {"energy": energy.SPEC, "flux": flux.SPEC}  # noqa: RUF012 - as the base class declares
    parts = {  # noqa: RUF012
        "mel.npy": Part(
            description="log mels: Kaldi filter banks of 16 kHz mono, 25 ms Hann window, 10 ms hop",
            dtype="float16",
            shape=f"frames,{MELS}",
            unit="natural log of power",
        ),
        "json": Part(description="source, label, group, start, end, frames, seconds, source_rate, source_channels"),
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
        """Yield a window, or why there is none, for each piece. Raises Reject."""
        torch.set_num_threads(1)  # the engine has a process a core
        sound = Sound(path)
        for piece in pieces:
            try:
                yield _window(sound, piece)
            except Reject as reject:
                yield reject

    def statistics(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Return {'mean': [128], 'std': [128]} of the log mels."""
        return mean_std(summary)


def frames_of(samples: int) -> int:
    """Return how many whole windows of 25 ms, 10 ms apart, fit into samples of 16 kHz."""
    return max(0, 1 + (samples - WINDOW) // HOP)


def _window(sound: Sound, piece: Piece) -> Sample:
    start, end = (round(seconds * FRAMES_A_SECOND) for seconds in (piece.start, piece.end))
    samples = resampled(sound, start * HOP, (end - start - 1) * HOP + WINDOW)
    if len(samples) < WINDOW:
        raise Reject("Empty", f"no sound from second {piece.start:g}, though the header promises it")
    mel = log_mels(samples)
    values = mel.astype(np.float32)
    layers = {"energy.npy": energy.energy(values), "flux.npy": flux.flux(values)}
    return Sample(
        parts={
            "mel.npy": mel,
            "json": {
                "frames": len(mel),
                "seconds": len(mel) / FRAMES_A_SECOND,
                "source_rate": sound.rate,
                "source_channels": sound.channels,
            },
            **layers,
        },
        shape=layers["energy.npy"].shape,
        summary=moments(values),
    )


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
    """Return the log mels of float32 samples of 16 kHz, full scale 1, at least one window: float16 [frames, 128]."""
    mel = kaldi.fbank(
        torch.from_numpy(samples)[None],
        sample_frequency=RATE,
        num_mel_bins=MELS,
        window_type="hanning",
        frame_shift=10,
        dither=0.0,
        use_energy=False,
        htk_compat=True,
    )
    return mel.numpy().astype(np.float16)
