"""The modalities that can be trained on: one file each, found by their entry points."""

from importlib.metadata import entry_points

from shard_tools.arguments import nearest
from shard_tools.errors import Misuse

from .base import Adapter, Modality, Options

__all__ = ["Adapter", "Modality", "Options", "get_modality"]


def get_modality(name: str) -> type[Modality]:
    """Return the class of a modality. Raises Misuse for an unknown name."""
    known = {entry.name: entry for entry in entry_points(group="mmmask.adapters")}
    if name not in known:
        raise Misuse(f"unknown modality {name!r}{nearest(name, known)}; known: {', '.join(sorted(known))}")
    return known[name].load()
