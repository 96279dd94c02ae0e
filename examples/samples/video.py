"""Camera moves of known speed over real photographs, encoded with H.264 and AAC; the label is the move.

A pan to the left turns the camera to the left, so the picture's content moves to the right; a camera that
turns clockwise sees it turn anticlockwise. The speed stands in the file name: pixels a second for pans, tilts
and the moving object, percent a second for zooms, degrees a second for turns.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from examples.samples.photos import COLOUR, PHOTOS, photo

WIDTH, HEIGHT = 320, 240
LONGEST_WAY = 360.0  # pixels a camera may travel, so that no photograph is enlarged much
SOUND_RATE = 48000


@dataclass(frozen=True)
class Move:
    """What a unit of speed does to the view in a second, the unit, and the range of speeds."""

    right: float = 0.0  # pixels
    down: float = 0.0  # pixels
    growth: float = 0.0  # of the content's size, natural logarithm
    turn: float = 0.0  # degrees, clockwise
    unit: str = "px"
    slowest: int = 24
    fastest: int = 96


MOVES = {
    "pan_left": Move(right=-1),
    "pan_right": Move(right=1),
    "tilt_up": Move(down=-1),
    "tilt_down": Move(down=1),
    "zoom_in": Move(growth=0.01, unit="percent", slowest=8, fastest=20),
    "zoom_out": Move(growth=-0.01, unit="percent", slowest=8, fastest=20),
    "rotate": Move(turn=1, unit="deg", slowest=8, fastest=30),
    "object": Move(),
}
CLIPS = 6
COUNT = CLIPS * len(MOVES)


def make(index: int, folder: Path) -> None:
    """Write clip `index`: 320x240, 24 or 30 frames a second, 3 to 8 seconds, with sound (mono, 48 kHz)."""
    label = list(MOVES)[index // CLIPS]
    move = MOVES[label]
    rng = np.random.default_rng([2, index])
    name = list(PHOTOS)[index * 7 % len(PHOTOS)]
    speed = int(rng.integers(move.slowest, move.fastest, endpoint=True))
    rate = int(rng.choice([24, 30]))
    seconds = rng.uniform(3, min(8, LONGEST_WAY / speed))
    times = np.arange(round(seconds * rate)) / rate
    if label == "object":
        frames = moving_object(photo(name), speed, times, rng)
    else:
        frames = moving_camera(photo(name), move, speed, times)
    sign = np.sign(move.right - move.down + move.growth + move.turn) or 1
    sound = glide(sign * speed / move.fastest, seconds, rng)
    (folder / label).mkdir(parents=True, exist_ok=True)
    encode(folder / label / f"{label}_{name}_{speed}{move.unit}_per_s.mp4", frames, rate, sound)


def moving_camera(image: Image.Image, move: Move, speed: int, times: np.ndarray) -> Iterator[Image.Image]:
    """Frames of a camera that makes `move` at `speed` over `image`, its path centred on the picture."""
    middle = times - times[-1] / 2
    right, down, turn = (rate * speed * middle for rate in (move.right, move.down, np.deg2rad(move.turn)))
    span = np.exp(-move.growth * speed * times)  # picture pixels a view pixel
    span /= span.max()
    across = np.hypot(WIDTH, HEIGHT) if move.turn else 0
    wide = max(WIDTH + np.ptp(right), across) + 4
    high = max(HEIGHT + np.ptp(down), across) + 4
    factor = max(wide / image.width, high / image.height)
    scene = image.convert("RGB").resize(
        (int(np.ceil(image.width * factor)), int(np.ceil(image.height * factor))), Image.Resampling.LANCZOS
    )
    for x, y, angle, scale in zip(scene.width / 2 + right, scene.height / 2 + down, turn, span, strict=True):
        yield view(scene, x, y, scale, angle)


def view(scene: Image.Image, x: float, y: float, scale: float, angle: float) -> Image.Image:
    """The window of `scene` around (x, y), `scale` scene pixels a pixel, turned by `angle` radians."""
    size, wide, high = (WIDTH, HEIGHT), scale * WIDTH / 2, scale * HEIGHT / 2
    if angle == 0:  # four times as fast
        return scene.resize(size, Image.Resampling.BICUBIC, (x - wide, y - high, x + wide, y + high))
    cos, sin = np.cos(angle), np.sin(angle)
    left, top = x - cos * wide + sin * high, y - sin * wide - cos * high
    matrix = (scale * cos, -scale * sin, left, scale * sin, scale * cos, top)
    return scene.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def moving_object(image: Image.Image, speed: int, times: np.ndarray, rng: np.random.Generator) -> Iterator[Image.Image]:
    """Frames of a still camera before which a disc of another photograph moves and bounces off the edges."""
    back = next(moving_camera(image, Move(), 0, times))
    size = int(rng.integers(56, 96))
    other = photo(str(rng.choice(list(COLOUR)))).convert("RGB")
    disc = other.resize((size, size), Image.Resampling.LANCZOS)
    mask = Image.new("L", disc.size)
    ImageDraw.Draw(mask).ellipse((2, 2, size - 3, size - 3), fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(1))
    angle = rng.uniform(0, 2 * np.pi)
    room = np.array([WIDTH - size, HEIGHT - size])
    way = rng.uniform(0, 1, 2) * room + speed * times[:, None] * [np.cos(angle), np.sin(angle)]
    bounced = room - np.abs(way % (2 * room) - room)
    for x, y in bounced:
        frame = back.copy()
        frame.paste(disc, (round(x), round(y)), mask)
        yield frame


def glide(slope: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Sound float32 [samples]: a tone in noise that rises (below 0: falls) `slope` octaves in two seconds."""
    time = np.arange(int(seconds * SOUND_RATE)) / SOUND_RATE
    pitch = 440 * 2 ** (slope * (time - seconds / 2) / 2)
    phase = 2 * np.pi * np.cumsum(pitch) / SOUND_RATE
    tone = 0.3 * np.sin(phase) + 0.1 * np.sin(2 * phase) + 0.05 * np.sin(3 * phase)
    return (tone + rng.normal(0, 0.02, time.size)).astype(np.float32)


def encode(path: Path, frames: Iterator[Image.Image], rate: int, sound: np.ndarray) -> None:
    """Write `frames` at `rate` a second and `sound` as MP4."""
    # One thread, and none of x264's processor-dependent code: with either the bytes differ from run to run.
    exact = {"threads": "1", "x264-params": "cpu-independent=1"}
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        picture = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "22", **exact})
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        tone = container.add_stream("aac", rate=SOUND_RATE, layout="mono", options={"flags": "+bitexact"})
        block = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        block.sample_rate, block.pts = SOUND_RATE, 0
        container.mux(tone.encode(block))
        container.mux(tone.encode(None))
        for frame in frames:
            container.mux(picture.encode(av.VideoFrame.from_image(frame)))
        container.mux(picture.encode(None))
