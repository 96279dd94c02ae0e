"""Sounds."""

import io
import struct
from collections.abc import Iterator

import numpy as np
import soundfile

from hostile import ACCEPTED, Hostile, common, hostile, noise, sparse

WAVE = (np.sin(np.arange(16_000) / 20) / 2).astype(np.float32)


def sound(kind: str, wave: np.ndarray = WAVE, rate: int = 16_000, subtype: str | None = None) -> bytes:
    """Return a good file."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, subtype=subtype)
    return file.getvalue()


def wav(data: bytes, *, channels: int = 1, rate: int = 16_000, bits: int = 16, tag: int = 1, size: int = -1) -> bytes:
    """Return a WAV file whose header says what it is told to."""
    align = min(channels * bits // 8, 65535)
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    told = len(data) if size < 0 else size
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", told) + data
    return b"RIFF" + struct.pack("<I", min(4 + len(body), 2**32 - 1)) + body


def files() -> Iterator[Hostile]:
    """Yield the files."""
    some, pcm = (ACCEPTED, "Corrupt"), (WAVE * 32767).astype("<i2").tobytes()
    damaged = ("Corrupt", "UnknownFormat", "Empty", "TooShort", "Unsupported")
    yield from common(".wav", sound("WAV"), cuts={0.0001: damaged, 0.001: damaged, 0.5: (ACCEPTED,), 0.99: (ACCEPTED,)})
    yield from common(".flac", sound("FLAC"), cuts={0.001: damaged, 0.5: some, 0.99: some})
    yield from common(".ogg", sound("OGG"), cuts={0.01: damaged, 0.5: (*some, *damaged), 0.99: (*some, *damaged)})
    yield from common(".mp3", sound("MP3"), cuts={0.01: damaged, 0.5: some, 0.99: some})
    yield hostile("noise.wav", noise(5000), "UnknownFormat")
    yield hostile("noise.mp3", noise(5000), "UnknownFormat", "Corrupt", "Empty", "TooShort", ACCEPTED)
    yield hostile("zeros.flac", bytes(5000), "UnknownFormat", "Corrupt")
    yield hostile("noise behind its header.flac", sound("FLAC")[:60] + noise(4000), *some)
    yield hostile("noise behind its header.ogg", sound("OGG")[:60] + noise(4000), *damaged)
    yield hostile("4 GB by its header.wav", wav(pcm, size=2**32 - 1), *some)
    yield hostile("4 GB of silence.wav", sparse(4 << 30, wav(b"", size=2**32 - 100, channels=8, rate=192_000)), *some)
    yield hostile("no samples.wav", wav(b""), "Empty", "TooShort")
    yield hostile("one sample.wav", wav(b"\0\0"), "TooShort")
    yield hostile("no channels.wav", wav(pcm, channels=0), *damaged)
    yield hostile("1024 channels.wav", wav(pcm, channels=1024), *damaged)
    yield hostile("65535 channels.wav", wav(pcm, channels=65535), *damaged)
    yield hostile("no rate.wav", wav(pcm, rate=0), *damaged)
    yield hostile("1 Hz.wav", wav(pcm, rate=1), *damaged)
    yield hostile("4 GHz.wav", wav(pcm, rate=2**32 - 1), *damaged)
    yield hostile("16001 Hz.wav", wav(pcm, rate=16_001))
    yield hostile("999983 Hz.wav", wav(pcm * 4, rate=999_983), ACCEPTED)
    yield hostile("no bits.wav", wav(pcm, bits=0), *damaged)
    yield hostile("7 bits.wav", wav(pcm, bits=7), *damaged, ACCEPTED)
    yield hostile("unknown codec.wav", wav(pcm, tag=0x1234), *damaged)
    yield hostile("not numbers.wav", sound("WAV", np.full(16_000, np.nan, np.float32), subtype="FLOAT"), "Corrupt")
    yield hostile(
        "half not numbers.wav", sound("WAV", np.where(WAVE > 0, np.nan, WAVE).astype(np.float32), subtype="FLOAT")
    )
    yield hostile("infinite.wav", sound("WAV", np.full(16_000, np.inf, np.float32), subtype="FLOAT"), *some)
    yield hostile("loud.wav", sound("WAV", WAVE * 1e30, subtype="FLOAT"))
    yield hostile("loud doubles.wav", sound("WAV", WAVE.astype(np.float64) * 1e300, subtype="DOUBLE"), *some)
    yield hostile("silence.wav", wav(bytes(32_000)))
    yield hostile("a wav.mp3", sound("WAV"))
    yield hostile("a flac.wav", sound("FLAC"))
    yield hostile("raw.wav", pcm, "UnknownFormat", "Corrupt")
    yield hostile("tag of 256 MB.mp3", b"ID3\4\0\0\x7f\x7f\x7f\x7f" + noise(1000), *damaged)
    yield hostile("tags of tags.mp3", b"ID3\4\0\0\0\0\0\0" * 2000 + sound("MP3"), *some, *damaged)
    yield hostile("chunks.wav", b"RIFF\xff\xff\xff\xffWAVE" + b"LIST\0\0\0\0" * 20_000, *damaged)
    yield hostile("no data.wav", wav(b"")[:36], *damaged)
    yield hostile(
        "playlist.mp3", b"#EXTM3U\nfile:///etc/passwd\nhttp://127.0.0.1:9/a.mp3\n", "UnknownFormat", "Corrupt"
    )
    yield hostile("playlist.m4a", b"ffconcat version 1.0\nfile /etc/passwd\n", "UnknownFormat", "Corrupt")
    yield hostile("picture.wav", b"\x89PNG\r\n\x1a\n" + noise(500), "WrongModality")
    yield hostile("table.wav", b"PAR1" + noise(500), "WrongModality")
    yield hostile("letters.wav", b"hello " * 500, "UnknownFormat", "Corrupt")
    yield hostile("page.ogg", b"<html>404</html>", "UnknownFormat")
    yield hostile("a sound.exe", sound("WAV"), ACCEPTED, "UnknownFormat", "Unsupported")
