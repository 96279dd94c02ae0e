"""Videos: the right frames at the right times, upright, in clips whose bytes repeat, with motion that points right."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from skimage import data

from pipelines.layers import saliency
from pipelines.layers.pool import shrink
from pipelines.media import frames
from pipelines.media.frames import Video as Frames
from pipelines.media.scenes import scene_starts
from pipelines.modality import Piece, Reject, Sample, get_modality
from pipelines.modality.video import Options, Video
from shard_tools.tar import encode_part

PHOTO = data.astronaut()  # 512×512


def pan(count: int, dx: int = 0, dy: int = 0, width: int = 320, height: int = 240) -> Iterator[np.ndarray]:
    """Yield views of a photograph by a camera that moves by (dx, dy) pixels a frame."""
    x, y = (0 if dx >= 0 else -dx * (count - 1)), (0 if dy >= 0 else -dy * (count - 1))
    for _ in range(count):
        yield np.ascontiguousarray(PHOTO[y : y + height, x : x + width])
        x, y = x + dx, y + dy


def numbered(count: int, width: int = 64, height: int = 48) -> Iterator[np.ndarray]:
    """Yield grey frames, each brighter than the one before by 2."""
    for number in range(count):
        yield np.full((height, width, 3), 20 + 2 * number % 220, np.uint8)


def write(
    path: Path,
    frames: Iterator[np.ndarray],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 8,
    stamps: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    rotation: int = 0,
    **properties: object,
) -> str:
    """Write frames with FFmpeg; stamps in milliseconds instead of the rate. Skips the test without the encoder.

    properties: of the encoder, in PyAV's words.
    """
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.pix_fmt = pixels
        for name, value in properties.items():
            setattr(stream.codec_context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, rgb in enumerate(frames):
            if number == 0:
                stream.height, stream.width = rgb.shape[:2]
                stream.codec_context.time_base = Fraction(1, 1000) if stamps else Fraction(1, rate)
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
            frame.pts = stamps[number] if stamps else number
            frame.time_base = Fraction(1, 1000) if stamps else Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


def build(path: str, layers: Sequence[str] | None = None, **options: Any) -> list[Sample | Reject]:
    video = Video(Options(**options), layers=layers)
    return list(video.build(path, video.probe(path)))


def build_one(path: str, **options: Any) -> Sample:
    (sample,) = build(path, **options)
    assert isinstance(sample, Sample)
    return sample


def decode(clip: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(clip)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def median_motion(sample: Sample) -> np.ndarray:
    """Return the median (dx, dy) of the cells where motion is known, in pixels a frame."""
    motion = Video.layers["motion"].decode(sample.parts["motion.npy"])
    return np.median(motion[:, sample.parts["motion_valid.npy"] == 1], axis=1)


@pytest.mark.parametrize(("dx", "dy"), [(5, 0), (-5, 0), (0, 3), (0, -3), (4, -2), (0, 0)])
def test_motion_is_where_the_content_went(tmp_path: Path, dx: int, dy: int) -> None:
    sample = build_one(write(tmp_path / "pan.mp4", pan(20, dx, dy), options={"crf": "12"}))
    assert sample.parts["motion_valid.npy"].mean() > 0.7
    assert median_motion(sample) == pytest.approx([-dx, -dy], abs=0.5)  # the camera goes right, the content left


def test_motion_is_in_pixels_of_the_payload(tmp_path: Path) -> None:
    sample = build_one(write(tmp_path / "pan.mp4", pan(20, 8, 0, 320, 256), options={"crf": "12"}), size=128)
    assert median_motion(sample) == pytest.approx([-4, 0], abs=0.5)


def test_key_frames_have_no_motion(tmp_path: Path) -> None:
    parts = build_one(write(tmp_path / "pan.mp4", pan(20, 5))).parts
    assert not parts["motion_valid.npy"][[0, 16]].any()
    assert (parts["motion.npy"][:, parts["motion_valid.npy"] == 0] == Video.layers["motion"].fill).all()


def test_sample_is_as_the_format_says(tmp_path: Path) -> None:
    sample = build_one(write(tmp_path / "a.mp4", pan(20, 5, width=320, height=300)))
    json = sample.parts["json"]
    assert json == {
        "width": 274, "height": 256, "frames": 20, "fps": 8.0, "source_width": 320, "source_height": 300,
        "source_fps": 8.0, "source_codec": "h264", "source_pixel_aspect": 1.0, "source_transfer": "", "rotation": 0,
    }  # fmt: skip
    assert json.keys() == Video.facts.keys()
    assert sample.shape == (20, 16, 18)
    assert set(sample.parts) == {*Video.parts, *(f"{name}.npy" for name in Video.layers)}
    for name, layer in Video.layers.items():
        part = sample.parts[f"{name}.npy"]
        assert part.dtype == layer.dtype
        assert part.shape == (2, *sample.shape) if layer.kind == "vector" else sample.shape
    with av.open(io.BytesIO(sample.parts["mp4"])) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert (stream.width, stream.height, stream.average_rate) == (274, 256, 8)
        assert stream.codec_context.profile == "High"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert not stream.codec_context.has_b_frames
    assert [frame.key_frame for frame in frames] == [number % 16 == 0 for number in range(20)]
    assert sample.parts["mp4"].index(b"moov") < sample.parts["mp4"].index(b"mdat")
    statistics = get_modality("video")(Options()).statistics(sample.summary)
    pixels = np.stack([frame.to_ndarray(format="rgb24") for frame in frames]) / 255
    assert statistics["mean"] == pytest.approx(pixels.mean((0, 1, 2)), abs=0.03)
    assert statistics["std"] == pytest.approx(pixels.std((0, 1, 2)), abs=0.03)


def test_bytes_repeat_and_do_not_depend_on_the_other_pieces(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", pan(90, 2), rate=8)
    video = Video(Options(frames=32))
    pieces = video.probe(path)
    together = list(video.build(path, pieces))
    alone = [next(iter(video.build(path, [piece]))) for piece in reversed(pieces)][::-1]
    assert len(pieces) == 3
    for one, other in zip(together, alone, strict=True):
        assert one.parts["mp4"] == other.parts["mp4"]
        assert one.parts["json"] == other.parts["json"]
        assert all((one.parts[f"{name}.npy"] == other.parts[f"{name}.npy"]).all() for name in Video.layers)


@pytest.mark.parametrize(
    ("count", "lengths"), [(2, [2]), (5, [5]), (64, [64]), (67, [64]), (72, [64, 8]), (130, [64, 64])]
)
def test_clips(tmp_path: Path, count: int, lengths: list[int]) -> None:
    path = write(tmp_path / "a.mp4", numbered(count), options={"preset": "ultrafast"})
    pieces = Video(Options()).probe(path)
    assert [round((piece.end - piece.start) * 8) for piece in pieces] == lengths
    assert [piece.start for piece in pieces] == [8.0 * number for number in range(len(lengths))]


def test_frame_rates(tmp_path: Path) -> None:
    fast = build_one(write(tmp_path / "fast.mp4", numbered(60), rate=30))
    assert fast.parts["json"]["frames"] == 16
    shown = [frame.mean() for frame in decode(fast.parts["mp4"])]
    assert shown == pytest.approx([20 + 2 * int(number * 30 / 8 + 0.05) for number in range(16)], abs=2)
    slow = build_one(write(tmp_path / "slow.mp4", numbered(10), rate=5))
    assert (slow.parts["json"]["frames"], slow.parts["json"]["fps"]) == (10, 5.0)


def test_variable_frame_rate(tmp_path: Path) -> None:
    stamps = [0, 40, 80, 700, 740, 1500, 1540, 1580, 1620, 2000, 2050, 2100]
    path = write(tmp_path / "vfr.mkv", numbered(len(stamps)), stamps=stamps, options={"bf": "0"})
    times = [0.0, 0.05, 0.3, 0.69, 0.7, 1.45, 1.6, 1.99, 2.1]
    shown = [frame.to_ndarray(format="rgb24").mean() for frame in Frames(path).frames(times)]
    assert shown == pytest.approx([20, 22, 24, 24, 26, 28, 34, 36, 42], abs=1)


CODECS = [
    ("a.mp4", "libx264", "yuv420p", {"x264-params": "keyint=12:open-gop=1:bframes=3"}),
    ("a.ts", "libx264", "yuv420p", {"x264-params": "keyint=12:open-gop=1:bframes=3"}),
    ("a.mkv", "libx264", "yuv420p", {"x264-params": "intra-refresh=1:keyint=12"}),
    ("a.avi", "libx264", "yuv420p", {"bf": "0"}),
    ("a.mov", "libx264", "yuv422p10le", {}),
    ("a.flv", "flv", "yuv420p", {}),
    ("a.mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=none:keyint=12"}),
    ("a.webm", "libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    ("a.webm", "libvpx", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    ("a.mp4", "libsvtav1", "yuv420p", {"preset": "12", "svtav1-params": "keyint=12"}),
    ("a.mp4", "mpeg4", "yuv420p", {"bf": "2", "g": "12"}),
    ("a.avi", "mpeg4", "yuv420p", {"bf": "2", "g": "12"}),
    ("a.mpg", "mpeg2video", "yuv420p", {"bf": "2", "g": "12"}),
    ("a.ts", "mpeg2video", "yuv420p", {"bf": "2", "g": "12"}),
    ("a.wmv", "wmv2", "yuv420p", {}),
    ("a.avi", "mjpeg", "yuvj420p", {}),
]


@pytest.mark.parametrize(("name", "codec", "pixels", "options"), CODECS, ids=[f"{c[1]}-{c[0][2:]}" for c in CODECS])
def test_seeking_finds_what_reading_on_finds(
    tmp_path: Path, name: str, codec: str, pixels: str, options: dict[str, str]
) -> None:
    path = write(tmp_path / name, numbered(50), codec, pixels, rate=25, options=options)
    times = [number / 25 + 0.01 for number in range(48)]
    onward = [frame.to_ndarray(format="gray") for frame in Frames(path).frames(times)]
    assert len(onward) == len(times)
    off = 5 if name == "a.avi" else 3  # AVI has no time stamps; with B-frames FFmpeg's guess is a frame off
    assert [frame.mean() for frame in onward] == pytest.approx([20 + 2 * number for number in range(48)], abs=off)
    video = Frames(path)
    for number in (40, 20, 13, 12, 11, 3, 0):
        (frame,) = video.frames(times[number : number + 1])
        assert (frame.to_ndarray(format="gray") == onward[number]).all(), number
    assert isinstance(build(path)[0], Sample)


def shown(path: str, times: Sequence[float]) -> list[bytes]:
    """Return the pixels of the frames shown at some times, compressed to nothing but their equality."""
    return [hashlib.sha256(frame.to_ndarray().tobytes()).digest() for frame in Frames(path).frames(times)]


SKIPPED = [
    ("a.mp4", "libx264", {"x264-params": "keyint=40:bframes=3"}),
    ("a.mkv", "libx264", {"x264-params": "keyint=40:bframes=8:b-pyramid=none:b-adapt=0"}),
    ("a.ts", "libx264", {"x264-params": "keyint=12:open-gop=1:bframes=3"}),
    ("a.mp4", "libx264", {"x264-params": "interlaced=1:bframes=3"}),
    ("a.flv", "libx264", {"bf": "2"}),
    ("a.mpg", "mpeg2video", {"bf": "2", "g": "12"}),
]


@pytest.mark.parametrize(
    ("name", "codec", "options"), SKIPPED, ids=[f"{c[1]}-{c[0][2:]}-{i}" for i, c in enumerate(SKIPPED)]
)
@pytest.mark.parametrize("begin", [0.0, 1.3, 2.48])
def test_skipping_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, options: dict[str, str], begin: float
) -> None:
    path = write(tmp_path / name, pan(100, 2, 1, 128, 96), codec, rate=25, options=options)
    grids = [[begin + number / rate for number in range(int(1.5 * rate))] for rate in (1, 3, 8, 25)]
    skipped = [shown(path, times) for times in grids]
    monkeypatch.setattr(frames, "SKIPPING", frozenset())
    assert skipped == [shown(path, times) for times in grids]
    assert all(skipped)


def test_frames_may_be_given_other_time_stamps(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", numbered(60), rate=30)
    times = [number / 30 for number in range(90)]  # a second longer than the film
    expected = [frame.pts for frame in Frames(path).frames(times)]
    assert len(expected) == 60
    found = []
    for number, frame in enumerate(Frames(path).frames(times)):
        found.append(frame.pts)
        frame.pts, frame.time_base = number, Fraction(1)  # as an encoder does
    assert found == expected


def test_frames_do_not_depend_on_what_was_asked_before(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", pan(150, 2, 1, 128, 96), rate=25, options={"x264-params": "keyint=25:bframes=3"})
    calls = [[0.0, 1.0], [0.5, 0.9], [1.0], [4.4, 4.5], [4.52], [4.6, 5.9], [1.04, 1.08], [1.08, 1.1], [5.5]]
    video = Frames(path)
    for times in calls:
        read = [frame.to_ndarray().tobytes() for frame in video.frames(times)]
        assert read == [frame.to_ndarray().tobytes() for frame in Frames(path).frames(times)]
    next(video.frames([0.0, 5.0]))  # given up
    (frame,) = video.frames([0.12])
    assert frame.to_ndarray().tobytes() == next(Frames(path).frames([0.12])).to_ndarray().tobytes()


@pytest.mark.parametrize(
    ("stride", "frames_", "ranges"),
    [
        (None, 16, [(0, 2), (2, 4), (4, 6), (6, 7.5)]),
        (2.0, 16, [(0, 2), (2, 4), (4, 6), (6, 7.5)]),
        (3.0, 16, [(0, 2), (3, 5), (6, 7.5)]),
        (1.0, 32, [(0, 4), (1, 5), (2, 6), (3, 7), (4, 7.5)]),
        (5.0, 64, [(0, 7.5)]),
        (1.5, 8, [(0, 1), (1.5, 2.5), (3, 4), (4.5, 5.5), (6, 7)]),
    ],
)
def test_stride(tmp_path: Path, stride: float | None, frames_: int, ranges: list[tuple[float, float]]) -> None:
    path = write(tmp_path / "a.mp4", numbered(60), options={"preset": "ultrafast"})
    pieces = Video(Options(stride=stride, frames=frames_)).probe(path)
    assert [(piece.start, piece.end) for piece in pieces] == ranges


@pytest.mark.parametrize("start", [0.0, 0.3, 1.25, 3.0])
def test_any_range_can_be_asked_for(tmp_path: Path, start: float) -> None:
    path = write(tmp_path / "a.mp4", numbered(100), rate=25)
    (sample,) = Video(Options()).build(path, [Piece(start, start + 0.5)])
    assert isinstance(sample, Sample)
    assert sample.parts["json"]["frames"] == 4
    expected = [20 + 2 * int((start + number / 8) * 25 + 0.05) for number in range(4)]
    assert [frame.mean() for frame in decode(sample.parts["mp4"])] == pytest.approx(expected, abs=2)
    (whole,) = Video(Options()).build(path, [Piece()])
    assert isinstance(whole, Sample)
    assert whole.parts["json"]["frames"] == 32


def scenes(lengths: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield scenes of some frames, each a camera that moves over another photograph."""
    for photo, length in zip((PHOTO, data.coffee(), data.chelsea()), lengths, strict=True):
        for number in range(length):
            yield np.ascontiguousarray(photo[number % 40 : number % 40 + 240, number % 90 : number % 90 + 320])


