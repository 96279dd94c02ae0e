"""Pictures of a run: reconstructions side by side, loss curves."""

import io
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from shard_tools.errors import Misuse
from shard_tools.storage import atomic

from .data.stream import Packs
from .model import MaskedAutoencoder
from .training.held_out import reconstruct, spread

COLUMNS = ("what the encoder reads", "reconstruction")  # beside the input, which is named by its key


def reconstructions(model: MaskedAutoencoder, packs: Packs, count: int) -> dict[str, list[dict[str, Any]]]:
    """Return {modality: results of `count` samples spread over the data} (see `reconstruct`)."""
    return {name: reconstruct(model, packs, name, spread(len(source), count)) for name, source in packs.sources.items()}


def reconstruction_figure(packs: Packs, results: dict[str, list[dict[str, Any]]]) -> Figure:
    """Draw a row a sample: its input, what was left of it, the reconstruction."""
    rows = [(name, result) for name, of_modality in results.items() for result in of_modality]
    heights = [packs.modalities[name].height for name, _ in rows]
    figure = Figure(figsize=(12, 0.4 + sum(heights)), layout="constrained", dpi=110)
    grid = figure.subplots(len(rows), 3, squeeze=False, height_ratios=heights)
    for axes, (name, result) in zip(grid, rows, strict=True):
        packs.modalities[name].draw(axes, result["view"], result["plan"], result["truth"], result["guess"])
        hidden = len(result["plan"].query) / (len(result["plan"].query) + len(result["plan"].context))
        axes[0].set_title(f"{name}: {result['key'].rsplit(': ', 1)[-1]}", fontsize=8, loc="left", color="0.35")
        axes[2].set_title(f"{hidden:.0%} hidden", fontsize=8, loc="right", color="0.35")
    for ax, title in zip(grid[0][1:], COLUMNS, strict=True):
        ax.set_title(title, fontsize=11)
    return figure


def loss_figure(run: Path) -> Figure:
    """Draw each modality's loss over the steps, from metrics.jsonl, relative to its first value."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    ax = figure.subplots()
    for name in rows[0]["losses"] if rows else []:
        ax.plot([r["step"] for r in rows], [r["losses"][name] / rows[0]["losses"][name] for r in rows], label=name)
    ax.set(xlabel="step", ylabel="loss, first step = 1", yscale="log")
    ax.grid(alpha=0.25, which="both")
    ax.legend(frameon=False, ncols=5, loc="upper right")
    return figure


def write(out: Path, data: bytes) -> None:
    """Write a file, whole or not at all. Raises Misuse where that cannot be."""
    try:
        with atomic(out.parent, out.name) as file:
            file.write(data)
    except OSError as error:
        raise Misuse(f"--out {out}: cannot be written: {error.strerror}") from None


def to_bytes(figure: Figure, kind: str) -> bytes:
    """Return a figure as 'png' or 'svg'."""
    file = io.BytesIO()
    figure.savefig(file, format=kind)
    return file.getvalue()
