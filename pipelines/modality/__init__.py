"""The modalities that can be built: one file each, found by their entry points."""

from importlib.metadata import entry_points

from shard_tools.arguments import nearest
from shard_tools.errors import Misuse

from .base import Modality, Options, Piece, Reject, Sample

__all__ = ["Modality", "Options", "Piece", "Reject", "Sample", "get_modality", "modality_names"]


def modality_names() -> list[str]:
    """Return the names of the modalities that are installed."""
    return sorted({entry.name for entry in entry_points(group="mmmask.builders")})


def get_modality(name: str) -> type[Modality]:
    """Return the builder class of a modality. Raises Misuse for an unknown name."""
    for entry in entry_points(group="mmmask.builders"):
        if entry.name == name:
            return entry.load()
    raise Misuse(f"unknown modality {name!r}{nearest(name, modality_names())}; known: {', '.join(modality_names())}")