@pytest.mark.parametrize(
    "encoder", ["scenecut=40:keyint=250", "scenecut=0:keyint=60", "scenecut=0:keyint=7:min-keyint=7"]
)
def test_clips_do_not_straddle_a_change_of_scene(tmp_path: Path, encoder: str) -> None:
    path = write(tmp_path / "a.mp4", scenes([75, 90, 110]), rate=25, options={"x264-params": encoder})
    assert scene_starts(path) == pytest.approx([3.0, 6.6], abs=1e-3)
    options = Options(cut="scene", frames=16)
    pieces = Video(options).probe(path)
    starts = [0, 2, 3, 5, 6.6, 8.6, 10.6]
    assert [piece.start for piece in pieces] == pytest.approx(starts, abs=1e-3)
    for sample in Video(options).build(path, pieces):
        assert isinstance(sample, Sample)
        colours = [frame.mean((0, 1)) for frame in decode(sample.parts["mp4"])]
        assert np.ptp(colours, axis=0).max() < 25


def test_scenes_of_one_scene_and_of_nothing_but_key_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", pan(50, 2), rate=25)
    assert scene_starts(path) == []
    assert Video(Options(cut="scene")).probe(path) == Video(Options()).probe(path)
    path = write(tmp_path / "b.avi", scenes([75, 90, 110]), "mjpeg", "yuvj420p", rate=25)
    assert scene_starts(path) == pytest.approx([3.0, 6.6], abs=0.5)


