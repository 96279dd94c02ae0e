"""Pictures: any common format → upright RGB JPEG (or PNG), shorter side 256, with saliency and regions.

JPEG files go a fast way: simplejpeg decodes them at the smallest DCT scale that is still large enough, torch resizes
with antialiasing, simplejpeg encodes. Everything else goes through Pillow.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from PIL import Image as Pillow
from PIL import ImageCms, UnidentifiedImageError
from pydantic import Field

from pipelines.layers import regions, saliency
from pipelines.statistics import mean_std, moments
from shard_tools.schema import Part

from . import base
from .base import Modality, Piece, Reject, Sample
from .sniff import HEAD_BYTES, sniff, unknown

CELL = 8
MAX_PIXELS = 178_956_970  # Pillow's own bound for a decompression bomb
MAX_SIDE = 65_500  # of a JPEG
MAX_FILE_BYTES = 1 << 30
ORIENTATION = 0x0112

# No PostScript, WMF or FITS: they start other programs or are not pictures.
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TIFF", "WEBP")
SNIFFED = ("AVIF", "GIF", "JPEG", "JPEG 2000", "PNG", "TIFF", "WebP")  # those of them that `sniff` knows
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
    layers = {"saliency": saliency.SPEC, "regions": regions.SPEC}  # noqa: RUF012 - as the base class declares

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = self.options
        self.parts = {
            options.format: Part(
                description=f"RGB picture, upright, shorter side at most {options.size}", unit="pixel"
            ),
            "json": Part(
                description="source, label, group, start, end, width, height, source_width, source_height, source_mode"
            ),
        }
        torch.set_num_threads(1)

    def probe(self, path: str) -> list[Piece]:
        """Return the one sample of a picture, from its header. Raises Reject."""
        with _open(path) as picture:
            width, height = picture.size
        scale = min(1.0, self.options.size / min(width, height))
        bits = 2.5 if self.options.format == "jpg" else 14
        return [Piece(bytes=int(width * height * scale**2 * bits / 8) + 8192)]

    def build(self, path: str, pieces: Sequence[Piece]) -> Iterator[Sample | Reject]:
        """Yield the picture's sample. Raises Reject."""
        rgb, header = _read(path, self.options.size)
        height, width = rgb.shape[:2]
        reduced = _reduce(rgb)
        layers = {"saliency.npy": saliency.saliency(reduced), "regions.npy": regions.regions(reduced)}
        for _ in pieces:
            yield Sample(
                parts={
                    self.options.format: self._encode(rgb, full_chroma=header.pop("full_chroma")),
                    "json": {"width": width, "height": height, **header},
                    **layers,
                },
                shape=layers["saliency.npy"].shape,
                summary=moments(rgb[CELL // 2 :: CELL, CELL // 2 :: CELL].reshape(-1, 3) / 255),
            )

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


def _open(path: str) -> Pillow.Image:
    """Return the picture with only its header read. Raises Reject."""
    file = Path(path)
    try:
        if (size := file.stat().st_size) > MAX_FILE_BYTES:
            raise Reject("TooLarge", f"{size:,} bytes; a picture file may have {MAX_FILE_BYTES:,}")
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise Reject("Unreadable", f"cannot be opened: {error.strerror}") from None
    formats = (*FORMATS, "TGA") if file.suffix.lower() == ".tga" else FORMATS  # TGA has no magic bytes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Pillow.open(path, formats=formats)
    except UnidentifiedImageError:
        raise _unidentified(head) from None
    except Pillow.DecompressionBombError:
        raise Reject("TooLarge", f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # plugins raise anything on damaged files
        raise Reject("Corrupt", f"its header cannot be read: {error}") from None
    width, height = picture.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise Reject("TooLarge", f"{width}×{height} pixels; at most {MAX_PIXELS:,} and {MAX_SIDE:,} a side")
    if not width or not height:
        raise Reject("Corrupt", f"{width}×{height} pixels")
    return picture


def _unidentified(head: bytes) -> Reject:
    _, name = sniff(head)
    if name in SNIFFED:
        return Reject("Corrupt", f"starts like a {name} file, but its header is damaged or cut short")
    return unknown(head, "image")


def _read(path: str, size: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the picture as upright RGB, uint8 [height, width, 3], shorter side at most `size`, and facts about it.

    The facts: what the part json says of the source, and full_chroma. Raises Reject.
    """
    with _open(path) as picture, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            mode, source_format = picture.mode, picture.format
            full_chroma = source_format not in ("WEBP", "AVIF")
            rgb = None
            if source_format in ("JPEG", "MPO") and mode in ("L", "RGB"):
                full_chroma, rgb = _decode_jpeg(Path(path).read_bytes(), size)
            width, height = picture.size
            if rgb is None:
                picture.load()
                width, height = picture.size
                rgb = _to_rgb(picture)
            orientation = picture.getexif().get(ORIENTATION, 1)  # after load: Pillow turns TIFF files itself
        except Exception as error:
            raise Reject("Corrupt", f"cannot be decoded: {error or type(error).__name__}") from None
    scale = min(1.0, size / min(width, height))
    rgb = _upright(_resize(rgb, round(height * scale), round(width * scale)), orientation)
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    header = {"source_width": width, "source_height": height, "source_mode": mode}
    return rgb, header | {"full_chroma": full_chroma}


def _decode_jpeg(data: bytes, size: int) -> tuple[bool, np.ndarray | None]:
    """Return (has full chroma, RGB at a DCT scale whose sides are at least `size`); None where Pillow must try."""
    try:
        _, _, _, chroma = simplejpeg.decode_jpeg_header(data)
        # Scaling by less than 2 costs more than it saves.
        rgb = simplejpeg.decode_jpeg(data, min_height=size, min_width=size, min_factor=2)
        return chroma == "444", rgb
    except ValueError:  # strict: damage that Pillow may or may not read past
        return False, None


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
    batch = torch.from_numpy(rgb).permute(2, 0, 1)[None]  # channels last: torch's fast way for uint8
    out = F.interpolate(batch, size=(max(height, 1), max(width, 1)), mode="bicubic", antialias=True)
    return np.ascontiguousarray(out[0].permute(1, 2, 0).numpy())


def _reduce(rgb: np.ndarray) -> np.ndarray:
    """Return rgb at a pixel a lattice cell, edges repeated to whole cells: uint8 [ceil(H/8), ceil(W/8), 3]."""
    height, width = rgb.shape[:2]
    padded = np.pad(rgb, ((0, -height % CELL), (0, -width % CELL), (0, 0)), mode="edge")
    return _resize(padded, padded.shape[0] // CELL, padded.shape[1] // CELL)


def _upright(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """Return rgb turned as the EXIF orientation 1..8 asks; others are taken for 1."""
    if orientation in (5, 6, 7, 8):
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)
