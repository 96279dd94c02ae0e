"""JPEG → shorter side 256 with antialiasing → JPEG of quality 90, 4:2:0."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks.bare import Bare, Made

SIZE = 256
QUALITY = 90


def simplejpeg_torch(path: Path) -> Iterator[Made]:
    """Decode at full size, resize bicubically."""
    yield 1, {"jpg": _encode(_resized(simplejpeg.decode_jpeg(path.read_bytes())))}


def simplejpeg_torch_scaled(path: Path) -> Iterator[Made]:
    """Decode at half, a quarter or an eighth of the size where that is enough, resize bicubically."""
    rgb = simplejpeg.decode_jpeg(path.read_bytes(), min_height=SIZE, min_width=SIZE, min_factor=2)
    yield 1, {"jpg": _encode(_resized(rgb))}


def torchvision(path: Path) -> Iterator[Made]:
    from torchvision.io import decode_jpeg, encode_jpeg, read_file
    from torchvision.transforms.v2.functional import InterpolationMode, resize

    rgb = decode_jpeg(read_file(str(path)))
    jpeg = encode_jpeg(resize(rgb, [SIZE], InterpolationMode.BICUBIC, antialias=True), QUALITY)
    yield 1, {"jpg": jpeg.numpy().tobytes()}


def opencv(path: Path) -> Iterator[Made]:
    import cv2

    cv2.setNumThreads(1)
    bgr = np.asarray(cv2.imread(str(path)))
    height, width = _target(*bgr.shape[:2])
    _, jpeg = cv2.imencode(".jpg", cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA), [1, QUALITY])
    yield 1, {"jpg": jpeg.tobytes()}


def pillow_draft(path: Path) -> Iterator[Made]:
    with Image.open(path) as picture:
        picture.draft("RGB", (SIZE, SIZE))
        height, width = _target(picture.height, picture.width)
        picture.resize((width, height), Image.Resampling.BICUBIC).save(jpeg := io.BytesIO(), "JPEG", quality=QUALITY)
    yield 1, {"jpg": jpeg.getvalue()}


def _target(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, SIZE / min(height, width))
    return round(height * scale), round(width * scale)


def _resized(rgb: np.ndarray) -> np.ndarray:
    batch = torch.from_numpy(rgb)[None].permute(0, 3, 1, 2)
    out = F.interpolate(batch, size=_target(*rgb.shape[:2]), mode="bicubic", antialias=True)
    return np.ascontiguousarray(out[0].permute(1, 2, 0).numpy())


def _encode(rgb: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(rgb, quality=QUALITY, colorsubsampling="420")


CANDIDATES: dict[str, Bare] = {
    "simplejpeg + torch, DCT scaling": simplejpeg_torch_scaled,
    "simplejpeg + torch": simplejpeg_torch,
    "torchvision.io": torchvision,
    "OpenCV": opencv,
    "Pillow with draft": pillow_draft,
}
