"""Shard data sets: what they are, writing, reading, checking and looking at them. No torch, no Ray, no decoder."""

from .errors import Misuse, Problem
from .reader import CorruptSample, Dataset, open
from .schema import Manifest

__all__ = ["CorruptSample", "Dataset", "Manifest", "Misuse", "Problem", "open"]
