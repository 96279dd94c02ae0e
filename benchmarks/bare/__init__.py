"""What a modality costs without a builder: the field's libraries called one after the other.

A file a modality, each with CANDIDATES: name → a generator that takes a file and yields what a builder would store of
it. The fastest candidate is what a builder is measured against.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

Made = tuple[int, dict[str, bytes]]  # units (pictures, frames, …) of a sample, and its parts
Bare = Callable[[Path], Iterator[Made]]


def npy(array: np.ndarray) -> bytes:
    """Return an array as a file."""
    np.save(file := io.BytesIO(), array)
    return file.getvalue()
