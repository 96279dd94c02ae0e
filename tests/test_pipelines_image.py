"""The builder of pictures: every format upright, in its right colours, with its layers."""

import hashlib
import io
import os
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps

from pipelines.layers.pool import shrink
from pipelines.layers.regions import MIN_SIZE, regions
from pipelines.layers.saliency import SPEC, saliency
from pipelines.modality import Piece, Reject, Sample
from pipelines.modality.image import Image, Options
from shard_tools.errors import Misuse
from shard_tools.tar import encode_part

GOLDEN_REGIONS = 83, "2f8fb549af290e5d"  # the last label, and of the bytes: they change with the layer's version only


def picture(width: int = 400, height: int = 300) -> Pillow.Image:
    """Return a picture without symmetry: red grows to the right, green downwards, a blue square top left."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([255 * x // width, 255 * y // height, np.zeros_like(x)], axis=-1).astype(np.uint8)
    rgb[: height // 4, : width // 4, 2] = 255
    return Pillow.fromarray(rgb)


def make(path: Path, **options: Any) -> Sample:
    builder = Image(Options(**options))
    (sample,) = builder.build(str(path), builder.probe(str(path)))
    assert isinstance(sample, Sample)
    return replace(sample, parts=sample.contents())


def rgb(sample: Sample) -> np.ndarray:
    """Return what was stored, as float [height, width, 3] of 0..255."""
    with Pillow.open(io.BytesIO(sample.parts.get("jpg") or sample.parts["png"])) as stored:
        assert stored.mode == "RGB"
        return np.asarray(stored, np.float32)


def expected(original: Pillow.Image, sample: Sample) -> np.ndarray:
    """Return the original at the size of the sample, by another library's resize."""
    height, width = rgb(sample).shape[:2]
    return np.asarray(original.convert("RGB").resize((width, height), Pillow.Resampling.BICUBIC), np.float32)


def reject(path: Path) -> Reject:
    with pytest.raises(Reject) as caught:
        make(path)
    return caught.value


@pytest.mark.parametrize("options", [{}, {"format": "png"}, {"size": 1024}])
def test_what_a_picture_that_is_not_here_will_weigh(tmp_path: Path, options: dict[str, Any]) -> None:
    builder = Image(Options(**options))
    for name, size in (("large", (1800, 1200)), ("small", (96, 64))):
        picture(*size).save(path := tmp_path / f"{name}.jpg", quality=95)
        (here,), (there,) = builder.probe(str(path)), builder.expect(path.stat().st_size)
        assert here.bytes / 5 < there.bytes < 5 * here.bytes, name
    assert builder.expect(-1)[0].bytes == builder.expect(10**9)[0].bytes


def test_a_strip_is_turned_away_though_nobody_has_probed_it(tmp_path: Path) -> None:
    picture(4100, 40).save(tmp_path / "a.jpg")
    with pytest.raises(Reject, match="times as long as wide"):
        list(Image(Options()).build(str(tmp_path / "a.jpg"), [Piece()]))


FORMATS: list[tuple[str, str, dict[str, Any]]] = [
    *(
        (suffix, "RGB", {})
        for suffix in ("jpg", "png", "webp", "tiff", "bmp", "gif", "avif", "jp2", "ppm", "tga", "qoi")
    ),
    ("jpg", "RGB", {"progressive": True}),
    ("jpg", "RGB", {"subsampling": 0}),
    ("jpg", "CMYK", {}),
    ("tiff", "CMYK", {}),
    ("png", "P", {}),
    ("png", "RGBA", {}),
    ("tiff", "LAB", {}),
]