def test_pixels_become_square(tmp_path: Path) -> None:
    wide = write(tmp_path / "a.mp4", pan(4, width=180, height=144), sample_aspect_ratio=Fraction(64, 45))
    sample = build_one(wide)
    json = sample.parts["json"]
    assert (json["width"], json["height"]) == (256, 144)
    assert (json["source_width"], json["source_height"]) == (180, 144)
    assert json["source_pixel_aspect"] == pytest.approx(64 / 45)
    assert sample.shape == (4, 9, 16)
    turned = write(tmp_path / "b.mp4", pan(4, width=180, height=144), rotation=90, sample_aspect_ratio=Fraction(64, 45))
    json = build_one(turned).parts["json"]
    assert (json["width"], json["height"]) == (100, 180)
    lying = write(tmp_path / "c.mp4", pan(4, width=180, height=144), sample_aspect_ratio=Fraction(500, 1))
    assert build_one(lying).parts["json"]["source_pixel_aspect"] == 1.0


@pytest.mark.parametrize(("rotation", "matrix"), [(0, 9), (90, 9), (0, 1)])
def test_high_dynamic_range_becomes_standard(tmp_path: Path, rotation: int, matrix: int) -> None:
    code = 0.5807  # of 203 cd/m², the white of print, by SMPTE ST 2084
    grey = iter([np.full((48, 64, 3), round(code * 255), np.uint8)] * 4)
    bt2020 = {"color_trc": 16, "color_primaries": 9, "colorspace": matrix, "color_range": 1}
    sample = build_one(
        write(tmp_path / "a.mp4", grey, pixels="yuv420p10le", options={"crf": "4"}, rotation=rotation, **bt2020),
        layers=[],
    )
    assert sample.parts["json"]["source_transfer"] == "smpte2084"
    assert decode(sample.parts["mp4"])[0].mean() > 240


