"""Sounds: the right mels whatever the rate, the channels, the codec and the cut into windows."""

import os
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.compliance import kaldi

from pipelines.layers.energy import energy
from pipelines.layers.flux import flux
from pipelines.media.sound import Sound
from pipelines.modality import Piece, Reject, Sample, get_modality
from pipelines.modality.audio import Audio, Options, log_mels
from shard_tools.tar import encode_part

REAL = os.environ.get("MMMASK_REAL_DATA", "")


def tone(hertz: float, seconds: float, rate: int, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int, subtype: str | None = None) -> str:
    soundfile.write(path, samples, rate, subtype=subtype)
    return str(path)


def write_by_ffmpeg(path: Path, samples: np.ndarray, rate: int, codec: str) -> str:
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono", bit_rate=96_000)
        frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


def build(path: str, **options: int) -> list[Sample | Reject]:
    audio = Audio(Options(**options))
    return list(audio.build(path, audio.probe(path)))


def build_one(path: str) -> Sample:
    (sample,) = build(path)
    assert isinstance(sample, Sample)
    return sample


def mels(path: str, **options: int) -> np.ndarray:
    """Return the log mels of all windows, one after the other."""
    return np.concatenate([sample.parts["mel.npy"] for sample in build(path, **options)]).astype(np.float32)


def bin_of(hertz: float) -> float:
    """Return where a frequency lies among 128 bins from 20 to 8000 Hz on Kaldi's mel scale."""
    low, high, here = (1127 * np.log(1 + f / 700) for f in (20, 8000, hertz))
    return (here - low) / (high - low) * 129 - 1


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 44099, 48000, 96000])
@pytest.mark.parametrize("hertz", [440, 3000])
def test_a_tone_lights_its_bin_at_any_rate(tmp_path: Path, rate: int, hertz: int) -> None:
    sample = build_one(write(tmp_path / "a.wav", tone(hertz, 1.0, rate), rate))
    mel = sample.parts["mel.npy"].astype(np.float32)
    assert mel.argmax(axis=1) == pytest.approx(bin_of(hertz), abs=1.1)
    assert sample.parts["json"] == {"frames": 98, "seconds": 0.98, "source_rate": rate, "source_channels": 1}
    reference = log_mels(tone(hertz, 1.0, 16000)).astype(np.float32)
    loud = reference > 0
    assert mel[loud] == pytest.approx(reference[loud], abs=0.3)


def test_sample_is_as_the_format_says(tmp_path: Path) -> None:
    sample = build_one(write(tmp_path / "a.flac", tone(440, 1.0, 16000), 16000))
    assert set(sample.parts) == {*Audio.parts, *(f"{name}.npy" for name in Audio.layers)}
    mel = sample.parts["mel.npy"]
    assert (mel.dtype, mel.shape) == (np.float16, (98, 128))
    assert sample.shape == (25, 8)
    for name, layer in Audio.layers.items():
        assert sample.parts[f"{name}.npy"].shape == sample.shape
        assert sample.parts[f"{name}.npy"].dtype == layer.dtype
    statistics = get_modality("audio")(Options()).statistics(sample.summary)
    assert statistics["mean"] == pytest.approx(mel.astype(float).mean(0))
    assert statistics["std"] == pytest.approx(mel.astype(float).std(0), abs=1e-4)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(440, 1.0, 16000), tone(2000, 1.0, 16000)
    stereo = mels(write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), 16000, "FLOAT"))
    mono = mels(write(tmp_path / "mono.wav", (left + right) / 2, 16000, "FLOAT"))
    assert stereo == pytest.approx(mono, abs=0.02)
    six = mels(write(tmp_path / "six.wav", np.stack([left] * 6, axis=1), 16000, "FLOAT"))
    assert six == pytest.approx(mels(write(tmp_path / "one.wav", left, 16000, "FLOAT")), abs=0.02)