@pytest.mark.parametrize(("suffix", "mode", "save"), FORMATS)
def test_every_format_keeps_its_colours(tmp_path: Path, suffix: str, mode: str, save: dict[str, Any]) -> None:
    original = picture()
    if mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        stored = ImageCms.profileToProfile(original, srgb, lab, outputMode="LAB")
    else:
        stored = original.convert(mode)
    assert stored
    stored.save(tmp_path / f"a.{suffix}", **save)
    sample = make(tmp_path / f"a.{suffix}")
    assert rgb(sample).shape == (256, 341, 3)
    assert sample.shape == (32, 43)
    coarse = suffix == "gif" or mode == "P"  # a palette of 256 colours, dithered
    assert np.abs(rgb(sample) - expected(original, sample)).mean() < (12 if coarse else 4)
    facts = sample.parts["json"]
    assert (facts["source_width"], facts["source_height"], facts["width"], facts["height"]) == (400, 300, 341, 256)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    turn = {
        2: "FLIP_LEFT_RIGHT",
        3: "ROTATE_180",
        4: "FLIP_TOP_BOTTOM",
        5: "TRANSPOSE",
        6: "ROTATE_90",
        7: "TRANSVERSE",
        8: "ROTATE_270",
    }
    original = picture()
    lying = original.transpose(Pillow.Transpose[turn[orientation]]) if orientation > 1 else original
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    lying.save(tmp_path / f"a.{suffix}", exif=exif)
    with Pillow.open(tmp_path / f"a.{suffix}") as check:
        assert ImageOps.exif_transpose(check).size == original.size
    sample = make(tmp_path / f"a.{suffix}")
    assert np.abs(rgb(sample) - expected(original, sample)).mean() < 5
    assert (sample.parts["json"]["source_width"], sample.parts["json"]["source_height"]) == original.size


@pytest.mark.parametrize("exif", [{}, {0x010F: "a maker"}])
def test_orientation_may_stand_in_xmp(tmp_path: Path, exif: dict[int, str]) -> None:
    original, tags = picture(), Pillow.Exif()
    tags.update(exif)
    lying = original.transpose(Pillow.Transpose.ROTATE_90)
    lying.save(tmp_path / "a.jpg", exif=tags, xmp=b'<rdf:Description tiff:Orientation="6"/>')
    assert np.abs(rgb(sample := make(tmp_path / "a.jpg")) - expected(original, sample)).mean() < 5


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
@pytest.mark.parametrize("size", [(4000, 3000), (640, 480), (1000, 257)])
def test_large_jpegs_decoded_at_a_smaller_scale_lose_nothing(tmp_path: Path, size: tuple[int, int], mode: str) -> None:
    picture(*size).convert(mode).save(tmp_path / "a.jpg", quality=95)
    sample = make(tmp_path / "a.jpg")
    assert min(rgb(sample).shape[:2]) == 256
    assert np.abs(rgb(sample) - expected(picture(*size), sample)).mean() < 3


