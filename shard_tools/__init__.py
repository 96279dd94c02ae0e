"""Shard data sets: what they are, writing, reading, checking and looking at them. No torch, no Ray, no decoder."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import Misuse, Problem

if TYPE_CHECKING:
    from .opening import open
    from .reader import CorruptSample, Dataset
    from .schema import Manifest
    from .zipped import Zipped

__all__ = ["CorruptSample", "Dataset", "Manifest", "Misuse", "Problem", "Zipped", "open"]

LAZY = {  # imported when first asked for: who needs the errors or the tar rules alone does not wait for Arrow
    "CorruptSample": "reader",
    "Dataset": "reader",
    "Manifest": "schema",
    "Zipped": "zipped",
    "open": "opening",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f".{LAZY[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY})
