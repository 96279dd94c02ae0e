"""A mask layer stays on what it was made for, through crop, flip and resize."""

import io

import av
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from mmmask.batch import View
from mmmask.data.augment import Crop, random_crop
from mmmask.modality import get_modality
from shard_tools.schema import Layer

KINDS = {
    "light": Layer(kind="scalar", cell=[8, 8], dtype="uint8", scale=0.01, algorithm="drawn"),
    "part": Layer(kind="label", cell=[8, 8], dtype="uint8", algorithm="drawn"),
    "there": Layer(kind="flag", cell=[8, 8], dtype="uint8", algorithm="drawn"),
}
SIZES = [(32, 4), (64, 8), (48, 16), (96, 32)]  # crop and patch: from less than a lattice cell a token to many


def picture(height: int, width: int, top: int, left: int, cells: int) -> dict[str, object]:
    """Return a sample: a white square on black on a lattice of 8 pixels, and the layers that say where it is."""
    lattice = np.zeros((-(-height // 8), -(-width // 8)), np.uint8)
    lattice[top : top + cells, left : left + cells] = 1
    pixels = np.kron(lattice, np.ones((8, 8), np.uint8))[:height, :width] * 255
    file = io.BytesIO()
    Pillow.fromarray(pixels).convert("RGB").save(file, "PNG")
    layers = {"light.npy": lattice * 100, "part.npy": lattice * 7, "there.npy": lattice}
    return {"png": file.getvalue(), "json": {}, **layers}


def image_view(sample: dict[str, object], size: int, patch: int, seed: int, train: bool = True) -> View:
    cls = get_modality("image")
    spec = {"mean": [0.5] * 3, "std": [0.2] * 3, "layers": {name: layer.model_dump() for name, layer in KINDS.items()}}
    return cls(cls.Options(size=size, patch=patch), spec).view(sample, np.random.default_rng(seed), train)


@pytest.mark.parametrize("size, patch", SIZES)
def test_layers_follow_the_picture(size: int, patch: int) -> None:
    seen = 0
    for seed in range(60):
        rng = np.random.default_rng([size, seed])
        sample = picture(*rng.integers(90, 260, 2), *rng.integers(0, 8, 2), int(rng.integers(2, 12)))
        view = image_view(sample, size, patch, seed, train=seed % 4 > 0)
        grid = size // patch
        white = (view.values["patch"].float().mean(1) / 255).reshape(grid, grid).numpy()
        light, part, there = (view.layers[name].reshape(grid, grid) for name in KINDS)
        assert there[white > 0.05].all(), "a flag says any-touch"
        around = np.pad(white, 1).astype(bool)
        near = np.logical_or.reduce([np.roll(around, step, axis)[1:-1, 1:-1] for step in (-1, 0, 1) for axis in (0, 1)])
        assert near[there > 0].all()
        # A centre inside the square has at least a quarter of its token in there; one outside, at most half.
        assert (part[white > 0.55] == 7).all() and (part[white < 0.2] == 0).all()
        assert np.abs(light - white).max() < 0.3 and np.abs(light - white).mean() < 0.06
        seen += white.any() and not white.all()
    assert seen > 30


def test_a_flip_mirrors_the_layer_with_the_picture() -> None:
    values = torch.arange(12.0).reshape(1, 1, 3, 4)
    layer = Layer(kind="label", cell=[8, 8], dtype="uint8", algorithm="drawn")
    plain, mirrored = (Crop(0, 0, 1, 1, flip).layer(values, layer, (3, 4), (3, 4)) for flip in (False, True))
    assert torch.equal(plain, values) and torch.equal(mirrored, values.flip(-1))


def test_the_last_cells_may_hang_over_the_edge() -> None:
    layer = Layer(kind="label", cell=[8, 8], dtype="uint8", algorithm="drawn")
    values = torch.arange(4.0).reshape(1, 1, 1, 4)  # of a picture 26 pixels wide
    read = Crop(0, 0, 1, 1).layer(values, layer, (1, 3.25), (1, 13))
    assert read.flatten().tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3]


def test_a_random_crop_has_the_size_and_shape_asked_for() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        crop = random_crop(rng, 120, 200, (0.2, 0.5), True)
        assert 0 <= crop.top <= crop.top + crop.height <= 1 and 0 <= crop.left <= crop.left + crop.width <= 1
        whole = crop.height < 1 and crop.width < 1
        assert not whole or 0.19 <= crop.height * crop.width <= 0.51
        assert not whole or 0.73 <= crop.width * 200 / (crop.height * 120) <= 1.36


# Video: the same in time, and vectors

STEP = (6, -4)  # pixels a frame to the right and down
VIDEO = {
    "motion": Layer(kind="vector", cell=[1, 16, 16], dtype="uint8", scale=0.5, offset=-64, algorithm="drawn"),
    "motion_valid": Layer(kind="flag", cell=[1, 16, 16], dtype="uint8", algorithm="drawn"),
    "when": Layer(kind="scalar", cell=[1, 16, 16], dtype="uint8", algorithm="drawn"),
    "shot": Layer(kind="label", cell=[1, 16, 16], dtype="uint8", algorithm="drawn"),
}
FRAMES, HEIGHT, WIDTH = 12, 144, 192


@pytest.fixture(scope="module")
def clip() -> dict[str, object]:
    """A clip of a white square that moves by STEP a frame on a ground that gets lighter frame by frame."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            pixels = np.full((HEIGHT, WIDTH, 3), 4 * number, np.uint8)
            y, x = 80 + STEP[1] * number, 60 + STEP[0] * number
            pixels[y : y + 24, x : x + 24] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())
    lattice = (FRAMES, HEIGHT // 16, WIDTH // 16)
    when = np.broadcast_to(np.arange(FRAMES, dtype=np.uint8)[:, None, None], lattice)
    motion = np.stack([np.full(lattice, step / 0.5 + 128, np.uint8) for step in STEP])
    return {
        "mp4": file.getvalue(),
        "json": {"frames": FRAMES, "height": HEIGHT, "width": WIDTH},
        "motion.npy": motion,
        "motion_valid.npy": (when > 0).astype(np.uint8),
        "when.npy": when,
        "shot.npy": (when > 5).astype(np.uint8),
    }


def video_view(sample: dict[str, object], seed: int, **options: object) -> View:
    cls = get_modality("video")
    spec = {"mean": [0.5] * 3, "std": [0.2] * 3, "layers": {name: layer.model_dump() for name, layer in VIDEO.items()}}
    options = {"size": 64, "patch": 8, "tube": 2, "frames": 8, **options}
    return cls(cls.Options(**options), spec).view(sample, np.random.default_rng(seed), True)


@pytest.mark.parametrize("size, patch, stride", [(64, 8, 1), (96, 8, 1), (64, 16, 2)])
def test_motion_is_how_far_the_square_goes_on_the_token_grid(
    clip: dict[str, object], size: int, patch: int, stride: int
) -> None:
    signs = set()
    for seed in range(12):
        view = video_view(clip, seed, size=size, patch=patch, stride=stride, frames=4, scale=(0.7, 1.0))
        side = size // patch
        tubes = view.values["patch"].float().reshape(2, side, side, 2, patch, patch, 3).mean(-1)
        frames = tubes.permute(0, 3, 1, 4, 2, 5).reshape(4, size, size)
        square = (frames > 150).float()
        if square[:, [0, -1]].any() or square[:, :, [0, -1]].any():
            continue  # cut by the crop: its centre is not where the square's is
        place = torch.arange(size) / patch
        centre = torch.stack([(square.sum(1) @ place), (square.sum(2) @ place)], 1) / square.sum((1, 2))[:, None]
        moved = centre.diff(dim=0).mean(0) / stride  # grid cells a frame of the stored clip
        told = [view.layers[f"motion_{axis}"] for axis in "xy"]
        assert all(np.ptp(values) < 1e-4 for values in told)
        assert np.allclose([values[0] for values in told], moved, rtol=0.1, atol=0.02)
        signs.add(np.sign(told[0][0]))
    assert signs == {-1.0, 1.0}, "mirrored or not, vectors go with the pixels"


@pytest.mark.parametrize("stride, tube", [(1, 2), (1, 4), (2, 2)])
def test_layers_follow_the_clip_in_time(clip: dict[str, object], stride: int, tube: int) -> None:
    starts = set()
    for seed in range(6):
        view = video_view(clip, seed, stride=stride, tube=tube, frames=4)
        ground = view.values["patch"].float().reshape(4 // tube, 64, -1).median(1).values.mean(1) / 4
        when, valid, shot = (view.layers[name].reshape(4 // tube, 64) for name in ("when", "motion_valid", "shot"))
        assert np.abs(when.mean(1) - ground.numpy()).max() < 0.3 and np.ptp(when, axis=1).max() < 1e-5
        frames = when[0, 0] - (tube - 1) / 2 * stride + np.arange(4) * stride
        assert np.array_equal(valid[:, 0], (frames.reshape(-1, tube) > 0.5).any(1))
        assert set(np.unique(shot)) <= {0.0, 1.0}, "a label is never mixed of two"
        starts.add(round(float(frames[0])))
    assert len(starts) > 1


def test_a_clip_that_is_too_short_repeats_its_last_frame(clip: dict[str, object]) -> None:
    view = video_view(clip, 0, frames=16)
    when = view.layers["when"].reshape(8, 64)[:, 0]
    assert when.tolist() == [0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 11, 11]


# Audio: frames in place of rows


def test_layers_follow_the_sound() -> None:
    frames = 300
    mel = np.zeros((frames, 128), np.float16)
    energy = np.zeros((frames // 4, 8), np.uint8)
    mel[120:152, 32:64], energy[30:38, 2:4] = 10, 10
    cls = get_modality("audio")
    layer = Layer(kind="scalar", cell=[4, 16], dtype="uint8", algorithm="drawn")
    spec = {"mean": 0.0, "std": 1.0, "layers": {"energy": layer.model_dump()}}
    for seed in range(20):
        view = cls(cls.Options(frames=128), spec).view(
            {"mel.npy": mel, "energy.npy": energy}, np.random.default_rng(seed), True
        )
        loud = view.values["patch"].float().mean(1).reshape(8, 8).numpy()
        told = view.layers["energy"].reshape(8, 8)
        assert np.abs(told - loud).max() < 4 and np.abs(told - loud).mean() < 0.6


def test_a_sound_shorter_than_a_patch_is_one() -> None:
    cls = get_modality("audio")
    view = cls(cls.Options(), {"mean": 0.0, "std": 1.0, "layers": {}}).view(
        {"mel.npy": np.ones((3, 128), np.float16)}, np.random.default_rng(0), True
    )
    assert len(view) == 8 and (view.values["patch"] == 1).all()
