"""LiDAR: sweeps become compressed sparse rows: occupied base voxels, returns in each, returns voxel after voxel.

Coordinates stay in the sensor's own frame, z up. Voxels are small and fixed, so that a trainer can coarsen them
(`coords // k`) to the size it wants.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from pipelines.compiled import compiled
from pipelines.layers import ground
from pipelines.statistics import mean_std
from pipelines.sums import moments
from pipelines.voxels import OFFSET, SCALE, STEP, STEPS, ZERO, decode, voxels
from shard_tools.schema import Part

from . import base
from .base import NPY_ERRORS, Modality, Piece, Reject, Sample
from .sniff import sniff, unknown

NEAREST = 1.0  # metres; nearer returns are the carrying car, or no return at all
FARTHEST = np.float32(ZERO * STEP)  # metres along an axis
MAX_POINTS = 10_000_000  # a sweep has a few hundred thousand; more is a survey
POINTS = 100_000  # of a sweep of which nothing is known
HEADER_BYTES = 1 << 16
TEXT = re.compile(rb"[\t\n\r\x20-\x7e]+")

SUFFIXES = frozenset({".bin", ".pcd", ".ply", ".npy"})
INTENSITY_NAMES = ("intensity", "intensities", "reflectivity", "reflectance", "remission", "i")


@dataclass(frozen=True, slots=True)
class Sensor:
    """Layout of a raw file: float32 columns a return (x, y, z, intensity, …), and the brightest intensity."""

    columns: int
    brightest: float


SENSORS = {"kitti": Sensor(4, 1.0), "nuscenes": Sensor(5, 255.0)}


class Options(base.Options):
    """What a user may choose about sweeps."""

    sensor: Literal["auto", "kitti", "nuscenes"] = Field(
        "auto",
        description="layout of raw files: kitti (x y z intensity, 0..1), nuscenes (x y z intensity ring, 0..255), "
        "auto (.pcd.bin is nuscenes, other .bin kitti, intensities above 1 are scaled)",
    )


class Lidar(Modality[Options]):
    """The builder of LiDAR sweeps."""

    name = "lidar"
    one_sample = True
    suffixes = SUFFIXES
    Options = Options
    facts: ClassVar[dict[str, Any]] = {"points": -1, "voxels": -1, "sensor": "", "source_points": -1}
    parts = {  # noqa: RUF012 - as the base class declares
        "coords.npy": Part(
            description="occupied base voxels, floor(x / .1), floor(y / .1), floor(z / .2), sorted by (x, y, z)",
            dtype="int16",
            shape="V,3",
            scale=[steps * STEP for steps in STEPS],
            offset=[0.0, 0.0, 0.0],
            unit="m",
        ),
        "count.npy": Part(description="returns in each voxel", dtype="uint16", shape="V"),
        "points.npy": Part(
            description="x, y, z and intensity 0..1 of each return, in the order of the voxels",
            dtype="uint16",
            shape="M,4",
            scale=list(SCALE),
            offset=list(OFFSET),
            unit="m; intensity has none",
        ),
        "json": Part(description="source, label, group, start, end, " + ", ".join(facts)),
    }
    layers = {"ground": ground.SPEC}  # noqa: RUF012

    def probe(self, path: str) -> list[Piece]:
        """Return the one sample of a sweep, from its size or header. Raises Reject."""
        points = _count(path, self._sensor(path))
        if points == 0:
            raise Reject("Empty", "has no points")
        if points > MAX_POINTS:
            raise Reject("TooLarge", f"{points:,} points; a sweep may have {MAX_POINTS:,}")
        return [_piece(points)]

    def expect(self, size: int) -> list[Piece]:
        """Return the one sample of a sweep that is not here: of 16 bytes a point, unless its size is not known."""
        return [_piece(size // 16 if size >= 0 else POINTS)]

    def build(self, path: str, pieces: Sequence[Piece]) -> Iterator[Sample | Reject]:
        """Yield the sweep's sample. Raises Reject."""
        self.probe(path)
        source = _read(path, self._sensor(path))
        usable = _usable(source)
        usable[:, 3] = self._unit(usable[:, 3], path)
        stored, coords, count = voxels(usable)
        points = decode(stored)
        facts = {
            "points": len(points),
            "voxels": len(coords),
            "sensor": self._sensor(path),
            "source_points": len(source),
        }
        layers = self._look(points, count)
        for _ in pieces:
            yield Sample(
                parts={
                    "coords.npy": coords,
                    "count.npy": count,
                    "points.npy": stored,
                    "json": facts,
                    **{f"{name}.npy": layer for name, layer in layers.items()},
                },
                shape=(len(coords),),
                summary=moments(points) | {"voxels": len(coords)},
            )

    def look(self, parts: Mapping[str, bytes]) -> dict[str, np.ndarray]:
        """Return the layers of a stored sweep. Raises Reject."""
        try:
            stored, count = (
                np.load(io.BytesIO(parts[f"{name}.npy"]), allow_pickle=False) for name in ("points", "count")
            )
        except NPY_ERRORS as error:
            raise Reject("Corrupt", f"its points are no array: {error}") from None
        if not (stored.dtype == count.dtype == np.uint16 and stored.shape == (count.sum(), 4) and count.ndim == 1):
            raise Reject("Corrupt", "its points are not those of its voxels")
        return self._look(decode(stored), count)

    def _look(self, points: np.ndarray, count: np.ndarray) -> dict[str, np.ndarray]:
        return {name: ground.ground(points[:, :3], count) for name in self.layers}

    def statistics(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Return {'mean': [4], 'std': [4], 'points': n, 'voxels': n} of the decoded points."""
        return {**mean_std(summary), "points": int(summary["count"][0]), "voxels": int(summary["voxels"])}

    def _sensor(self, path: str) -> str:
        """Return the name in SENSORS of a raw file's layout; '' for formats that say their own."""
        name = path.lower()
        if not name.endswith(".bin"):
            return ""
        if self.options.sensor != "auto":
            return self.options.sensor
        return "nuscenes" if name.endswith(".pcd.bin") else "kitti"

    def _unit(self, intensity: np.ndarray, path: str) -> np.ndarray:
        """Return intensities as 0..1: by the sensor's scale, otherwise from 1, 8 or 16 bits."""
        sensor = self._sensor(path)
        brightest = intensity.max()
        white = next((white for white in (1.0, 255.0, 65535.0) if brightest <= white), brightest)
        if sensor and (self.options.sensor != "auto" or SENSORS[sensor].brightest > 1):
            white = SENSORS[sensor].brightest
        return np.clip(intensity / white, 0, 1)


def _piece(points: int) -> Piece:
    return Piece(bytes=14 * points + 2048)


def _usable(points: np.ndarray) -> np.ndarray:
    """Return the rows of [N, 4] that are finite, not nearer than 1 m and within ±327.68 m. Raises Reject if none is."""
    kept, (unknown, near, far) = _kept(points)
    if not len(kept):
        raise Reject(
            "Empty",
            f"none of {len(points):,} points is usable: {unknown:,} are not finite, "
            f"{near:,} nearer than {NEAREST:g} m, {far:,} beyond {ZERO * STEP:.0f} m",
        )
    return kept


@compiled("Tuple((float32[:, ::1], UniTuple(int64, 3)))(float32[:, :])")
def _kept(points: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return the usable rows, and how many others are not finite, too near and too far."""
    rows = np.empty((len(points), 4), np.float32)
    kept = unknown = near = far = 0
    for row in range(len(points)):
        x, y, z, intensity = points[row, 0], points[row, 1], points[row, 2], points[row, 3]
        if not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z) and np.isfinite(intensity)):
            unknown += 1
        elif np.float64(x) ** 2 + np.float64(y) ** 2 + np.float64(z) ** 2 < NEAREST**2:
            near += 1
        elif max(abs(x), abs(y), abs(z)) >= FARTHEST:
            far += 1
        else:
            rows[kept, 0], rows[kept, 1], rows[kept, 2], rows[kept, 3] = x, y, z, intensity
            kept += 1
    return rows[:kept], (unknown, near, far)


def _count(path: str, sensor: str) -> int:
    """Return how many points a file says it has. Raises Reject."""
    file = Path(path)
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            head = stream.read(HEADER_BYTES)
    except OSError as error:
        raise Reject("Unreadable", f"cannot be opened: {error.strerror}") from None
    if not head:
        raise unknown(head, "lidar")
    suffix = file.suffix.lower()
    if suffix == ".bin":
        return _count_raw(head, size, sensor)
    if suffix == ".npy":
        return len(_open_npy(path))
    if suffix == ".pcd" and sniff(head)[1] == "PCD":
        return _count_pcd(head, size)
    if suffix == ".ply" and sniff(head)[1] == "PLY":
        return _count_ply(head, size)
    if sniff(head)[0] == "lidar":
        raise Reject("Unsupported", f"a {sniff(head)[1]} file must be named .{sniff(head)[1].lower()}")
    raise unknown(head, "lidar")


def _count_raw(head: bytes, size: int, sensor: str) -> int:
    width = 4 * SENSORS[sensor].columns
    if TEXT.fullmatch(head):
        raise Reject("WrongModality", "a text file, not float32 points")
    if sniff(head)[1]:
        raise unknown(head, "lidar")
    if size % width:
        fits = [name for name, other in SENSORS.items() if size % (4 * other.columns) == 0]
        advice = f"; it fits --sensor {fits[0]}" if fits else ""
        raise Reject("Corrupt", f"{size:,} bytes are no whole number of {width}-byte {sensor} points{advice}")
    points = np.frombuffer(head[: len(head) // width * width], "<f4").reshape(-1, width // 4)[:, :3]
    # Bytes of anything else, read as float32, are mostly huge or vanishing numbers; NaN and 0 mark lost returns.
    with np.errstate(invalid="ignore"):
        absurd = np.isfinite(points) & ((np.abs(points) > 1e5) | ((np.abs(points) < 1e-20) & (points != 0)))
    if absurd.any(1).mean() > 0.1:
        raise Reject("WrongModality", f"its bytes are not {width // 4} float32 columns of coordinates in metres")
    return size // width


def _count_pcd(head: bytes, size: int) -> int:
    fields = {line.split()[0]: line.split()[1:] for line in _header_lines(head, "DATA") if line.split()}
    try:
        points = int(fields["POINTS"][0])
        counts = fields.get("COUNT", ["1"] * len(fields["SIZE"]))
        width = sum(int(size_) * int(count) for size_, count in zip(fields["SIZE"], counts, strict=True))
        encoding = fields["DATA"][0]
        missing = {"x", "y", "z"} - set(fields["FIELDS"])
    except (KeyError, IndexError, ValueError):
        raise Reject("Corrupt", "its PCD header is damaged or cut short") from None
    if missing:
        raise Reject("WrongModality", f"a PCD file without the fields {', '.join(sorted(missing))}")
    # A compressed file may be smaller than its points; LZF packs at most 264 bytes into 3.
    smallest = {"binary": points * width, "ascii": points * 6, "binary_compressed": points * width // 88}
    if encoding not in smallest:
        raise Reject("Unsupported", f"a PCD file whose data are {encoding!r}, not {', '.join(smallest)}")
    return _complete(points, smallest[encoding], size)


def _count_ply(head: bytes, size: int) -> int:
    lines = [line.split() for line in _header_lines(head, "end_header")]
    try:
        elements = {line[1]: int(line[2]) for line in lines if line[:1] == ["element"]}
        encoding = next(line[1] for line in lines if line[:1] == ["format"])
        points = elements["vertex"]
    except (KeyError, IndexError, ValueError, StopIteration):
        raise Reject("Corrupt", "its PLY header is damaged or cut short") from None
    if faces := elements.get("face", 0):
        raise Reject("WrongModality", f"a mesh of {faces:,} faces, not a sweep")
    return _complete(points, points * (6 if encoding == "ascii" else 12), size)


def _header_lines(head: bytes, last: str) -> list[str]:
    """Return the lines of a header up to the one that starts with `last`."""
    lines = head.decode("latin-1").splitlines()
    end = next((number for number, line in enumerate(lines) if line.startswith(last)), -1)
    return lines[: end + 1]


def _complete(points: int, smallest: int, size: int) -> int:
    """Return `points`. Raises Reject if they cannot be in a file of `size` bytes."""
    if points < 0 or smallest > size:
        raise Reject("Corrupt", f"its header says {points:,} points, which {size:,} bytes cannot hold: cut short?")
    return points


def _open_npy(path: str) -> np.ndarray:
    """Return the array, mapped. Raises Reject."""
    try:
        points = np.load(path, mmap_mode="r", allow_pickle=False)
    except NPY_ERRORS as error:
        raise Reject("Corrupt", f"no plain .npy array: {error}") from None
    if not isinstance(points, np.ndarray) or points.ndim != 2 or points.shape[1] < 3 or points.dtype.kind != "f":
        shape, dtype = getattr(points, "shape", "?"), getattr(points, "dtype", "?")
        raise Reject("WrongModality", f"an array {dtype} {list(shape)}; points are float [N, 3 or more]")
    return points


def _read(path: str, sensor: str) -> np.ndarray:
    """Return the points as float32 [N, 4]: x, y, z, intensity as the file has it (0 without). Raises Reject."""
    if sensor:
        return np.fromfile(path, "<f4").reshape(-1, SENSORS[sensor].columns)[:, :4]
    if path.lower().endswith(".npy"):
        points = np.array(_open_npy(path)[:, :4], np.float32)
        return points if points.shape[1] == 4 else np.pad(points, ((0, 0), (0, 1)))
    return _read_cloud(path)


def _read_cloud(path: str) -> np.ndarray:
    """Return the points of a .pcd or .ply as `_read` does. Raises Reject."""
    import open3d as o3d  # a second and more to import, which raw files need not wait for

    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        try:
            attributes = dict(o3d.t.io.read_point_cloud(path).point.items())
        except RuntimeError as error:
            raise Reject("Corrupt", f"cannot be read: {error}") from None
    if "positions" not in attributes or not len(attributes["positions"]):
        raise Reject("Corrupt", "its points cannot be read: damaged or cut short")
    named = {name.lower().removeprefix("scalar_"): value for name, value in attributes.items()}
    positions = attributes["positions"].numpy()
    intensity = next((named[name].numpy() for name in INTENSITY_NAMES if name in named), np.zeros(len(positions)))
    return np.column_stack([positions, intensity.reshape(len(positions), -1)[:, 0]]).astype(np.float32)
