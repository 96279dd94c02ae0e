"""The LiDAR builder: what it stores of a sweep, what it turns away, and whether the ground is the ground."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.modality import Reject, Sample, get_modality
from pipelines.modality.lidar import Lidar, Options, decode, voxels
from pipelines.statistics import merge
from shard_tools.tar import encode_part

VOXEL = np.array([0.1, 0.1, 0.2])


def build(path: Path, **options: str) -> Sample:
    lidar = Lidar(Options(**options))
    pieces = lidar.probe(str(path))
    samples = list(lidar.build(str(path), pieces))
    assert len(samples) == len(pieces) == 1
    assert isinstance(samples[0], Sample)
    return samples[0]


def reject(path: Path, **options: str) -> Reject:
    with pytest.raises(Reject) as caught:
        build(path, **options)
    assert "\n" not in caught.value.message
    return caught.value


def street(count: int = 5000, seed: int = 0) -> np.ndarray:
    """Points of a road at z = -1.7, two walls beside it and a car on it: float32 [N, 4]."""
    rng = np.random.default_rng(seed)
    road = np.column_stack([rng.uniform(-30, 30, count), rng.uniform(-8, 8, count), rng.normal(-1.7, 0.02, count)])
    side = rng.choice([-8.0, 8.0], count)
    walls = np.column_stack([rng.uniform(-30, 30, count), side, rng.uniform(-1, 4, count)])
    car = np.column_stack([rng.uniform(6, 10, 500), rng.uniform(-1, 1, 500), rng.uniform(-0.9, -0.2, 500)])
    points = np.concatenate([road, walls, car])
    points = points[np.linalg.norm(points, axis=1) > 1.5]
    return np.column_stack([points, rng.random(len(points))]).astype(np.float32)


def write_pcd(path: Path, points: np.ndarray) -> Path:
    header = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\n"
        f"COUNT 1 1 1 1\nWIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA binary\n"
    )
    path.write_bytes(header.encode() + points.tobytes())
    return path


def write_ply(path: Path, points: np.ndarray, field: str = "scalar_intensity") -> Path:
    fields = "".join(f"property float {name}\n" for name in ("x", "y", "z", field))
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{fields}end_header\n"
    path.write_bytes(header.encode() + points.tobytes())
    return path


def test_what_a_sweep_that_is_not_here_will_weigh(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(street().tobytes())
    lidar = Lidar(Options())
    assert lidar.expect((tmp_path / "a.bin").stat().st_size) == lidar.probe(str(tmp_path / "a.bin"))
    assert lidar.expect(-1)[0].bytes > 1_000_000


def check_consistent(sample: Sample) -> None:
    """coords, count, points, ground and json agree with each other and with the format."""
    coords, count, stored = (sample.parts[name] for name in ("coords.npy", "count.npy", "points.npy"))
    assert (coords.dtype, count.dtype, stored.dtype) == (np.int16, np.uint16, np.uint16)
    assert coords.shape == (len(count), 3) and stored.shape == (count.sum(), 4) and sample.shape == (len(count),)
    assert count.min() >= 1
    assert np.array_equal(coords, np.unique(coords, axis=0))
    points = decode(stored)
    np.testing.assert_array_equal(np.floor(points[:, :3] / VOXEL), np.repeat(coords, count, axis=0))
    assert points[:, 3].min() >= 0 and points[:, 3].max() <= 1
    flags = sample.parts["ground.npy"]
    assert flags.dtype == np.uint8 and flags.shape == sample.shape and set(np.unique(flags)) <= {0, 1}
    facts = sample.parts["json"]
    assert (facts["points"], facts["voxels"]) == (len(points), len(coords))
    assert None not in facts.values()


finite = st.floats(-327.625, 327.625, width=32)


@settings(max_examples=60)
@given(arrays(np.float32, st.tuples(st.integers(1, 60), st.just(3)), elements=finite))
def test_every_return_is_kept_once_and_inside_its_voxel(xyz):
    points = np.column_stack([xyz, np.linspace(0, 1, len(xyz), dtype=np.float32)])
    stored, coords, count = voxels(points)
    assert count.sum() == len(points) == len(stored)
    assert np.array_equal(coords, np.unique(coords, axis=0))
    assert np.array_equal(coords, np.unique(np.floor(np.floor(xyz.astype(float) / 0.01) / [10, 10, 20]), axis=0))
    decoded = decode(stored)
    np.testing.assert_array_equal(np.floor(decoded[:, :3] / VOXEL), np.repeat(coords, count, axis=0))
    source = np.argsort(decoded[:, 3])  # intensity numbers the returns
    np.testing.assert_allclose(decoded[source, :3], xyz, atol=0.0051)


def test_order_inside_a_voxel_is_the_files_and_a_full_voxel_saturates():
    points = np.tile(np.float32([[5, 5, 1, 0]]), (70_000, 1))
    points[:, 3] = np.linspace(0, 1, len(points))
    stored, coords, count = voxels(points)
    assert count.tolist() == [65535] and len(stored) == 65535 and len(coords) == 1
    assert (np.diff(stored[:, 3].astype(int)) >= 0).all()


@pytest.mark.parametrize("name", ["a.bin", "a.pcd.bin", "a.pcd", "a.ply", "a.npy"])
def test_every_format_gives_the_same_sample(tmp_path, name):
    points, path = street(), tmp_path / name
    bright = points * np.float32([1, 1, 1, 255])
    if name == "a.bin":
        points.tofile(path)
    elif name == "a.pcd.bin":
        np.column_stack([bright, np.arange(len(points)) % 32]).astype(np.float32).tofile(path)
    elif name == "a.npy":
        np.save(path, bright.astype(np.float64))
    else:
        {"a.pcd": write_pcd, "a.ply": write_ply}[name](path, bright)
    sample = build(path)
    check_consistent(sample)
    stored, coords, count = voxels(points)
    np.testing.assert_array_equal(sample.parts["coords.npy"], coords)
    np.testing.assert_array_equal(sample.parts["count.npy"], count)
    np.testing.assert_allclose(decode(sample.parts["points.npy"]), decode(stored), atol=0.01)
    assert sample.parts["json"]["sensor"] == {"a.bin": "kitti", "a.pcd.bin": "nuscenes"}.get(name, "")


@pytest.mark.parametrize("field", ["intensity", "reflectance", "scalar_Intensity"])
def test_intensity_is_found_under_its_usual_names(tmp_path, field):
    points = street(50)
    sample = build(write_ply(tmp_path / "a.ply", points, field))
    assert decode(sample.parts["points.npy"])[:, 3].std() > 0.1


def test_a_cloud_without_intensity_has_zeros(tmp_path):
    np.save(tmp_path / "a.npy", street(50)[:, :3])
    assert not build(tmp_path / "a.npy").parts["points.npy"][:, 3].any()


def test_the_sensor_flag_overrules_the_name(tmp_path):
    points = np.pad(street(400)[:1000], ((0, 0), (0, 1)))  # 20,000 bytes: whole points of 4 and of 5 columns
    points.tofile(tmp_path / "a.bin")
    assert build(tmp_path / "a.bin", sensor="nuscenes").parts["json"]["points"] == len(points)


def test_unusable_returns_are_dropped(tmp_path):
    points = street(100)
    bad = np.float32([[np.nan, 1, 1, 0], [np.inf, 1, 1, 0], [0.1, 0.2, 0.3, 0], [500, 1, 1, 0], [5, 5, 5, np.nan]])
    np.concatenate([bad, points]).tofile(tmp_path / "a.bin")
    facts = build(tmp_path / "a.bin").parts["json"]
    assert (facts["points"], facts["source_points"]) == (len(points), len(points) + len(bad))


def test_equal_files_give_equal_bytes(tmp_path):
    street().tofile(tmp_path / "a.bin")
    one, two = build(tmp_path / "a.bin"), build(tmp_path / "a.bin")
    for name in ("coords.npy", "count.npy", "points.npy", "ground.npy"):
        assert one.parts[name].tobytes() == two.parts[name].tobytes()


def test_layers_come_from_the_stored_sweep_and_only_those_asked_for(tmp_path):
    street().tofile(tmp_path / "a.bin")
    sample = build(tmp_path / "a.bin")
    assert Lidar.facts.keys() == sample.parts["json"].keys()
    found = Lidar(Options()).look({name: encode_part(name, part) for name, part in sample.parts.items()})
    assert list(found) == ["ground"]
    np.testing.assert_array_equal(found["ground"], sample.parts["ground.npy"])
    lidar = Lidar(Options(), layers=[])
    (bare,) = lidar.build(str(tmp_path / "a.bin"), lidar.probe(str(tmp_path / "a.bin")))
    assert set(sample.parts) - set(bare.parts) == {"ground.npy"}
    with pytest.raises(Reject):
        Lidar(Options()).look({"points.npy": b"", "count.npy": b""})
    for count in (sample.parts["count.npy"][1:], sample.parts["count.npy"].astype(np.int64)):
        with pytest.raises(Reject) as caught:
            stored = {"points.npy": sample.parts["points.npy"], "count.npy": count}
            Lidar(Options()).look({name: encode_part(name, part) for name, part in stored.items()})
        assert caught.value.error == "Corrupt"


@pytest.mark.parametrize("slope", [0.0, 0.05])
@pytest.mark.parametrize("height", [-1.7, -0.35, 40.0])
def test_ground_is_the_road_and_not_the_walls_or_the_car(tmp_path, slope, height):
    points = street()
    road = points[:, 2] < -1.5
    points[:, 2] += height + 1.7 + slope * points[:, 0]
    points.tofile(tmp_path / "a.bin")
    sample = build(tmp_path / "a.bin")
    on_road = set(map(tuple, voxels(points[road])[1].tolist()))
    off_road = set(map(tuple, voxels(points[~road])[1].tolist())) - on_road
    flagged = set(map(tuple, sample.parts["coords.npy"][sample.parts["ground.npy"] == 1].tolist()))
    assert len(flagged & on_road) > 0.99 * len(on_road)
    assert len(flagged & off_road) < 0.02 * len(off_road)


def test_statistics_are_those_of_all_decoded_points(tmp_path):
    samples = []
    for seed in range(3):
        street(200, seed).tofile(tmp_path / f"{seed}.bin")
        samples.append(build(tmp_path / f"{seed}.bin"))
    found = Lidar(Options()).statistics(merge([sample.summary for sample in samples]))
    points = np.concatenate([decode(sample.parts["points.npy"]) for sample in samples])
    np.testing.assert_allclose(found["mean"], points.mean(0), atol=1e-4)
    np.testing.assert_allclose(found["std"], points.std(0), rtol=1e-4)
    assert found["points"] == len(points) and found["voxels"] == sum(sample.shape[0] for sample in samples)


def test_the_parts_say_how_to_decode():
    parts = get_modality("lidar").parts
    stored = np.uint16([[0, 0, 0, 0], [32768, 32768, 32768, 65535]])
    value = stored * np.array(parts["points.npy"].scale) + parts["points.npy"].offset
    np.testing.assert_allclose(value, decode(stored), atol=1e-4)
    np.testing.assert_allclose(value[1], [0.005, 0.005, 0.005, 1])


REJECTED = {
    "empty.bin": (b"", "Empty"),
    "odd.bin": (b"\0" * 1001, "Corrupt"),
    "label.bin": (b"Pedestrian 0.00 0 -0.20 712.40 143.00 810.73 307.92\n" * 4, "WrongModality"),
    "noise.bin": (np.random.default_rng(0).bytes(4096), "WrongModality"),
    "photo.bin": (b"\xff\xd8\xff\xe0" + b"\0" * 60, "WrongModality"),
    "nan.bin": (np.full((10, 4), np.nan, np.float32).tobytes(), "Empty"),
    "near.bin": (np.zeros((10, 4), np.float32).tobytes(), "Empty"),
    "notes.txt": (b"hello", "UnknownFormat"),
    "cut.pcd": (b"# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\n", "Corrupt"),
    "huge.pcd": (
        b"# .PCD v0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 99999999\nDATA binary\n" + b"\0" * 99,
        "Corrupt",
    ),
    "flat.pcd": (b"# .PCD v0.7\nFIELDS x y\nSIZE 4 4\nPOINTS 1\nDATA binary\n\0\0\0\0\0\0\0\0", "WrongModality"),
    "image.ply": (b"\x89PNG\r\n\x1a\n" + b"\0" * 60, "WrongModality"),
    "cut.ply": (b"ply\nformat binary_little_endian 1.0\nelement vertex 500\nproperty float x\nend_header\n", "Corrupt"),
    "mesh.ply": (b"ply\nformat ascii 1.0\nelement vertex 3\nelement face 1\nend_header\n", "WrongModality"),
    "text.npy": (b"1,2,3\n", "Corrupt"),
}  # fmt: skip


@pytest.mark.parametrize("name", REJECTED)
def test_bad_input_is_rejected_with_its_reason(tmp_path, name):
    content, error = REJECTED[name]
    (tmp_path / name).write_bytes(content)
    assert reject(tmp_path / name).error == error


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.zeros(8, np.float32), "WrongModality"),
        (np.zeros((8, 2), np.float32), "WrongModality"),
        (np.zeros((8, 4), np.uint8), "WrongModality"),
        (np.zeros((0, 4), np.float32), "Empty"),
        (np.array([[object()] * 4]), "Corrupt"),
    ],
)
def test_arrays_that_are_no_points_are_rejected(tmp_path, array, error):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    assert reject(tmp_path / "a.npy").error == error


def test_a_size_of_another_sensor_is_named(tmp_path):
    np.zeros((5, 5), np.float32).tofile(tmp_path / "a.bin")
    assert "--sensor nuscenes" in reject(tmp_path / "a.bin").message


def test_a_missing_file_and_a_survey_are_rejected(tmp_path):
    assert reject(tmp_path / "gone.bin").error == "Unreadable"
    with (tmp_path / "survey.bin").open("wb") as file:
        file.truncate(16 * 10_000_001)
    assert reject(tmp_path / "survey.bin").error == "TooLarge"


@pytest.mark.real
@pytest.mark.skipif("MMMASK_REAL_DATA" not in os.environ, reason="MMMASK_REAL_DATA is not set")
def test_real_sweeps_build():
    files = sorted(path for path in (Path(os.environ["MMMASK_REAL_DATA"]) / "lidar").rglob("*") if path.is_file())
    sweeps = [path for path in files if path.suffix in Lidar.suffixes]
    assert sweeps
    for path in sweeps:
        sample = build(path)
        check_consistent(sample)
        assert 0.1 < np.repeat(sample.parts["ground.npy"], sample.parts["count.npy"]).mean() < 0.9, path
    for path in set(files) - set(sweeps):
        assert reject(path).error in ("UnknownFormat", "WrongModality")
