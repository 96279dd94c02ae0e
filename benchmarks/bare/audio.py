"""Sound → 16 kHz mono → Kaldi filter banks of 128 mels in windows of 1024 frames, float16."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from torchaudio.compliance import kaldi
from torchaudio.transforms import Resample

from benchmarks.bare import Bare, Made, npy

RATE = 16_000
WINDOW = 1024 * RATE // 100


def soundfile_torchaudio(path: Path) -> Iterator[Made]:
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = torch.from_numpy(wave.mean(axis=1))
    if rate != RATE:
        mono = _resampler(rate)(mono)
    windows = [window for window in mono.split(WINDOW) if len(window) >= RATE // 40]
    for window in windows:
        mel = kaldi.fbank(
            window[None],
            sample_frequency=RATE,
            num_mel_bins=128,
            window_type="hanning",
            frame_shift=10,
            dither=0.0,
            use_energy=False,
            htk_compat=True,
        )
        yield 1, {"mel.npy": npy(mel.numpy().astype(np.float16))}


@lru_cache
def _resampler(rate: int) -> Resample:
    return Resample(rate, RATE)


CANDIDATES: dict[str, Bare] = {"soundfile + torchaudio": soundfile_torchaudio}
