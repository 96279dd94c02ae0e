"""Files that mean harm, or are merely broken, made by code: a module a modality, each with `files()`.

A file says what must become of it: accepted, or rejected with one of some classes.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ACCEPTED = "accepted"
LOST = "lost"  # of a member of a damaged tar: behind the damage, and so not known of


@dataclass(frozen=True)
class Hostile:
    """One file. make: its bytes, or what puts it under a path. expected: 'accepted' or classes of rejects."""

    name: str
    make: bytes | Callable[[Path], object]
    expected: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Put the file into a folder."""
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(self.make, bytes):
            path.write_bytes(self.make)
        else:
            self.make(path)


def hostile(name: str, make: bytes | Callable[[Path], object], *expected: str) -> Hostile:
    """Return a file; it is to be accepted unless told."""
    return Hostile(name, make, expected or (ACCEPTED,))


def sparse(size: int, head: bytes = b"") -> Callable[[Path], object]:
    """Return what makes a file of `size` bytes, zeros after its head, that takes no room on the disk."""

    def make(path: Path) -> None:
        path.write_bytes(head)
        os.truncate(path, size)

    return make


def noise(size: int, seed: int = 0) -> bytes:
    """Return bytes without meaning."""
    return random.Random(seed).randbytes(size)


def common(suffix: str, good: bytes, *, cuts: dict[float, tuple[str, ...]]) -> Iterator[Hostile]:
    """Yield what any format must stand: no bytes, noise, zeros, and a good file cut at some shares of its length."""
    stem = f"common{suffix}"
    yield hostile(f"{stem}/empty{suffix}", b"", "Empty")
    for share, expected in cuts.items():
        yield hostile(f"{stem}/cut-{share:g}{suffix}", good[: max(1, int(len(good) * share))], *expected)