@pytest.mark.parametrize(
    ("pixels", "full_range", "rotation"),
    [("yuv420p", False, 0), ("yuv420p", True, 0), ("yuv420p", False, 90), ("yuv422p", False, 90)],
)
def test_colours_of_high_definition_become_those_of_clips(
    tmp_path: Path, pixels: str, full_range: bool, rotation: int
) -> None:
    """Readers take clips for BT.601, so BT.709 has to be converted: a red of it stays the red that it was."""
    tags = {"colorspace": 1, "color_trc": 1, "color_primaries": 1, "color_range": 2 if full_range else 1}
    red = iter([np.full((64, 96, 3), (180, 50, 60), np.uint8)] * 3)
    path = write(tmp_path / "a.mp4", red, pixels=pixels, options={"crf": "1"}, rotation=rotation, **tags)
    with av.open(path) as container:
        planes = next(container.decode(video=0)).planes
        y, cb, cr = (np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[20, 20] for plane in planes)
    luma, chroma, black = (1, 1, 0) if full_range else (255 / 219, 255 / 224, 16)
    y, cb, cr = luma * (float(y) - black), chroma * (float(cb) - 128), chroma * (float(cr) - 128)
    shown = [y + 1.5748 * cr, y - 0.1873 * cb - 0.4681 * cr, y + 1.8556 * cb]  # ITU-R BT.709
    found = decode(build_one(path, layers=[]).parts["mp4"])[0].mean((0, 1))
    assert found == pytest.approx(np.clip(shown, 0, 255), abs=2.5)


