"""Films."""

import functools
import io
import struct
from collections.abc import Iterator

import av
import numpy as np

from hostile import ACCEPTED, Hostile, common, hostile, noise, sparse


@functools.cache
def film(kind: str = "mp4", codec: str = "libx264", frames: int = 40, side: int = 64, rate: int = 10) -> bytes:
    """Return a good file."""
    file = io.BytesIO()
    rng = np.random.default_rng(0)
    still = rng.integers(0, 256, (side * 2, side * 2, 3), np.uint8)
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(still[number % side :][:side, :side]))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def patched(data: bytes, box: bytes, offset: int, value: bytes) -> bytes:
    """Return an MP4 with bytes changed at an offset behind the name of a box."""
    place = data.index(box) + 4 + offset
    return data[:place] + value + data[place + len(value) :]


def files() -> Iterator[Hostile]:
    """Yield the files."""
    mp4, mkv, avi, ts = film(), film("matroska"), film("avi", "mpeg4"), film("mpegts", "mpeg2video")
    some = (ACCEPTED, "Corrupt", "Empty", "TooShort", "Unsupported", "WrongModality", "TooLarge")
    damaged = some[1:]
    yield from common(
        ".mp4", mp4, cuts={0.0005: (*damaged, "UnknownFormat"), 0.01: damaged, 0.5: damaged, 0.99: damaged}
    )
    yield from common(
        ".mkv", mkv, cuts={0.001: (*damaged, "UnknownFormat"), 0.02: damaged, 0.5: (ACCEPTED,), 0.99: (ACCEPTED,)}
    )
    yield from common(".avi", avi, cuts={0.01: damaged, 0.5: some, 0.99: (ACCEPTED,)})
    yield from common(".ts", ts, cuts={0.01: (*some, "UnknownFormat"), 0.5: (ACCEPTED,), 0.99: (ACCEPTED,)})
    yield hostile("noise.mp4", noise(5000), "UnknownFormat", "Corrupt")
    yield hostile("zeros.mkv", bytes(5000), "UnknownFormat", "Corrupt")
    yield hostile("noise behind its header.mkv", mkv[:600] + noise(20_000), *some)
    yield hostile("noise behind its header.avi", avi[:400] + noise(20_000), *some)
    middle = len(mp4) // 4
    yield hostile("noise in the middle.mp4", mp4[:middle] + noise(2000) + mp4[middle + 2000 :], *some)
    yield hostile("nothing in the middle.mkv", mkv[: len(mkv) // 3] + bytes(5000) + mkv[len(mkv) // 3 + 5000 :], *some)
    yield hostile("13 years by its header.mp4", patched(mp4, b"mdhd", 12, b"\0\0\0\1\xff\xff\xff\xff"), *some)
    yield hostile("no seconds.mp4", patched(mp4, b"mdhd", 16, b"\0\0\0\0"), *some)
    yield hostile("no time base.mp4", patched(mp4, b"mdhd", 12, b"\0\0\0\0"), *some)
    yield hostile("65535 wide.mp4", patched(mp4, b"avc1", 24, struct.pack(">HH", 65535, 65535)), *some)
    yield hostile("no pixels.mp4", patched(mp4, b"avc1", 24, bytes(4)), *some)
    yield hostile("many samples.mp4", patched(mp4, b"stsz", 4, struct.pack(">II", 1, 2**32 - 1)), *some)
    yield hostile("huge samples.mp4", patched(mp4, b"stsz", 4, struct.pack(">I", 2**31 - 1)), *some)
    yield hostile("samples elsewhere.mp4", patched(mp4, b"stco", 8, b"\xff\xff\xff\xff"), *some)
    yield hostile("samples of a long time.mp4", patched(mp4, b"stts", 8, struct.pack(">II", 40, 2**31 - 1)), *some)
    yield hostile("other codec.mp4", mp4.replace(b"avc1", b"xxxx"), *some)
    yield hostile("box in a box.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\xff\xffmoov" * 5000, *damaged)
    yield hostile("box of no size.mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\0\1moov" + bytes(8), *damaged)
    yield hostile("one frame.mp4", film(frames=1), "TooShort")
    yield hostile("8 pixels.mp4", film(side=8, codec="mpeg4"), "Unsupported")
    yield hostile("1000 a second.mkv", film("matroska", "mpeg4", rate=1000, frames=400))
    yield hostile("an mkv.mp4", mkv)
    yield hostile("an mp4.avi", mp4)
    yield hostile("a film.exe", mp4, ACCEPTED, "UnknownFormat", "Unsupported")
    yield hostile(
        "playlist.mp4",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n",
        "UnknownFormat",
        "Corrupt",
    )
    yield hostile("playlist.ts", b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n", "UnknownFormat", "Corrupt")
    yield hostile("concat.avi", b"ffconcat version 1.0\nfile /dev/zero\n", "UnknownFormat", "Corrupt")
    yield hostile(
        "manifest.webm", b'<?xml version="1.0"?><MPD><BaseURL>file:///etc/passwd</BaseURL></MPD>', "UnknownFormat"
    )
    yield hostile("references.mov", b"\0\0\0\x14ftypqt  \0\0\0\0qt  \0\0\0\x20moov\0\0\0\x18rmra" + noise(16), *damaged)
    yield hostile("sound.mp4", b"RIFF\x24\0\0\0WAVEfmt " + bytes(60), "WrongModality", "Corrupt")
    yield hostile("picture.mp4", b"\x89PNG\r\n\x1a\n" + noise(500), "WrongModality")
    yield hostile("raw.y4m", b"YUV4MPEG2 W100000 H100000 F25:1 C420\nFRAME\n" + bytes(1000), *damaged, "UnknownFormat")
    yield hostile("numbers.y4m", b"YUV4MPEG2 W-5 H99999999999 F0:0\nFRAME\n", *damaged, "UnknownFormat")
    yield hostile("4 GB of nothing.mp4", sparse(4 << 30, b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"), *damaged)
