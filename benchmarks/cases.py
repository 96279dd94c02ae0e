"""What is measured: real files in enough volume, the builder's flags, and the bare library calls beside it."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path

from PIL import Image, ImageOps

from benchmarks import peers
from benchmarks.bare import Bare, audio, image, lidar, table, video
from benchmarks.peers import Peer
from shard_tools.errors import Misuse

EVERY_FRAME = 240.0  # a second: more than any source has
PHOTOGRAPHS = 48  # of each size
MOST_FILES = 20_000
SMALLEST = 100_000  # bytes of a sound or table: smaller ones are all opening and closing


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table.

    unit: what bare calls count. candidates: the bare calls by name. files: real ones, repeated by `repeat`. options:
    of the builder. peer: the program beside it, if any. by_url: the builder gets the files over HTTP, too, as the peer
    does, and not from the disk.
    """

    name: str
    modality: str
    unit: str
    files: Sequence[Path]
    candidates: dict[str, Bare]
    options: dict[str, str] = field(default_factory=dict)
    peer: Peer | None = None
    by_url: bool = False

    @property
    def flags(self) -> list[str]:
        """The options as flags of shard-build."""
        return [word for name, value in self.options.items() for word in (f"--{name}", value)]


def cases(data: Path, folder: Path) -> Iterator[Case]:
    """Yield every case whose files stand in `data`: folders image, video, lidar, audio, table of any depth."""
    for width, height in ((640, 480), (1600, 1200)):
        files = _photographs(data, folder / f"{width}x{height}", width, height)
        case = Case(f"image {width}×{height}", "image", "pictures", files, image.CANDIDATES, peer=peers.IMG2DATASET)
        yield from (case, replace(case, name=f"{case.name}, by URL", by_url=True))
    found = [path for path in _find(data / "image", ".jpg", ".jpeg") if _shorter_side(path) >= 256]
    yield Case("image, as found", "image", "pictures", found, image.CANDIDATES, peer=peers.IMG2DATASET)
    films = _find(data / "video", ".mp4", ".mkv", ".avi", ".webm")
    eight, every = video.candidates(8.0), video.candidates(EVERY_FRAME)
    yield Case("video, 8 frames a second", "video", "frames", films, eight, peer=peers.VIDEO2DATASET_8)
    options = {"fps": str(EVERY_FRAME)}
    yield Case("video, every frame", "video", "frames", films, every, options, peers.VIDEO2DATASET)
    yield Case("lidar", "lidar", "sweeps", _find(data / "lidar", ".bin"), lidar.CANDIDATES)
    sounds = _find(data / "audio", ".wav", ".flac", ".ogg", smallest=SMALLEST)
    yield Case("audio", "audio", "windows", sounds, audio.CANDIDATES)
    tables = _find(data / "table", ".csv", smallest=SMALLEST)
    yield Case("table", "table", "blocks", tables, table.CANDIDATES)


def fastest(case: Case) -> tuple[str, Bare, list[Path]]:
    """Return the candidate that takes least a file, by its name, and the files that it can read."""
    timed: list[tuple[float, str, Bare, list[Path]]] = []
    for name, call in case.candidates.items():
        if _works(call, case.files[-1]):  # warm, and installed
            started = time.perf_counter()
            readable = [path for path in case.files if _works(call, path)]
            timed.append(((time.perf_counter() - started) / len(readable), name, call, readable))
    _, name, call, readable = min(timed, key=lambda candidate: candidate[0])
    return name, call, readable


def repeat(files: Sequence[Path], folder: Path, bare: Bare, seconds: float) -> list[Path]:
    """Return links to the files in a folder, again and again, until bare calls take about so many seconds."""
    started = time.perf_counter()
    for path in files:
        _units(bare, path)
    rounds = max(1, round(seconds / (time.perf_counter() - started)))
    folder.mkdir(parents=True)
    links = []
    for number, path in islice(enumerate(cycle(files)), min(rounds * len(files), MOST_FILES)):
        links.append(folder / f"{number:06d}-{path.name}")
        links[-1].symlink_to(path.absolute())
    return links


def _units(call: Bare, path: Path) -> int:
    return sum(units for units, _ in call(path))


def _works(call: Bare, path: Path) -> bool:
    try:
        return _units(call, path) > 0
    except Exception:
        return False


def _find(folder: Path, *suffixes: str, smallest: int = 0) -> list[Path]:
    """Return the files below a folder, of at least so many bytes, in order. Raises Misuse when there is none."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    files = [path for path in files if path.stat().st_size >= smallest]
    if not files:
        raise Misuse(f"--data: no file {' or '.join(suffixes)} in {folder}")
    return files


def _photographs(data: Path, folder: Path, width: int, height: int) -> list[Path]:
    """Return the photographs of `data`, the largest first, cut and scaled to one size: JPEG, quality 90, 4:2:0."""
    found = sorted(_find(data / "image", ".jpg", ".jpeg", ".png"), key=os.path.getsize, reverse=True)
    folder.mkdir(parents=True)
    files: list[Path] = []
    for path in islice((path for path in found if _shorter_side(path) >= 256), PHOTOGRAPHS):
        files.append(folder / f"{len(files):03d}.jpg")
        with Image.open(path) as picture:
            ImageOps.fit(picture.convert("RGB"), (width, height)).save(files[-1], quality=90)
    return files


def _shorter_side(path: Path) -> int:
    """Return the pixels of a picture's shorter side, 0 where it cannot be opened."""
    try:
        with Image.open(path) as picture:
            picture.load()
            return min(picture.size)
    except OSError:
        return 0