def test_layers_by_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "pan.mp4", pan(20, 5))
    everything = build_one(path)
    for chosen in (["saliency"], ["motion"], ["motion_valid", "saliency"], ["motion", "motion_valid"]):
        sample = build_one(path, layers=chosen)
        assert set(sample.parts) == {"mp4", "json", *(f"{name}.npy" for name in chosen)}
        for name in ("mp4", "json", *(f"{name}.npy" for name in chosen)):
            assert encode_part(name, sample.parts[name]) == encode_part(name, everything.parts[name])
        assert sample.summary == everything.summary
    monkeypatch.setattr("pipelines.modality.video.decode_clip", None)  # nobody calls it
    assert set(build_one(path, layers=[]).parts) == {"mp4", "json"}


def test_look_sees_what_build_saw(tmp_path: Path) -> None:
    sample = build_one(write(tmp_path / "pan.mp4", pan(20, 5, width=330, height=250)))
    looked = Video(Options()).look({"mp4": sample.parts["mp4"], "json": b""})
    assert list(looked) == list(Video.layers)
    for name, layer in looked.items():
        assert (layer == sample.parts[f"{name}.npy"]).all()
    with pytest.raises(Reject) as caught:
        Video(Options()).look({"mp4": sample.parts["mp4"][:400]})
    assert caught.value.error == "Corrupt"


