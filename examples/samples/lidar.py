"""Sweeps of a simulated 64-beam LiDAR on a car that drives along a street; KITTI layout, a folder a drive."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import open3d as o3d

from examples.samples.street import LANE, Street

DRIVES, SWEEPS = 8, 8
COUNT = DRIVES * SWEEPS
SWEEP_SECONDS = 0.5  # between kept sweeps
SENSOR_HEIGHT = 1.73  # metres
RANGE_NOISE = 0.02  # metres, one standard deviation
MAX_RANGE = 80.0  # metres
NEAREST = 2.0  # metres; nearer beams meet the carrying car
# Degrees above the horizon: the upper 32 beams lie a third of a degree apart, the lower 32 half a degree.
BEAMS = np.concatenate([np.linspace(2, -8.33, 32), np.linspace(-8.83, -24.8, 32)])


@lru_cache(maxsize=2)
def drive(number: int) -> tuple[Street, float, int]:
    """The street of a drive, the observer's speed in metres a second, and the number of azimuths a turn."""
    rng = np.random.default_rng([5, number])
    speed = rng.uniform(5, 12)
    return Street(rng, speed), speed, int(rng.integers(1000, 1500))


def make(index: int, folder: Path) -> None:
    """Write sweep `index`, float32 [N, 4]: x ahead, y left, z up (metres from the sensor), intensity 0..1."""
    number, sweep = divmod(index, SWEEPS)
    street, speed, azimuths = drive(number)
    rng = np.random.default_rng([6, index])
    time = sweep * SWEEP_SECONDS
    sensor = np.array([speed * time, -LANE, SENSOR_HEIGHT])
    points = scan(*street.at(time), sensor, rng.normal(0, 0.03), azimuths, rng)
    target = folder / f"street_{number:02}"
    target.mkdir(parents=True, exist_ok=True)
    points.tofile(target / f"{sweep:06}.bin")


def scan(
    triangles: np.ndarray,
    materials: np.ndarray,
    sensor: np.ndarray,
    heading: float,
    azimuths: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Points [M, 4] that `sensor`, turned by `heading` radians, gets back from triangles [N, 3, 3]."""
    rays = directions(azimuths, rng)
    cos, sin = np.cos(heading), np.sin(heading)
    world_rays = rays @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float32)
    distance, triangle, normal = cast(triangles, sensor, world_rays)
    slant = np.abs(np.sum(normal * world_rays, axis=1))
    met = np.isfinite(distance)
    reflectivity, opacity = np.where(met[:, None], materials[np.where(met, triangle, 0)], 0).T
    echo = 40 * reflectivity * slant / (np.where(met, distance, 1) / MAX_RANGE) ** 2
    seen = rng.random(len(rays)) < opacity * -np.expm1(-echo)
    kept = seen & (distance > NEAREST) & (distance < MAX_RANGE)
    reach = distance + rng.normal(0, RANGE_NOISE, len(rays))
    intensity = np.clip(reflectivity * slant**0.4 + rng.normal(0, 0.02, len(rays)), 0, 1)
    return np.column_stack([rays * reach[:, None], intensity])[kept].astype(np.float32)


def directions(azimuths: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors float32 [beams * azimuths, 3] of a turn, beam by beam from the top, slightly jittered."""
    azimuth = np.pi - 2 * np.pi * np.arange(azimuths) / azimuths + rng.normal(0, 2e-4, (len(BEAMS), azimuths))
    elevation = np.deg2rad(BEAMS)[:, None]
    flat = np.cos(elevation)
    rays = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation) + 0 * azimuth], axis=2)
    return rays.reshape(-1, 3).astype(np.float32)


def cast(triangles: np.ndarray, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each ray from `origin` meets: distance (infinite: nothing), triangle's number, unit normal."""
    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    corners = np.ascontiguousarray(triangles.reshape(-1, 3))
    scene.add_triangles(corners, np.arange(len(corners), dtype=np.uint32).reshape(-1, 3))
    lines = np.column_stack([np.broadcast_to(np.float32(origin), rays.shape), rays])
    hits = scene.cast_rays(o3d.core.Tensor(lines), nthreads=1)
    return tuple(hits[name].numpy() for name in ("t_hit", "primitive_ids", "primitive_normals"))
