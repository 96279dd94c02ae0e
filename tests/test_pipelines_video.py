"""Videos: the right frames at the right times, upright, in clips whose bytes repeat, with motion that points right."""

import io
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from skimage import data

from pipelines.frames import Video as Frames
from pipelines.modality import Piece, Reject, Sample, get_modality
from pipelines.modality.video import Options, Video

REAL = os.environ.get("MMMASK_REAL_DATA", "")
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
) -> str:
    """Write frames with FFmpeg; stamps in milliseconds instead of the rate. Skips the test without the encoder."""
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.pix_fmt = pixels
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


def build(path: str, **options: float) -> list[Sample | Reject]:
    video = Video(Options(**options))
    return list(video.build(path, video.probe(path)))


def build_one(path: str, **options: float) -> Sample:
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
        "source_fps": 8.0, "source_codec": "h264", "rotation": 0,
    }  # fmt: skip
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


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="MMMASK_REAL_DATA is not set")
def test_real_files() -> None:
    paths = sorted(path for path in Path(REAL, "video").rglob("*") if path.suffix in Video.suffixes)
    assert paths
    video = Video(Options(frames=16))
    for path in paths:
        pieces = video.probe(str(path))[:1]
        (sample,) = video.build(str(path), pieces)
        assert isinstance(sample, Sample), (path, sample)
        assert min(sample.parts["json"]["width"], sample.parts["json"]["height"]) <= 256
        assert sample.parts["motion_valid.npy"].any()
