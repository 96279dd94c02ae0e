"""Sounds with structure: speech-like syllables, chords, chirps and drum patterns; the label is the kind.

Every sound is float64 [samples] at its own rate in hertz, one channel until some are spread over two.
"""

import io
from pathlib import Path

import av
import numpy as np
import soundfile
from scipy.signal import butter, chirp, lfilter, sosfilt

RATES = (8000, 16000, 22050, 44100, 48000)
FORMATS = ("wav", "flac", "ogg")
SOUNDS = 40
# Centre of the first three formants in hertz, of the vowels a, e, i, o, u.
VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))
FORMANT_WIDTHS = (80, 110, 160)
CHORDS = ((0, 4, 7), (0, 3, 7), (0, 4, 7, 11), (0, 3, 7, 10), (0, 7, 12), (0,))


def make(index: int, folder: Path) -> None:
    """Write sound `index`: 2 to 8 seconds, one or two channels, at one of `RATES` and in one of `FORMATS`."""
    label, synthesize = list(KINDS.items())[index // SOUNDS]
    rng = np.random.default_rng([3, index])
    rate, suffix = RATES[index % len(RATES)], FORMATS[index % len(FORMATS)]
    seconds = rng.uniform(2, 8)
    sound = synthesize(seconds, rate, rng)
    if rng.random() < 0.5:
        sound = spread(sound, rate, rng)
    sound = sound / np.abs(sound).max() * rng.uniform(0.4, 0.9) + rng.normal(0, 1e-3, sound.shape)
    (folder / label).mkdir(parents=True, exist_ok=True)
    write(folder / label / f"{label}_{index % SOUNDS:02}.{suffix}", sound, rate)


def write(path: Path, sound: np.ndarray, rate: int) -> None:
    """Write `sound` in the format that the name says."""
    if path.suffix != ".ogg":
        soundfile.write(path, sound, rate)
        return
    # libsndfile numbers an Ogg stream by the clock; a copy by FFmpeg's exact muxer is the same each time.
    stream = io.BytesIO()
    soundfile.write(stream, sound, rate, format="OGG")
    stream.seek(0)
    with av.open(stream, "r") as source, av.open(str(path), "w", options={"fflags": "+bitexact"}) as copy:
        track = copy.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = track
                copy.mux(packet)


def spread(sound: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Two channels, [samples, 2]: the second is later by up to a millisecond and differs by up to 6 dB."""
    late = int(rng.integers(0, rate // 1000))
    gains = 10 ** (rng.uniform(-6, 0, 2) / 20)
    return np.stack([sound, np.pad(sound, (late, 0))[: sound.size]], axis=1) * gains


def speech(seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Syllables, some four a second with pauses for breath: a hiss, then a vowel whose pitch falls."""
    sound = np.zeros(int(seconds * rate))
    voice, tract = rng.uniform(90, 220), rng.uniform(0.9, 1.2)
    start = 0.1
    while start < seconds - 0.4:
        length = rng.uniform(0.14, 0.3)
        if rng.random() < 0.6:
            add(sound, start * rate, consonant(rng.uniform(0.03, 0.09), rate, rng))
        pitch = voice * rng.uniform(0.9, 1.15) * (1.1 - 0.3 * start / seconds)
        add(sound, (start + 0.05) * rate, vowel(length, pitch, tract, rate, rng))
        start += length + (rng.uniform(0.3, 0.5) if rng.random() < 0.15 else rng.uniform(0.02, 0.08))
    return sound


def vowel(seconds: float, pitch: float, tract: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Glottal pulses, falling 15 % from `pitch` hertz, through a vowel's formants scaled by `tract`."""
    count = int(seconds * rate)
    cycles = np.cumsum(pitch * np.linspace(1, 0.85, count) * (1 + rng.normal(0, 0.01, count)) / rate)
    pulses = np.diff(np.floor(cycles), prepend=0.0)
    sound = lfilter([1.0], [1.0, -0.9], pulses + rng.normal(0, 0.01, count))
    for centre, width in zip(VOWELS[rng.integers(len(VOWELS))], FORMANT_WIDTHS, strict=True):
        if centre * tract < 0.45 * rate:
            sound = resonate(sound, centre * tract, width, rate)
    return sound / np.abs(sound).max() * np.sin(np.linspace(0, np.pi, count)) ** 0.5


def resonate(sound: np.ndarray, centre: float, width: float, rate: int) -> np.ndarray:
    """`sound` through a resonator at `centre` hertz, `width` hertz broad, with gain 1 at 0 Hz."""
    radius = np.exp(-np.pi * width / rate)
    poles = [1.0, -2 * radius * np.cos(2 * np.pi * centre / rate), radius**2]
    return lfilter([sum(poles)], poles, sound)


def consonant(seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A hiss above a quarter of the bandwidth or more, with a sharp start."""
    count = int(seconds * rate)
    highpass = butter(4, rng.uniform(0.25, 0.6), "high", output="sos")
    return 0.5 * sosfilt(highpass, rng.normal(0, 0.5, count)) * np.linspace(1, 0, count)


def tones(seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Notes and chords of decaying harmonics on a scale, each a quarter to a whole second apart."""
    sound = np.zeros(int(seconds * rate))
    beat, base, brightness = rng.uniform(0.25, 1), rng.uniform(110, 330), rng.uniform(0.8, 2)
    for start in np.arange(0.05, seconds - 0.1, beat):
        root = base * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
        for step in CHORDS[rng.integers(len(CHORDS))]:
            add(sound, start * rate, note(1.5 * beat, root * 2 ** (step / 12), brightness, rate))
    return sound


def note(seconds: float, pitch: float, brightness: float, rate: int) -> np.ndarray:
    """Eight harmonics of `pitch` hertz; the k-th is k^-brightness as strong and dies away faster."""
    time = np.arange(int(seconds * rate)) / rate
    sound = np.zeros(time.size)
    for k in range(1, 9):
        if k * pitch < 0.45 * rate:
            sound += k**-brightness * np.exp(-time * (1 + k) / seconds) * np.sin(2 * np.pi * k * pitch * time)
    return sound * np.minimum(time / 0.02, 1)


def chirps(seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Sweeps up and down between 200 Hz and 40 % of the rate, straight or logarithmic, with pauses."""
    sound = np.zeros(int(seconds * rate))
    start = rng.uniform(0.02, 0.2)
    while start < seconds - 0.3:
        length = min(rng.uniform(0.15, 1.5), seconds - start)
        time = np.arange(int(length * rate)) / rate
        low, high = np.exp(rng.uniform(np.log(200), np.log(0.4 * rate), 2))
        sweep = chirp(time, low, length, high, method=str(rng.choice(["linear", "logarithmic"])))
        add(sound, start * rate, sweep * np.sin(np.linspace(0, np.pi, time.size)) ** 0.5)
        start += length + rng.uniform(0.02, 0.3)
    return sound


def percussion(seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A pattern of sixteen steps of bass drum, snare and hi-hat, repeated at 80 to 160 beats a minute."""
    sound = np.zeros(int(seconds * rate))
    step = 60 / rng.uniform(80, 160) / 4
    drums = [drum(rate, rng) for drum in (bass_drum, snare, hi_hat)]
    pattern = rng.random((len(drums), 16)) < [[0.15], [0.1], [0.5]]
    pattern[0, ::8] = pattern[1, 4::8] = True
    for beat, start in enumerate(np.arange(0.02, seconds, step)):
        for drum in np.flatnonzero(pattern[:, beat % 16]):
            add(sound, start * rate, drums[drum] * rng.uniform(0.7, 1))
    return sound


def bass_drum(rate: int, rng: np.random.Generator) -> np.ndarray:
    """A sine that drops from some 150 to 50 Hz in a third of a second."""
    time = np.arange(int(0.35 * rate)) / rate
    pitch = 50 + rng.uniform(80, 150) * np.exp(-time * 30)
    return np.exp(-time * 10) * np.sin(2 * np.pi * np.cumsum(pitch) / rate)


def snare(rate: int, rng: np.random.Generator) -> np.ndarray:
    """A short tone at some 190 Hz under white noise."""
    time = np.arange(int(0.2 * rate)) / rate
    tone = np.sin(2 * np.pi * rng.uniform(170, 210) * time) * np.exp(-time * 25)
    return 0.5 * tone + 0.3 * rng.normal(0, 1, time.size) * np.exp(-time * 18)


def hi_hat(rate: int, rng: np.random.Generator) -> np.ndarray:
    """High noise that dies within a tenth of a second."""
    time = np.arange(int(0.1 * rate)) / rate
    noise = sosfilt(butter(4, 0.6, "high", output="sos"), rng.normal(0, 0.5, time.size))
    return noise * np.exp(-time * rng.uniform(40, 90))


def add(sound: np.ndarray, start: float, part: np.ndarray) -> None:
    """Add `part` to `sound` from sample `start` on; what would stand past the end is cut."""
    first = int(start)
    room = sound[first : first + part.size]
    room += part[: room.size]


KINDS = {"speech": speech, "tones": tones, "chirps": chirps, "percussion": percussion}
COUNT = SOUNDS * len(KINDS)
