"""Crops of real photographs at several scales and places, half of them flipped; the label is the photograph.

Crops of one photograph overlap. Where training and held-out samples are parted file by file, what is held out
has therefore been seen in part: good enough for a demonstration, not for a claim.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from examples.samples.photos import PHOTOS, photo

CROPS = 32
COUNT = CROPS * len(PHOTOS)
SHORTEST, LONGEST = 160, 256
ORIENTATION_TAG = 0x0112
# For each EXIF orientation the opposite of what a viewer does with it, so that the crop is shown upright.
UNDO = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def make(index: int, folder: Path) -> None:
    """Write crop `index`: of every eight six plain JPEG, one JPEG turned by its EXIF tag, one PNG or WebP."""
    name = list(PHOTOS)[index // CROPS]
    rng = np.random.default_rng([1, index])
    crop = random_crop(photo(name), rng)
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    stem = f"{name}_{index % CROPS:02}"
    match index % 8:
        case 3:
            orientation = int(rng.choice(list(UNDO)))
            exif = Image.Exif()
            exif[ORIENTATION_TAG] = orientation
            crop.transpose(UNDO[orientation]).save(target / f"{stem}.jpg", quality=92, exif=exif)
        case 7 if index % 16 == 7:
            crop.save(target / f"{stem}.png")
        case 7:
            crop.save(target / f"{stem}.webp", quality=90)
        case _:
            crop.save(target / f"{stem}.jpg", quality=92)


def random_crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A part of `image`, up to the whole, resized to 160-256 pixels a side and perhaps flipped."""
    width, height = rng.integers(SHORTEST, LONGEST, size=2, endpoint=True)
    largest = min(image.width / width, image.height / height)
    scale = np.exp(rng.uniform(min(0, np.log(largest)), np.log(largest)))
    wide, high = width * scale, height * scale
    left, top = rng.uniform(0, image.width - wide), rng.uniform(0, image.height - high)
    box = (left, top, left + wide, top + high)
    crop = image.resize((int(width), int(height)), Image.Resampling.LANCZOS, box)
    return ImageOps.mirror(crop) if rng.random() < 0.5 else crop