@pytest.mark.parametrize(
    ("rate", "name"), [(16000, "a.wav"), (44100, "a.wav"), (8000, "a.flac"), (48000, "a.ogg"), (32000, "a.mp3")]
)
def test_windows_continue_each_other(tmp_path: Path, rate: int, name: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * rate).astype(np.float32)
    path = write(tmp_path / name, noise, rate)
    whole, cut = mels(path), mels(path, frames=100)
    assert len(whole) == 498
    audio = Audio(Options(frames=100))
    alone = [next(iter(audio.build(path, [piece]))).parts["mel.npy"] for piece in reversed(audio.probe(path))][::-1]
    assert (np.concatenate(alone) == cut.astype(np.float16)).all()
    assert cut == pytest.approx(whole[: len(cut)], abs=0.05)  # a click at an edge would be whole units


@pytest.mark.parametrize(
    ("name", "codec"), [("a.m4a", "aac"), ("a.mp3", "libmp3lame"), ("a.wma", "wmav2"), ("a.mka", "libopus")]
)
def test_other_codecs(tmp_path: Path, name: str, codec: str) -> None:
    rate = 48000
    steps = np.concatenate([tone(hertz, 0.5, rate) for hertz in (300, 600, 1200, 2400)])
    path = write_by_ffmpeg(tmp_path / name, steps, rate, codec)
    mel = mels(path)
    assert len(mel) == pytest.approx(198, abs=8)
    for number, hertz in enumerate((300, 600, 1200, 2400)):
        assert np.median(mel[50 * number + 15 : 50 * number + 35].argmax(axis=1)) == pytest.approx(
            bin_of(hertz), abs=1.1
        )
    (late,) = Audio(Options()).build(path, [Piece(start=1.6, end=1.9)])
    assert late.parts["mel.npy"].astype(np.float32) == pytest.approx(mel[160:190], abs=0.3)


@settings(max_examples=30)
@given(st.integers(1, 5000))
def test_durations(frames: int) -> None:
    """Pieces are whole windows but for the last, in order, without gap or overlap."""

    class Header(Sound):
        def __init__(self, path: str) -> None:
            self.rate, self.channels, self.samples = 16000, 1, 400 + (frames - 1) * 160

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.modality.audio.Sound", Header)
        pieces = Audio(Options()).probe("a.wav")
    lengths = [round((piece.end - piece.start) * 100) for piece in pieces]
    assert all(length == 1024 for length in lengths[:-1])
    assert lengths[-1] <= 1024
    assert 0 <= frames - sum(lengths) < 25
    assert [piece.start for piece in pieces] == [1024 * number / 100 for number in range(len(pieces))]


def test_energy_and_flux_say_where_and_when(tmp_path: Path) -> None:
    sound = np.concatenate([np.zeros(8000, np.float32), tone(1000, 0.5, 16000)])
    parts = build_one(write(tmp_path / "a.wav", sound, 16000)).parts
    row, column = 80 // 4, int(bin_of(1000)) // 16
    assert parts["energy.npy"][row].argmax() == column
    assert Audio.layers["energy"].decode(parts["energy.npy"])[3] == pytest.approx(-15.9, abs=0.06)
    assert parts["flux.npy"][:, column].argmax() * 4 == pytest.approx(48, abs=4)
    assert not parts["flux.npy"][:10].any()


def test_layers_of_a_rest_of_a_cell() -> None:
    mel = np.random.default_rng(0).normal(-5, 2, (9, 128)).astype(np.float32)
    assert energy(mel).shape == flux(mel).shape == (3, 8)
    assert Audio.layers["energy"].decode(energy(mel))[2, 1] == pytest.approx(mel[8:, 16:32].mean(), abs=0.06)
    assert Audio.layers["flux"].decode(flux(mel))[2, 1] == pytest.approx(
        np.maximum(mel[8, 16:32] - mel[7, 16:32], 0).mean(), abs=0.02
    )


def test_silence_is_a_sound(tmp_path: Path) -> None:
    mel = mels(write(tmp_path / "a.wav", np.zeros(16000), 16000))
    assert mel == pytest.approx(-15.94, abs=0.01)


def test_bad_samples(tmp_path: Path) -> None:
    sound = tone(440, 1.0, 16000)
    sound[[5, 6000]] = np.nan, np.inf
    assert np.isfinite(mels(write(tmp_path / "some.wav", sound, 16000, "FLOAT"))).all()
    (reject,) = build(write(tmp_path / "all.wav", np.full(16000, np.nan), 16000, "FLOAT"))
    assert isinstance(reject, Reject)
    assert reject.error == "Corrupt"
    assert np.isfinite(mels(write(tmp_path / "loud.wav", sound * 1e30, 16000, "FLOAT"))).all()


