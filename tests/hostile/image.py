"""Pictures."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hostile import ACCEPTED, Hostile, common, hostile, noise, sparse

RGB = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def picture(kind: str, values: np.ndarray = RGB, **options: Any) -> bytes:
    """Return a good picture."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, data: bytes, *before: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """Return a PNG whose header says what it is told to."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    """Return a JPEG whose frame header says another size."""
    data = bytearray(picture("JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def gif_of_frames(path: Path) -> None:
    """Write a GIF of 100,000 frames of one pixel."""
    image = b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    with path.open("wb") as file:
        file.write(b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff")
        file.write(image * 100_000 + b";")


def files() -> Iterator[Hostile]:
    """Yield the files."""
    jpeg, png_, gif, webp, tiff, bmp = (picture(kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"))
    some = (ACCEPTED, "Corrupt")
    yield from common(
        ".jpg", jpeg, cuts={0.001: ("UnknownFormat", "Corrupt"), 0.05: ("Corrupt",), 0.5: ("Corrupt",), 0.99: some}
    )
    yield from common(
        ".png", png_, cuts={0.0005: ("UnknownFormat",), 0.002: ("Corrupt",), 0.5: ("Corrupt",), 0.99: some}
    )
    yield from common(".gif", gif, cuts={0.001: ("Corrupt", "UnknownFormat"), 0.5: some})
    yield from common(".webp", webp, cuts={0.01: ("Corrupt",), 0.5: some})
    yield from common(".tif", tiff, cuts={0.001: ("Corrupt",), 0.5: ("Corrupt",)})
    yield from common(".bmp", bmp, cuts={0.001: ("UnknownFormat", "Corrupt"), 0.5: some})
    yield hostile("noise.jpg", noise(5000), "UnknownFormat")
    yield hostile("zeros.png", bytes(5000), "UnknownFormat")
    yield hostile("one byte.jpg", b"\xff", "UnknownFormat")
    yield hostile("noise behind its header.jpg", jpeg[:200] + noise(3000), *some)
    yield hostile("noise behind its header.png", png_[:60] + noise(3000), "Corrupt")
    yield hostile("noise behind its header.webp", webp[:40] + noise(3000), *some)
    yield hostile("bomb.png", png(60_000, 60_000, b""), "TooLarge")
    yield hostile("bomb.jpg", jpeg_of_size(60_000, 60_000), "TooLarge")
    yield hostile("2^31 wide.png", png(2**31 - 1, 1, b""), "TooLarge")
    yield hostile("no pixels.png", png(0, 0, b""), "Corrupt", "UnknownFormat")
    yield hostile("no pixels.jpg", jpeg_of_size(0, 0), "Corrupt", "UnknownFormat")
    yield hostile("larger than its data.png", png(2000, 2000, bytes(100)), "Corrupt", ACCEPTED)
    yield hostile("larger than its data.jpg", jpeg_of_size(9000, 9000), *some)
    yield hostile("smaller than its data.png", png(4, 4, bytes(10_000_000)), *some)
    yield hostile("unpacks to 100 MB.png", png(4, 4, bytes(100_000_000)), *some)
    yield hostile(
        "a comment that unpacks to 100 MB.png",
        png(4, 4, bytes(52), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
        *some,
        "TooLarge",
    )
    yield hostile("17 bits.png", png(4, 4, bytes(100), depth=17), "Corrupt", "UnknownFormat", "Unsupported")
    yield hostile("wrong sum.png", png_[:40] + bytes([png_[40] ^ 1]) + png_[41:], *some)
    yield hostile("long and thin.png", picture("PNG", np.zeros((1, 60_000, 3), np.uint8)), "Unsupported")
    yield hostile("high and thin.png", picture("PNG", np.zeros((60_000, 1, 3), np.uint8)), "Unsupported")
    yield hostile("one pixel.png", picture("PNG", RGB[:1, :1]))
    yield hostile("100,000 frames.gif", gif_of_frames)
    yield hostile(
        "gif bomb.gif", b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;", "TooLarge", "Corrupt"
    )
    yield hostile("not numbers.tif", picture("TIFF", np.full((20, 20), np.nan, np.float32)))
    yield hostile("infinite.tif", picture("TIFF", np.full((20, 20), np.inf, np.float32)))
    yield hostile("a loop of directories.tif", tiff[:-4] + struct.pack("<I", struct.unpack("<I", tiff[4:8])[0]), *some)
    yield hostile("directory beyond the end.tif", tiff[:4] + b"\xff\xff\xff\x7f" + tiff[8:], "Corrupt")
    yield hostile("exif of noise.jpg", picture("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + noise(60)), *some)
    yield hostile(
        "orientation 77.jpg", picture("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x4d\0\0\0\0\0\0\0")
    )
    yield hostile("profile of noise.jpg", picture("JPEG", icc_profile=noise(500)))
    yield hostile("a jpeg.png", jpeg)
    yield hostile("a png.jpg", png_)
    yield hostile("a jpeg.tga", jpeg)
    yield hostile("noise.tga", noise(3000), "Corrupt", "UnknownFormat", "TooLarge", "Unsupported", ACCEPTED)
    yield hostile(
        "bomb.tga", bytes([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 24, 0]), "TooLarge", "Corrupt"
    )
    yield hostile("bomb.ppm", b"P6 99999 99999 255\n", "TooLarge")
    yield hostile("digits.ppm", b"P6 " + b"9" * 5000 + b" 1 255\n", "Corrupt", "UnknownFormat")
    yield hostile("bomb.bmp", bmp[:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + bmp[26:], "TooLarge")
    yield hostile(
        "negative.bmp", bmp[:18] + struct.pack("<ii", -80, -60) + bmp[26:], "Corrupt", "TooLarge", "UnknownFormat"
    )
    yield hostile("bomb.ico", b"\0\0\1\0\xff\xff" + noise(200), "Corrupt", "UnknownFormat", "TooLarge")
    yield hostile("script.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n", "Unsupported")
    yield hostile("script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n", "Unsupported")
    yield hostile(
        "entities.svg",
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><svg>&b;</svg>',
        "Unsupported",
        "UnknownFormat",
    )
    yield hostile("page.jpg", b"<html><body>404 Not Found</body></html>", "UnknownFormat")
    yield hostile("sound.jpg", b"RIFF\x24\0\0\0WAVEfmt " + bytes(60), "WrongModality")
    yield hostile("film.jpg", b"\0\0\0\x18ftypmp42" + bytes(60), "WrongModality")
    yield hostile("archive.jpg", b"PK\3\4" + noise(100), "Unsupported")
    yield hostile("code.jpg", b"cos\nsystem\n(S'touch /tmp/owned'\ntR.", "UnknownFormat")
    yield hostile("more than a picture file may have.jpg", sparse((1 << 30) + 1, jpeg), "TooLarge")
    yield hostile("a picture and a gigabyte.png", sparse(1 << 30, png_))
