"""The photographs that scikit-image and scikit-learn carry inside their packages: nothing is downloaded."""

from functools import lru_cache
from importlib.resources import files

from PIL import Image

COLOUR = {
    "astronaut": ("skimage.data", "astronaut.png"),
    "cat": ("skimage.data", "chelsea.png"),
    "china": ("sklearn.datasets.images", "china.jpg"),
    "coffee": ("skimage.data", "coffee.png"),
    "flower": ("sklearn.datasets.images", "flower.jpg"),
    "galaxies": ("skimage.data", "hubble_deep_field.jpg"),
    "motorcycle": ("skimage.data", "motorcycle_left.png"),
    "retina": ("skimage.data", "retina.jpg"),
    "rocket": ("skimage.data", "rocket.jpg"),
    "tissue": ("skimage.data", "ihc.png"),
}
GREY = {
    "brick": ("skimage.data", "brick.png"),
    "camera": ("skimage.data", "camera.png"),
    "coins": ("skimage.data", "coins.png"),
    "grass": ("skimage.data", "grass.png"),
    "gravel": ("skimage.data", "gravel.png"),
    "moon": ("skimage.data", "moon.png"),
}
PHOTOS = COLOUR | GREY


@lru_cache
def photo(name: str) -> Image.Image:
    """The photograph `name`, one of `PHOTOS`: mode RGB or L, 300 to 1411 pixels a side."""
    package, file = PHOTOS[name]
    with files(package).joinpath(file).open("rb") as stream, Image.open(stream) as image:
        image.load()
        return image
