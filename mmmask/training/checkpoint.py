"""Checkpoints: whole or absent, never pickled code; the newest few stay."""

import contextlib
import os
from pathlib import Path
from typing import Any

import torch

from shard_tools.errors import Problem


def save(folder: Path, step: int, state: dict[str, Any], keep: int) -> None:
    """Write step-XXXXXXXX.pt under a temporary name, fsync, rename; then remove all but the newest `keep`."""
    partial = folder / ".checkpoint.partial"  # one name: what a killed run left is overwritten
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            torch.save({"step": step, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, folder / f"step-{step:08d}.pt")
    except (OSError, RuntimeError) as error:  # torch raises the second kind when the disk is full
        reason = error.strerror if isinstance(error, OSError) else "is the disk full?"
        raise Problem(f"checkpoint of step {step} cannot be written in {folder}: {reason}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    for old in _all(folder)[:-keep]:
        old.unlink(missing_ok=True)


def load(folder: Path) -> dict[str, Any] | None:
    """Return the newest checkpoint's state, on the CPU; None where there is none. Raises Problem for a broken one."""
    saved = _all(folder)
    if not saved:
        return None
    try:
        return torch.load(saved[-1], map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is cut short
        message = " ".join(str(error).split())[:200]
        raise Problem(
            f"checkpoint {saved[-1]} cannot be read ({message}); remove it to go on from the one before"
        ) from None


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"))