def rejected(path: Path) -> str:
    with pytest.raises(Reject) as caught:
        build(str(path))
    assert "\n" not in caught.value.message
    return caught.value.error


def test_rejects(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    assert rejected(tmp_path / "empty.wav") == "Empty"
    assert rejected(tmp_path / "none.wav") == "Unreadable"
    (tmp_path / "noise.mp3").write_bytes(bytes(range(128)) * 40)
    assert rejected(tmp_path / "noise.mp3") == "UnknownFormat"
    (tmp_path / "text.wav").write_text("quiet\n" * 500)
    assert rejected(tmp_path / "text.wav") == "UnknownFormat"
    write(tmp_path / "none_in_it.wav", np.zeros(0), 16000)
    assert rejected(tmp_path / "none_in_it.wav") == "Empty"
    write(tmp_path / "short.wav", np.zeros(399), 16000)
    assert rejected(tmp_path / "short.wav") == "TooShort"
    write(tmp_path / "slow.wav", np.zeros(399), 100)
    assert rejected(tmp_path / "slow.wav") == "Unsupported"


def write_film(path: Path, *, delay: float = 0.0, lead: float = 0.0) -> str:
    """Write 6 s of pictures from second `lead` on and 6 s of sound from second `delay` on: a tone in its second 2."""
    rate = 48000
    sound = np.concatenate([np.zeros(2 * rate, np.float32), tone(1000, 1.0, rate), np.zeros(3 * rate, np.float32)])
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=8)
        pictures.width = pictures.height = 64
        stream = container.add_stream("aac", rate=rate, layout="mono")
        for number in range(48):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), "rgb24")
            picture.pts, picture.time_base = number + round(8 * lead), Fraction(1, 8)
            container.mux(pictures.encode(picture))
        for start in range(0, len(sound), 1024):
            frame = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start + round(delay * rate), Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        container.mux(pictures.encode())
    return str(path)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.mov", "film.ts"])
@pytest.mark.parametrize(("delay", "lead"), [(0.0, 0.0), (3.0, 0.0), (0.0, 1.0)])
def test_second_0_of_a_film_is_where_its_pictures_start(tmp_path: Path, name: str, delay: float, lead: float) -> None:
    path = write_film(tmp_path / name, delay=delay, lead=lead)
    mel = mels(path)
    loud = np.flatnonzero(mel[:, round(bin_of(1000))] > -2)
    assert loud[[0, -1]] / 100 == pytest.approx(np.array([2.0, 3.0]) + delay - lead, abs=0.06)
    assert len(mel) == pytest.approx(100 * (6 + delay - lead), abs=10)


