"""LiDAR: sweeps become compressed sparse rows: occupied base voxels, returns in each, returns voxel after voxel.

Coordinates stay in the sensor's own frame, z up. Voxels are small and fixed, so that a trainer can coarsen them
(`coords // k`) to the size it wants.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from pipelines.layers import ground
from pipelines.statistics import mean_std, moments
from shard_tools.schema import Part

from . import base
from .base import Modality, Piece, Reject, Sample
from .sniff import sniff, unknown

NEAREST = 1.0  # metres; nearer returns are the carrying car, or no return at all
STEP = 0.01  # metres; a stored coordinate counts steps and decodes to the middle of its step
ZERO = 1 << 15  # the stored coordinate of the step that begins at 0 m
VOXEL_ZERO = 1 << 12  # more than a voxel's coordinate can be below zero
STEPS = np.array([10, 10, 20], np.int32)  # of a base voxel's sides
MAX_COUNT = 65535  # returns in a voxel
MAX_POINTS = 10_000_000  # a sweep has a few hundred thousand; more is a survey
HEADER_BYTES = 1 << 16
NPY_ERRORS = (ValueError, OSError, EOFError, OverflowError, SyntaxError, TokenError)  # what headers make np.load raise
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
            scale=(STEPS * STEP).tolist(),
            offset=[0.0, 0.0, 0.0],
            unit="m",
        ),
        "count.npy": Part(description="returns in each voxel", dtype="uint16", shape="V"),
        "points.npy": Part(
            description="x, y, z and intensity 0..1 of each return, in the order of the voxels",
            dtype="uint16",
            shape="M,4",
            scale=[STEP, STEP, STEP, 1 / 65535],
            offset=[(0.5 - ZERO) * STEP] * 3 + [0.0],
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
        return [Piece(bytes=14 * points + 2048)]

    def build(self, path: str, pieces: Sequence[Piece]) -> Iterator[Sample | Reject]:
        """Yield the sweep's sample. Raises Reject."""
        self.probe(path)
        source = _read(path, self._sensor(path))
        stored, coords, count = voxels(self._unit_intensity(_usable(source), path))
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

    def _unit_intensity(self, points: np.ndarray, path: str) -> np.ndarray:
        """Return points [N, 4] with intensity 0..1: by the sensor's scale, otherwise from 1, 8 or 16 bits."""
        sensor = self._sensor(path)
        brightest = points[:, 3].max()
        white = next((white for white in (1.0, 255.0, 65535.0) if brightest <= white), brightest)
        if sensor and (self.options.sensor != "auto" or SENSORS[sensor].brightest > 1):
            white = SENSORS[sensor].brightest
        scaled = points.copy()
        scaled[:, 3] = np.clip(points[:, 3] / white, 0, 1)
        return scaled


def voxels(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Put returns into base voxels.

    points: float [N, 4]: x, y, z in metres within ±327.68, intensity 0..1.
    Returns (points uint16 [M, 4] in the order of the voxels and, inside one, of the source; coords int16 [V, 3], sorted
    by (x, y, z); count uint16 [V]). M is N but for returns beyond 65535 in one voxel, which are left out.
    """
    # Columns one after the other: NumPy is several times slower along rows of three.
    x_y_z, intensity = np.ascontiguousarray(points[:, :3].T, np.float64), points[:, 3]
    steps = np.floor(x_y_z / STEP).astype(np.int32)
    coords = steps // STEPS[:, None]
    x, y, z = (coords + VOXEL_ZERO).astype(np.int64)
    voxel = x << 26 | y << 13 | z
    order = np.argsort(voxel, kind="stable")
    first = np.flatnonzero(np.diff(voxel[order], prepend=-1))
    count = np.diff(first, append=len(order))
    coords = coords.take(order[first], 1).T
    if count.max() > MAX_COUNT:
        order = order[np.arange(len(order)) - np.repeat(first, count) < MAX_COUNT]
    stored = np.empty((len(points), 4), np.uint16)
    stored[:, :3] = (steps + ZERO).T
    stored[:, 3] = np.rint(intensity * 65535)
    return stored.take(order, 0), np.ascontiguousarray(coords, np.int16), np.minimum(count, MAX_COUNT).astype(np.uint16)


def decode(stored: np.ndarray) -> np.ndarray:
    """Return the part points.npy, uint16 [M, 4], as float32 [M, 4]: x, y, z in metres, intensity 0..1."""
    part = Lidar.parts["points.npy"]
    return (stored * np.array(part.scale) + np.array(part.offset)).astype(np.float32)


def _usable(points: np.ndarray) -> np.ndarray:
    """Return the rows of [N, 4] that are finite, not nearer than 1 m and within ±327.68 m. Raises Reject if none is."""
    columns = np.ascontiguousarray(points.T)
    finite = np.isfinite(columns).all(0)
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.square(columns[:3], dtype=np.float64).sum(0) < NEAREST**2
        far = ~(np.abs(columns[:3]) < ZERO * STEP).all(0)
    kept = finite & ~near & ~far
    if not kept.any():
        raise Reject(
            "Empty",
            f"none of {len(points):,} points is usable: {(~finite).sum():,} are not finite, "
            f"{(finite & near).sum():,} nearer than {NEAREST:g} m, {(finite & far).sum():,} beyond {ZERO * STEP:.0f} m",
        )
    return points.take(np.flatnonzero(kept), 0)


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
