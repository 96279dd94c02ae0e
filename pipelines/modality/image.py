"""Pictures: any common format → upright RGB JPEG (or PNG), shorter side 256, with saliency and regions.

JPEG files go a fast way: simplejpeg decodes them at the smallest DCT scale that is still large enough, torch resizes
with antialiasing, simplejpeg encodes. Everything else goes through Pillow.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Literal

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from PIL import Image as Pillow
from PIL import ImageCms, UnidentifiedImageError
from pydantic import Field

from pipelines.layers import regions, saliency
from pipelines.layers.pool import shrink
from pipelines.statistics import mean_std
from pipelines.sums import moments
from shard_tools.schema import Part

from . import base
from .base import Modality, Piece, Reject, Sample
from .sniff import HEAD_BYTES, sniff, unknown

CELL = 8
MAX_PIXELS = 178_956_970  # Pillow's own bound for a decompression bomb
MAX_SIDE = 65_500  # of a JPEG
MAX_ASPECT = 100  # saliency takes time and memory with the square of the longer side
MAX_FILE_BYTES = 1 << 30
MOST_PIXELS = 16  # in a byte of a file, about: a JPEG of half a bit a pixel is a poor one
ORIENTATION = 0x0112
TURNS = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
START_OF_SCAN, APP1 = b"\xda", b"\xe1"  # markers of a JPEG
EXIF, XMP_ORIENTATION = b"Exif\0\0", b"tiff:Orientation"
# libjpeg's name → Pillow's, of those that take the fast way
JPEG_MODES = {"Gray": "L", "YCbCr": "RGB", "RGB": "RGB", "CMYK": "CMYK", "YCCK": "CMYK"}

# Pillow tries them in this order. No PostScript, WMF or FITS: they start other programs or are not pictures.
FORMATS = ("JPEG", "PNG", "AVIF", "BMP", "GIF", "ICO", "JPEG2000", "PCX", "PPM", "QOI", "SGI", "TIFF", "WEBP")
SNIFFED = ("AVIF", "GIF", "JPEG", "JPEG 2000", "PNG", "TIFF", "WebP")  # those of them that `sniff` knows
ALGORITHMS = {"saliency": saliency.saliency, "regions": regions.regions}
SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".jp2", ".j2k"),
        *(".ico", ".pcx", ".ppm", ".pgm", ".pbm", ".pnm", ".qoi", ".sgi", ".tga"),
    )
)


class Options(base.Options):
    """What a user may choose about pictures."""

    size: int = Field(256, ge=16, le=8192, description="shorter side in pixels; smaller pictures are not enlarged")
    quality: int = Field(90, ge=1, le=100, description="JPEG quality")
    format: Literal["jpg", "png"] = Field("jpg", description="how pictures are stored")


class Image(Modality[Options]):
    """The builder of pictures."""

    name = "image"
    suffixes = SUFFIXES
    Options = Options
    one_sample = True
    facts = {"width": -1, "height": -1, "source_width": -1, "source_height": -1, "source_mode": ""}  # noqa: RUF012 - as
    layers = {"saliency": saliency.SPEC, "regions": regions.SPEC}  # noqa: RUF012 - the base class declares

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = self.options
        self.parts = {
            options.format: Part(
                description=f"RGB picture, upright, shorter side at most {options.size}", unit="pixel"
            ),
            "json": Part(description="source, label, group, start, end, " + ", ".join(self.facts)),
        }
        torch.set_num_threads(1)

    def probe(self, path: str) -> list[Piece]:
        """Return the one sample of a picture, from its header. Raises Reject."""
        with _file(path) as stream, _open(stream, path) as picture:
            width, height = picture.size
        scale = min(1.0, self.options.size / min(width, height))
        return [self._piece(width * height * scale**2)]

    def expect(self, size: int) -> list[Piece]:
        """Return the one sample of a picture that is not here: of 3:2, and not larger than its file may hold."""
        pixels = 1.5 * self.options.size**2
        return [self._piece(min(pixels, size * MOST_PIXELS) if size >= 0 else pixels)]

    def _piece(self, pixels: float) -> Piece:
        bits = 2.5 if self.options.format == "jpg" else 14
        return Piece(bytes=int(pixels * bits / 8) + 8192)

    def build(self, path: str, pieces: Sequence[Piece]) -> Iterator[Sample | Reject]:
        """Yield the picture's sample. Raises Reject."""
        with _file(path) as stream:
            rgb, full_chroma, facts = _read(stream, path, self.options.size)
        height, width = rgb.shape[:2]
        layers = {f"{name}.npy": layer for name, layer in self._layers(rgb).items()}
        payload: dict[str, Any] = {self.options.format: self._encode(rgb, full_chroma=full_chroma)}
        pixels = rgb[CELL // 2 :: CELL, CELL // 2 :: CELL].reshape(-1, 3)
        for _ in pieces:
            yield Sample(
                parts={**payload, "json": {"width": width, "height": height, **facts}, **layers},
                shape=(-(-height // CELL), -(-width // CELL)),
                summary=moments(pixels, 255),
            )

    def look(self, parts: Mapping[str, bytes]) -> dict[str, np.ndarray]:
        """Return the layers of a stored picture; they see what JPEG has left of it. Raises Reject."""
        stored = parts.get("jpg") or parts.get("png") or b""
        rgb, _, _ = _read(io.BytesIO(stored), "", MAX_SIDE)
        return {name: layer() for name, layer in self._layers(rgb).items()}

    def _layers(self, rgb: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
        """Return functions that work out the layers."""
        if not self.layers:
            return {}
        reduced = shrink(rgb, CELL)
        return {name: partial(ALGORITHMS[name], reduced) for name in self.layers}

    def statistics(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Return {'mean': [3], 'std': [3]} of pixels 0..1."""
        return mean_std(summary)

    def _encode(self, rgb: np.ndarray, *, full_chroma: bool) -> bytes:
        if self.options.format == "jpg":
            chroma = "444" if full_chroma else "420"
            return simplejpeg.encode_jpeg(rgb, quality=self.options.quality, colorsubsampling=chroma)
        file = io.BytesIO()
        Pillow.fromarray(rgb).save(file, "PNG")
        return file.getvalue()


def _file(path: str) -> BinaryIO:
    """Return an open file. Raises Reject."""
    try:
        return open(path, "rb")
    except OSError as error:
        raise Reject("Unreadable", f"cannot be opened: {error.strerror}") from None


def _open(stream: BinaryIO, path: str) -> Pillow.Image:
    """Return the picture with only its header read. path: its suffix tells what its bytes do not. Raises Reject."""
    try:
        size = stream.seek(0, io.SEEK_END)
    except OSError as error:
        raise Reject("Unreadable", f"is no ordinary file: {error.strerror}") from None
    if size > MAX_FILE_BYTES:
        raise Reject("TooLarge", f"{size:,} bytes; a picture file may have {MAX_FILE_BYTES:,}")
    stream.seek(0)
    formats = (*FORMATS, "TGA") if path.lower().endswith(".tga") else FORMATS  # TGA has no magic bytes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Pillow.open(stream, formats=formats)
    except UnidentifiedImageError:
        stream.seek(0)
        raise _unidentified(stream.read(HEAD_BYTES)) from None
    except Pillow.DecompressionBombError:
        raise Reject("TooLarge", f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # plugins raise anything on damaged files
        raise Reject("Corrupt", f"its header cannot be read: {error}") from None
    width, height = picture.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise Reject("TooLarge", f"{width}×{height} pixels; at most {MAX_PIXELS:,} and {MAX_SIDE:,} a side")
    if not width or not height:
        raise Reject("Corrupt", f"{width}×{height} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Reject("Unsupported", f"{width}×{height} pixels; at most {MAX_ASPECT} times as long as wide")
    return picture


def _unidentified(head: bytes) -> Reject:
    _, name = sniff(head)
    if name in SNIFFED:
        return Reject("Corrupt", f"starts like a {name} file, but its header is damaged or cut short")
    return unknown(head, "image")


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A picture: RGB, uint8 [H, W, 3], perhaps at a smaller scale than it has, and what its file says of it."""

    rgb: np.ndarray
    width: int
    height: int
    mode: str
    full_chroma: bool
    orientation: int


def _read(stream: BinaryIO, path: str, size: int) -> tuple[np.ndarray, bool, dict[str, Any]]:
    """Return a picture, whether its chroma is not subsampled, and what the part json says of it.

    The picture is upright RGB, uint8 [height, width, 3], its shorter side at most `size`. Raises Reject.
    """
    found = _decode_jpeg(stream, size) or _decode(stream, path)
    width, height = found.width, found.height
    scale = min(1.0, size / min(width, height))
    rgb = _upright(_resize(found.rgb, round(height * scale), round(width * scale)), found.orientation)
    if found.orientation in (5, 6, 7, 8):
        width, height = height, width
    return rgb, found.full_chroma, {"source_width": width, "source_height": height, "source_mode": found.mode}


def _decode_jpeg(stream: BinaryIO, size: int) -> _Decoded | None:
    """Return a JPEG at a DCT scale whose sides are at least `size`; None for all that Pillow must look at."""
    if stream.read(3) != b"\xff\xd8\xff" or stream.seek(0, io.SEEK_END) > MAX_FILE_BYTES:
        return None
    stream.seek(0)
    data = stream.read()
    try:
        height, width, colours, chroma = simplejpeg.decode_jpeg_header(data)
        if (mode := JPEG_MODES.get(colours)) is None or not _is_common(width, height):
            return None
        orientation = _orientation(data)
        # Scaling by less than 2 costs more than it saves.
        rgb = simplejpeg.decode_jpeg(data, min_height=size, min_width=size, min_factor=2)
    except Exception:  # strict: damage that Pillow may or may not read past
        return None
    return _Decoded(rgb, width, height, mode, chroma == "444", orientation)


def _is_common(width: int, height: int) -> bool:
    """Return whether a picture has a size that `_open` accepts."""
    longer, shorter = max(width, height), min(width, height)
    return 0 < longer <= min(MAX_SIDE, MAX_ASPECT * shorter) and width * height <= MAX_PIXELS


def _orientation(data: bytes) -> int:
    """Return how a JPEG lies by its EXIF or XMP, 1 where it does not say. Raises what Pillow raises on damage.

    To have Pillow open the whole file takes three times as long: that is left for what is not plain EXIF.
    """
    place, segment = 2, b""
    while data[place : place + 1] == b"\xff":
        marker, end = data[place + 1 : place + 2], place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == START_OF_SCAN:
            return 1
        if marker == APP1:
            segment = data[place + 4 : end]
            if segment.startswith(EXIF) or XMP_ORIENTATION in segment:
                break
        place = end
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exif = Pillow.Exif()
        if segment.startswith(EXIF):
            exif.load(segment)
        if ORIENTATION in exif:
            return exif[ORIENTATION]
        with Pillow.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            return picture.getexif().get(ORIENTATION, 1)


def _decode(stream: BinaryIO, path: str) -> _Decoded:
    """Return a picture of any format. Raises Reject."""
    with _open(stream, path) as picture, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            mode = picture.mode
            full_chroma = picture.format not in ("WEBP", "AVIF", "JPEG", "MPO") or mode == "CMYK"
            picture.load()
            width, height = picture.size
            orientation = picture.getexif().get(ORIENTATION, 1)  # after load: Pillow turns TIFF files itself
            return _Decoded(_to_rgb(picture), width, height, mode, full_chroma, orientation)
        except Exception as error:
            raise Reject("Corrupt", f"cannot be decoded: {error or type(error).__name__}") from None


def _to_rgb(picture: Pillow.Image) -> np.ndarray:
    """Return a loaded picture of any mode as uint8 [height, width, 3]; transparency is laid over white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return np.repeat(_to_uint8(np.asarray(picture, np.float32))[..., None], 3, axis=2)
    if picture.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        picture = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB") or picture
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        picture = Pillow.alpha_composite(Pillow.new("RGBA", rgba.size, "white"), rgba)
    return np.array(picture.convert("RGB"))


def _to_uint8(values: np.ndarray) -> np.ndarray:
    """Return values of more than 8 bits as uint8, same shape.

    White is the smallest of 1 (for fractions) and of 8, 10, 12, 14 or 16 bits that holds every value: files keep
    12 bits in 16 and do not say so. Values below 0 or above 16 bits are stretched. NaN is black.
    """
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = min(float(values.min()), 0.0), float(values.max())
    whites = [255.0, 1023.0, 4095.0, 16383.0, 65535.0]
    if (values % 1).any():
        whites.insert(0, 1.0)
    white = high if low < 0 else next((white for white in whites if high <= white), high)
    return np.rint((values - low) * (255 / (white - low or 1.0))).clip(0, 255).astype(np.uint8)


def _resize(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return rgb, uint8 [H, W, 3], resized with antialiasing to uint8 [height, width, 3]."""
    if rgb.shape[:2] == (height, width):
        return rgb
    # The axis of the batch comes first, so that its stride tells torch to keep channels last: half the time.
    batch = torch.from_numpy(rgb)[None].permute(0, 3, 1, 2)
    out = F.interpolate(batch, size=(max(height, 1), max(width, 1)), mode="bicubic", antialias=True)
    return np.ascontiguousarray(out[0].permute(1, 2, 0).numpy())


def _upright(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """Return rgb turned as the EXIF orientation 1..8 asks; others are taken for 1."""
    turn = TURNS.get(orientation)
    return rgb if turn is None else np.asarray(Pillow.fromarray(rgb).transpose(turn))