def test_sound_of_a_film_is_cut_at_its_clips(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", delay=3.0)
    audio = Audio(Options())
    clips = [Piece(start, start + 2.0) for start in (0.0, 2.0, 4.0, 6.0, 8.0)]
    before, *_, last = samples = list(audio.build(path, clips))
    assert [sample.parts["json"]["seconds"] for sample in samples[:4]] == [2.0] * 4
    assert (before.parts["mel.npy"] < -15.9).all()  # its sound has not started: silence
    assert last.parts["json"]["seconds"] == pytest.approx(1.0, abs=0.05)
    for clip, sample in zip(clips, samples, strict=True):
        (alone,) = audio.build(path, [clip])
        assert (alone.parts["mel.npy"] == sample.parts["mel.npy"]).all()
    (late,) = audio.build(path, [Piece(20.0, 22.0)])
    assert isinstance(late, Reject)
    assert late.error == "Empty"


def test_a_film_without_sound_has_none(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 64
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        container.mux(stream.encode())
    assert rejected(tmp_path / "film.mp4") == "Absent"


@pytest.mark.parametrize(("name", "rate"), [("a.wav", 44100), ("a.mp3", 8000), ("a.ogg", 22050)])
def test_pieces_of_any_seconds(tmp_path: Path, name: str, rate: int) -> None:
    path = write(tmp_path / name, np.random.default_rng(0).normal(0, 0.1, 9 * rate).astype(np.float32), rate)
    audio, whole = Audio(Options()), mels(path)
    pieces = [Piece(3.21, 5.5), Piece(0.0, 0.01), Piece(4.0, 4.0), Piece(8.5, -1.0)]
    found = [sample.parts["mel.npy"].astype(np.float32) for sample in audio.build(path, pieces)]
    assert [len(mel) for mel in found] == [229, 1, 1, 48]
    for piece, mel in zip(pieces, found, strict=True):
        first = round(piece.start * 100)
        assert mel == pytest.approx(whole[first : first + len(mel)], abs=0.1)
    (long,) = audio.build(path, [Piece(0.0, 3600.0)])
    assert isinstance(long, Reject)
    assert long.error == "TooLarge"


def test_mp3_is_read_on_and_a_window_depends_on_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rate, opened = 8000, []
    path = write(tmp_path / "a.mp3", np.random.default_rng(0).normal(0, 0.1, 30 * rate).astype(np.float32), rate)
    monkeypatch.setattr("pipelines.media.sound.MP3_RUN", 10.0)
    audio = Audio(Options(frames=100))
    pieces = audio.probe(path)
    alone = [next(iter(audio.build(path, [piece]))).parts["mel.npy"] for piece in pieces[::-1]][::-1]
    real = soundfile.SoundFile
    monkeypatch.setattr("soundfile.SoundFile", lambda *given: opened.append(given) or real(*given))
    together = [sample.parts["mel.npy"] for sample in audio.build(path, pieces)]
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))
    assert (len(pieces), len(opened)) == (30, 4)  # its header, and three runs of ten seconds


def test_layers_come_from_the_stored_window_and_only_those_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(440, 1.0, 16000), 16000)
    sample = build_one(path)
    assert Audio.facts.keys() == sample.parts["json"].keys()
    parts = {name: encode_part(name, part) for name, part in sample.parts.items()}
    found = Audio(Options()).look(parts)
    assert all((found[name] == sample.parts[f"{name}.npy"]).all() for name in ("energy", "flux"))
    audio = Audio(Options(), layers=["flux"])
    (one,) = audio.build(path, audio.probe(path))
    assert set(sample.parts) - set(one.parts) == {"energy.npy"}
    assert list(audio.look(parts)) == ["flux"]
    assert one.shape == sample.shape
    for stored in (b"no array", encode_part("mel.npy", np.zeros((4, 128), np.float64))):
        with pytest.raises(Reject) as caught:
            audio.look({"mel.npy": stored})
        assert caught.value.error == "Corrupt"


@pytest.mark.parametrize("count", [400, 559, 560, 16000, 163_840])
def test_mels_are_those_of_kaldi_to_the_last_bit(count: int) -> None:
    samples = np.random.default_rng(count).normal(0, 0.1, count).astype(np.float32)
    mel = kaldi.fbank(
        torch.from_numpy(samples)[None],
        sample_frequency=16_000,
        num_mel_bins=128,
        window_type="hanning",
        frame_shift=10,
        dither=0.0,
        use_energy=False,
        htk_compat=True,
    )
    assert (log_mels(samples) == mel.numpy().astype(np.float16)).all()


def test_a_header_that_promises_too_much(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(440, 1.0, 8000), 8000)
    (reject,) = Audio(Options()).build(path, [Piece(start=10.24, end=20.48)])
    assert isinstance(reject, Reject)
    assert reject.error == "Empty"


def test_a_cut_file_gives_what_is_there(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.int16(tone(440, 3.0, 16000) * 20000).tobytes())
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 3])
    assert build_one(str(tmp_path / "cut.wav")).parts["json"]["seconds"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="MMMASK_REAL_DATA is not set")
def test_real_files() -> None:
    paths = sorted(path for path in Path(REAL, "audio").rglob("*") if path.suffix in Audio.suffixes)
    paths = [path for path in paths if path.parent.name != "fsdd"] + [p for p in paths if p.parent.name == "fsdd"][::25]
    for path in paths:
        for sample in build(str(path)):
            assert isinstance(sample, Sample), (path, sample)
            assert np.isfinite(sample.parts["mel.npy"]).all()
    assert len(paths) > 50
