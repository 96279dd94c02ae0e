"""Raw files of a modality → samples with mask layers → shards. `pipelines.build` is `shard-build` for Python."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import build
    from .report import Report

__all__ = ["Report", "build"]


def __getattr__(name: str) -> Any:
    """Import the engine, and Ray with it, when it is asked for: the processes that decode must not pay for it."""
    if name == "build":
        from .engine import build

        return build
    if name == "Report":
        from .report import Report

        return Report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