def test_saliency_is_of_the_luma(tmp_path: Path) -> None:
    """The middle of a picture with a single bright patch stands out."""
    frame = np.full((128, 160, 3), 60, np.uint8)
    frame[48:64, 64:80] = 250
    sample = build_one(write(tmp_path / "a.mp4", iter([frame] * 3)))
    with av.open(io.BytesIO(sample.parts["mp4"])) as container:
        assert next(container.decode(video=0)).to_ndarray()[48:64, 64:80].mean() > 200
    assert np.unravel_index(sample.parts["saliency.npy"][0].argmax(), (8, 10)) == (3, 4)


def test_layers_are_read_before_deblocking(tmp_path: Path) -> None:
    sample = build_one(write(tmp_path / "pan.mp4", pan(20, 5)))

    def saliency_of(options: dict[str, str]) -> np.ndarray:
        with av.open(io.BytesIO(sample.parts["mp4"])) as container:
            container.streams.video[0].codec_context.options = options
            lumas = [frame.to_ndarray()[:240, :, None] for frame in container.decode(video=0)]
        return saliency.saliency(np.stack([shrink(luma, 16) for luma in lumas]))

    assert (saliency_of({"skip_loop_filter": "all"}) == sample.parts["saliency.npy"]).all()
    assert (saliency_of({}) != sample.parts["saliency.npy"]).any()


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_undone(tmp_path: Path, degrees: int) -> None:
    upright = np.ascontiguousarray(PHOTO[:160, 100:320])
    stored = np.ascontiguousarray(np.rot90(upright, -degrees // 90))
    path = write(tmp_path / "a.mp4", iter([stored] * 4), options={"crf": "8"}, rotation=degrees)
    sample = build_one(path)
    json = sample.parts["json"]
    assert (json["width"], json["height"], json["rotation"]) == (220, 160, degrees)
    assert (json["source_width"], json["source_height"]) == (220, 160)
    assert np.abs(decode(sample.parts["mp4"])[0].astype(int) - upright).mean() < 6


@pytest.mark.parametrize(
    ("width", "height", "stored"), [(321, 241, (320, 240)), (17, 90, (16, 90)), (600, 301, (510, 256))]
)
def test_odd_sizes(tmp_path: Path, width: int, height: int, stored: tuple[int, int]) -> None:
    frames = iter([np.zeros((height, width, 3), np.uint8) + 90] * 4)
    sample = build_one(write(tmp_path / "a.mkv", frames, "ffv1", "yuv444p"))
    assert (sample.parts["json"]["width"], sample.parts["json"]["height"]) == stored
    assert sample.shape == (4, -(-stored[1] // 16), -(-stored[0] // 16))


def rejected(path: str) -> Reject:
    with pytest.raises(Reject) as caught:
        build(path)
    assert "\n" not in caught.value.message
    return caught.value


def test_rejects(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert rejected(str(tmp_path / "empty.mp4")).error == "Empty"
    assert rejected(str(tmp_path / "none.mp4")).error == "Unreadable"
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    assert rejected(str(tmp_path / "noise.mp4")).error == "UnknownFormat"
    (tmp_path / "text.mp4").write_text("these are not the frames you are looking for\n" * 50)
    assert rejected(str(tmp_path / "text.mp4")).error == "UnknownFormat"
    whole = Path(write(tmp_path / "a.mp4", numbered(20))).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert rejected(str(tmp_path / "cut.mp4")).error == "Corrupt"
    assert rejected(write(tmp_path / "short.mp4", numbered(1))).error == "TooShort"
    assert rejected(write(tmp_path / "tiny.mkv", numbered(9, 8, 8), "ffv1")).error == "Unsupported"


def test_sound_without_pictures_is_the_wrong_modality(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert rejected(str(tmp_path / "sound.mp4")).error == "WrongModality"


def test_playlists_open_nothing(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.ts", numbered(20))
    (tmp_path / "list.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n")
    assert rejected(str(tmp_path / "list.mp4")).error == "UnknownFormat"
    (tmp_path / "concat.mp4").write_text(f"ffconcat version 1.0\nfile {secret}\n")
    assert rejected(str(tmp_path / "concat.mp4")).error == "UnknownFormat"


def test_a_header_that_promises_too_much(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", numbered(12))
    beyond = Piece(start=8.0, end=16.0)
    (reject,) = Video(Options()).build(path, [beyond])
    assert isinstance(reject, Reject)
    assert reject.error == "Empty"


def test_damage_in_the_middle_costs_little(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.mkv", pan(48, 3), options={"g": "8"}))
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 300] = bytes(300)
    path.write_bytes(damaged)
    sample = build_one(str(path))
    assert sample.parts["json"]["frames"] >= 40


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_a_damaged_frame_does_not_depend_on_the_other_pieces(tmp_path: Path, name: str) -> None:
    path = Path(write(tmp_path / name, pan(75, 2), rate=25, options={"g": "25", "bf": "3"}))
    damaged = bytearray(path.read_bytes())
    for place in range(len(damaged) // 4, len(damaged) * 8 // 9, len(damaged) // 9):
        damaged[place : place + 40] = bytes(40)
    path.write_bytes(damaged)
    video = Video(Options(frames=8))
    pieces = video.probe(str(path))
    together = [sample for sample in video.build(str(path), pieces) if isinstance(sample, Sample)]
    alone = [next(iter(video.build(str(path), [piece]))) for piece in pieces]
    assert [sample.parts["mp4"] for sample in together] == [
        one.parts["mp4"] for one in alone if isinstance(one, Sample)
    ]


@pytest.mark.real
def test_real_files(real_data: Path) -> None:
    paths = sorted(path for path in (real_data / "video").rglob("*") if path.suffix in Video.suffixes)
    assert paths
    video = Video(Options(frames=16))
    for path in paths:
        pieces = video.probe(str(path))[:1]
        (sample,) = video.build(str(path), pieces)
        assert isinstance(sample, Sample), (path, sample)
        assert min(sample.parts["json"]["width"], sample.parts["json"]["height"]) <= 256
        assert sample.parts["motion_valid.npy"].any()


@pytest.mark.real
def test_skipping_changes_nothing_in_real_files(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted(path for path in (real_data / "video").rglob("*") if path.suffix in Video.suffixes)
    times = [3.0 + number / 8 for number in range(16)]
    skipped = [shown(str(path), times) for path in paths]
    monkeypatch.setattr(frames, "SKIPPING", frozenset())
    assert skipped == [shown(str(path), times) for path in paths]