def test_small_pictures_are_not_enlarged(tmp_path: Path) -> None:
    for size in ((1, 1), (3, 200), (100, 20), (255, 400)):
        picture(*size).save(tmp_path / "a.png")
        sample = make(tmp_path / "a.png", format="png")
        np.testing.assert_array_equal(rgb(sample), np.asarray(picture(*size)))
        assert sample.shape == (-(-size[1] // 8), -(-size[0] // 8))


def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    for mode, clear in (("RGBA", (255, 0, 0, 0)), ("LA", (0, 0))):
        Pillow.new(mode, (20, 20), clear).save(tmp_path / "a.png")
        assert rgb(make(tmp_path / "a.png")).min() > 250
    palette = Pillow.new("P", (20, 20), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(tmp_path / "a.png", transparency=1)
    assert rgb(make(tmp_path / "a.png")).min() > 250


@pytest.mark.parametrize(
    ("suffix", "dtype", "top"),
    [("png", np.uint16, 65535), ("tiff", np.uint16, 65535), ("tiff", np.uint16, 4095), ("tiff", np.float32, 1.0),
     ("tiff", np.float32, 255.0), ("tiff", np.int32, 65535), ("pgm", np.int32, 65535)],
)  # fmt: skip
def test_more_than_eight_bits_are_scaled_to_eight(tmp_path: Path, suffix: str, dtype: type, top: float) -> None:
    ramp = np.tile(np.linspace(0, 1, 200), (100, 1))
    Pillow.fromarray((ramp * top).astype(dtype)).save(tmp_path / f"a.{suffix}")
    stored = rgb(make(tmp_path / f"a.{suffix}", format="png"))
    assert np.abs(stored - 255 * ramp[..., None]).max() <= 1.5


def test_chroma_is_kept_where_the_source_has_it(tmp_path: Path) -> None:
    picture().save(tmp_path / "full.png")
    picture().save(tmp_path / "half.jpg", subsampling=2)
    for name, layout in (("full.png", (1, 1)), ("half.jpg", (2, 2))):
        with Pillow.open(io.BytesIO(make(tmp_path / name).parts["jpg"])) as stored:
            assert stored.layer[0][1:3] == layout


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Pillow.new("RGB", (30, 30), colour) for colour in ("red", "lime", "blue")]
    for suffix in ("gif", "png", "webp", "tiff"):
        frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
        assert rgb(make(tmp_path / f"a.{suffix}")).mean((0, 1)) == pytest.approx([255, 0, 0], abs=4)


def test_statistics_are_those_of_the_pixels(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    sample = make(tmp_path / "a.png")
    statistics = Image(Options()).statistics(sample.summary)
    assert statistics["mean"] == pytest.approx((rgb(sample).mean((0, 1)) / 255).tolist(), abs=0.02)
    assert statistics["std"] == pytest.approx((rgb(sample).std((0, 1)) / 255).tolist(), abs=0.02)


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.jpg")
    first, second = make(tmp_path / "a.jpg"), make(tmp_path / "a.jpg")
    assert first.parts["jpg"] == second.parts["jpg"]
    for layer in ("saliency.npy", "regions.npy"):
        np.testing.assert_array_equal(first.parts[layer], second.parts[layer])


def test_what_is_not_a_picture_says_what_it_is(tmp_path: Path) -> None:
    whole = io.BytesIO()
    picture().save(whole, "JPEG")
    heic = b"\0\0\0\x18ftypheic" + bytes(60)
    cases = {
        "empty.jpg": (b"", "Empty", "no bytes"),
        "text.jpg": (b"hello world, this is text", "UnknownFormat", "hello"),
        "film.jpg": (b"\0\0\0\x20ftypisom" + bytes(60), "WrongModality", "video (MP4)"),
        "song.png": (b"RIFF\x24\0\0\0WAVEfmt ", "WrongModality", "audio (WAV)"),
        "phone.heic": (heic, "Unsupported", "HEIC"),
        "paper.jpg": (b"%PDF-1.7\n", "Unsupported", "PDF"),
        "cut.jpg": (whole.getvalue()[:3000], "Corrupt", "truncated"),
        "cut.png": (b"\x89PNG\r\n\x1a\n", "Corrupt", "header"),
    }
    for name, (data, error, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        caught = reject(tmp_path / name)
        assert (caught.error, message in caught.message) == (error, True), (name, str(caught))


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    picture(8, 8).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    for width, height in ((60_000, 60_000), (100_000, 10)):
        data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        (tmp_path / "bomb.png").write_bytes(data)
        with pytest.raises(Reject, match="TooLarge"):
            Image(Options()).probe(str(tmp_path / "bomb.png"))


def test_saliency_stands_where_the_odd_one_is() -> None:
    rng = np.random.default_rng(0)
    reduced = np.full((32, 40, 3), 90, np.uint8) + rng.integers(0, 9, (32, 40, 3), np.uint8)
    reduced[20:23, 30:33] = (250, 40, 40)
    found = saliency(reduced)
    assert found.dtype == np.uint8 and found.shape == (32, 40)
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert 19 <= y <= 23 and 29 <= x <= 33
    assert found.mean() * SPEC.scale == pytest.approx(1, abs=0.2)  # less what is clipped
    assert not saliency(np.full((4, 1, 3), 77, np.uint8)).any()


def test_regions_are_those_of_the_colours() -> None:
    reduced = np.zeros((32, 40, 3), np.uint8)
    reduced[:, 20:] = (200, 30, 30)
    reduced[10:20, 25:35] = (30, 30, 220)
    found = regions(reduced)
    assert found.dtype == np.uint16 and found.shape == (32, 40)
    left, right, inside = found[:, :18], found[:, 38:], found[12:18, 27:33]
    assert all((area == area[0, 0]).all() for area in (left, right, inside))
    assert len({left[0, 0], right[0, 0], inside[0, 0]}) == 3
    assert sorted(np.unique(found)) == list(range(found.max() + 1))
    assert regions(np.zeros((1, 1, 3), np.uint8)).tolist() == [[0]]


def test_saliency_of_many_pictures_is_that_of_each() -> None:
    rng = np.random.default_rng(1)
    clip = rng.integers(0, 256, (2, 3, 16, 29, 1), np.uint8)
    clip[0, 0] = 128
    each = [saliency(frame) for frame in clip.reshape(-1, 16, 29, 1)]
    np.testing.assert_array_equal(saliency(clip), np.reshape(each, (2, 3, 16, 29)))
    clip.flags.writeable = False
    assert saliency(clip[..., ::-1, :]).shape == (2, 3, 16, 29)


def test_saliency_is_the_image_signature() -> None:
    """Against the paper's formula in floating point."""
    from scipy import fft, ndimage

    reduced = np.random.default_rng(2).integers(0, 256, (33, 43, 3), np.uint8)
    planes = np.moveaxis(reduced.astype(np.float64), 2, 0)
    spectrum = fft.dctn(planes - planes.mean((1, 2), keepdims=True), axes=(1, 2), norm="ortho")
    signature = np.sign(np.where(np.abs(spectrum) > 0.25, spectrum, 0))
    energy = (fft.idctn(signature, axes=(1, 2), norm="ortho") ** 2).mean(0)
    expected = np.clip(np.rint(ndimage.gaussian_filter(energy, 1.25) / SPEC.scale), 0, 255)
    assert np.abs(saliency(reduced) - expected).max() <= 1


def test_golden_regions() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 11, 3), np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    found = regions(coarse + rng.integers(0, 24, coarse.shape, np.uint8))
    assert (int(found.max()), hashlib.sha256(found.tobytes()).hexdigest()[:16]) == GOLDEN_REGIONS


def test_regions_are_connected_and_not_too_small() -> None:
    from scipy import ndimage

    reduced = np.random.default_rng(3).integers(0, 256, (32, 43, 3), np.uint8) // 64 * 64
    found = regions(reduced)
    for label in range(found.max() + 1):
        assert ndimage.label(found == label, np.ones((3, 3)))[1] == 1
    assert np.bincount(found.ravel()).min() >= MIN_SIZE
    first = [int(np.flatnonzero(found.ravel() == label)[0]) for label in range(found.max() + 1)]
    assert first == sorted(first)


def test_regions_agree_with_another_implementation() -> None:
    from skimage.data import astronaut
    from skimage.segmentation import felzenszwalb
    from sklearn.metrics import adjusted_rand_score

    reduced = shrink(astronaut(), 16)
    theirs = felzenszwalb(reduced, scale=100, sigma=0.5, min_size=MIN_SIZE)
    assert adjusted_rand_score(theirs.ravel(), regions(reduced).ravel()) > 0.8


@pytest.mark.parametrize("shape", [(1, 1, 3), (16, 24, 3), (17, 9, 1), (255, 341, 3)])
def test_shrinking_takes_the_mean_of_each_cell(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, shape, np.uint8)
    small = shrink(pixels, 8)
    for y, x in np.ndindex(small.shape[:2]):
        mean = pixels[8 * y : 8 * y + 8, 8 * x : 8 * x + 8].mean((0, 1))
        assert np.abs(small[y, x] - mean).max() <= 0.5


def test_functions_are_compiled_where_no_cache_can_be_kept(tmp_path: Path) -> None:
    """A package that somebody else has installed, and a home that cannot be written."""
    lines = [
        "from pipelines.compiled import compiled",
        "@compiled('int64(int64)')",
        "def twice(x): return 2 * x",
    ]
    (tmp_path / "tiny.py").write_text("\n".join(lines))
    for blocked in ("__pycache__", "home"):  # files: no folder can be made there, not even by root
        (tmp_path / blocked).touch()
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME"), str(tmp_path / "home"))
    done = subprocess.run(
        [sys.executable, "-c", "import tiny; print(tiny.twice(21), tiny.twice.signatures)"],
        cwd=tmp_path,
        env={**os.environ, **homes},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "42 [(int64,)]\n", done.stderr


def test_only_the_layers_asked_for_are_built(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.jpg")
    for names in ([], ["regions"], ["saliency"]):
        builder = Image(Options(), layers=names)
        (sample,) = builder.build(str(tmp_path / "a.jpg"), builder.probe(str(tmp_path / "a.jpg")))
        assert isinstance(sample, Sample)
        assert list(builder.layers) == names
        assert set(sample.parts) == {"jpg", "json", *(f"{name}.npy" for name in names)}
        assert sample.shape == (32, 43)
    with pytest.raises(Misuse, match="saliency"):
        Image(Options(), layers=["salience"])


@pytest.mark.parametrize("format", ["jpg", "png"])
def test_layers_of_a_stored_picture(tmp_path: Path, format: str) -> None:
    picture().save(tmp_path / "a.jpg")
    sample = make(tmp_path / "a.jpg", format=format)
    parts = {name: encode_part(name, value) for name, value in sample.parts.items()}
    found = Image(Options(), layers=["saliency"]).look(parts)
    assert list(found) == ["saliency"]
    assert found["saliency"].shape == sample.shape
    if format == "png":
        np.testing.assert_array_equal(found["saliency"], sample.parts["saliency.npy"])
    for damaged in (parts[format][:200], b"", b"no picture"):
        with pytest.raises(Reject):
            Image(Options()).look({format: damaged})


def test_json_has_the_facts_that_are_declared(tmp_path: Path) -> None:
    picture().convert("L").save(tmp_path / "a.jpg")
    sample = make(tmp_path / "a.jpg")
    facts = sample.parts["json"]
    assert isinstance(facts, dict)
    assert set(facts) == set(Image.facts)
    assert facts["source_mode"] == "L"


def test_a_jpeg_turned_by_xmp_alone_is_turned(tmp_path: Path) -> None:
    lying = picture().transpose(Pillow.Transpose.ROTATE_90)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    lying.save(tmp_path / "a.jpg", xmp=xmp)
    sample = make(tmp_path / "a.jpg")
    assert np.abs(rgb(sample) - expected(picture(), sample)).mean() < 5


@pytest.mark.real
@pytest.mark.skipif("MMMASK_REAL_DATA" not in os.environ, reason="MMMASK_REAL_DATA names no folder of real files")
def test_real_pictures_build() -> None:
    files = sorted(file for file in Path(os.environ["MMMASK_REAL_DATA"], "image").rglob("*") if file.is_file())
    for file in files[:: max(1, len(files) // 400)]:
        if file.suffix == ".md":
            assert reject(file).error == "UnknownFormat"
            continue
        sample = make(file)
        assert sample.shape == tuple(-(-side // 8) for side in rgb(sample).shape[:2])
        assert sample.parts["saliency.npy"].shape == sample.parts["regions.npy"].shape == sample.shape
