"""Histograms of a data set: sizes, lattices, labels and ranges of all samples; facts, layers and columns of some."""

import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined

from .errors import Misuse, Problem
from .scan import scan
from .schema import Layer
from .selection import Selection
from .storage import atomic
from .tar import decode_part
from .words import say_bytes, say_number

BINS = 24
LABELS = 100  # on the page
COLUMNS = 40  # of a table
FINE = 32  # fine bins an octave, of which those that are shown are made
OCTAVES = 64
UNKNOWN = -1  # what json has for a number that is not known
KNOWN = {"source", "label", "group", "start", "end"}  # of json: shown from the index


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often which value comes.

    edges: BINS + 1 at most, ascending, evenly spaced, or by their logarithm where `log`. counts: one fewer.
    """

    title: str
    unit: str
    log: bool
    edges: list[float]
    counts: list[int]
    count: int
    min: float
    mean: float
    max: float


@dataclass(slots=True)
class Sizes:
    """Numbers from 0 on, counted in fine logarithmic bins as they come; minimum, mean and maximum are exact."""

    title: str
    unit: str = ""
    count: int = 0
    total: float = 0.0
    min: float = math.inf
    max: float = 0.0
    fine: np.ndarray = field(default_factory=lambda: np.zeros(2 * OCTAVES * FINE + 1, np.int64))

    def add(self, values: np.ndarray) -> None:
        """Count some numbers."""
        if not len(values):
            return
        values = values.astype(np.float64)
        with np.errstate(divide="ignore"):
            places = np.floor(np.log2(values) * FINE) + OCTAVES * FINE + 1
        self.fine += np.bincount(np.clip(places, 0, len(self.fine) - 1).astype(int), minlength=len(self.fine))
        self.count, self.total = self.count + len(values), self.total + float(values.sum())
        self.min, self.max = min(self.min, float(values.min())), max(self.max, float(values.max()))

    def histogram(self) -> Histogram | None:
        """Return what was counted, None when nothing was."""
        if not self.count:
            return None
        used = np.flatnonzero(self.fine)
        width = -(-(int(used[-1]) - int(used[0]) + 1) // BINS)
        starts = np.arange(int(used[0]), int(used[-1]) + 1, width)
        counts = np.add.reduceat(self.fine[: int(used[-1]) + 1], starts)
        edges = 2.0 ** ((np.append(starts, starts[-1] + width) - 1) / FINE - OCTAVES)
        edges[0], edges[-1] = self.min, self.max
        mean = self.total / self.count
        return _histogram(self.title, self.unit, True, edges, counts, self.count, self.min, mean, self.max)


def stats(
    root: str | os.PathLike[str], samples: int, progress: Callable[[int], object] = lambda _: None
) -> dict[str, Any]:
    """Return the figures of a data set as plain JSON values.

    samples: of how many, evenly spread, the parts are read; of all, only the index. progress: called with the number
    of samples gone through since the last call.
    `of_all` and `of_some`: histograms by their title, see `Histogram`; `labels`: count of each, most frequent first.
    Raises Problem and Misuse like `open`, and Problem for a damaged sample.
    """
    whole = Selection.all(root)
    if not len(whole):
        raise Problem(f"{whole.storage.root}: no samples")
    labels: Counter[str] = Counter()
    of_all = _of_all(whole, labels, progress)
    positions = np.unique(np.linspace(0, len(whole) - 1, min(samples, len(whole))).round().astype(int))
    chosen = np.zeros(len(whole), bool)
    chosen[positions] = True
    of_some = _of_some(whole.where(chosen), progress)
    manifest = whole.manifest
    return {
        "name": manifest.name,
        "modality": manifest.modality,
        "samples": len(whole),
        "splits": manifest.splits,
        "labels": dict(sorted(labels.items(), key=lambda item: (-item[1], item[0]))) if set(labels) != {""} else {},
        "of_all": [asdict(one) for one in of_all],
        "read": len(positions),
        "of_some": [asdict(one) for one in of_some],
    }


def write_page(figures: dict[str, Any], out: str | os.PathLike[str]) -> None:
    """Write the figures as a page that needs nothing else. Raises Misuse and Problem when it cannot be written."""
    target = Path(out)
    if target.suffix.lower() != ".html":
        raise Misuse(f"--out {target}: the page is HTML; give a name that ends in .html")
    if not target.parent.is_dir() or target.is_dir():
        raise Misuse(f"--out {target}: not a file in a folder that exists")
    environment = Environment(loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"number": say_number, "bytes": say_bytes}
    loader = environment.loader
    assert loader is not None
    style = loader.get_source(environment, "view.css")[0]
    page = environment.get_template("stats.html.j2").render(f=figures, style=style, limit=LABELS)
    try:
        with atomic(target.parent, target.name) as file:
            file.write(page.encode())
    except OSError as error:
        raise Problem(f"--out {target}: cannot be written: {error.strerror}") from error


def _of_all(whole: Selection, labels: Counter[str], progress: Callable[[int], object]) -> list[Histogram]:
    """Return what the index says of all samples; count their labels."""
    parts = sorted(whole.manifest.parts)
    a_sample, ranges, cells = (
        Sizes("bytes a sample", "byte"),
        Sizes("range of the source (end − start)"),
        Sizes("cells"),
    )
    a_part = {part: Sizes(f"bytes of {part}", "byte") for part in parts}
    axes: dict[int, Sizes] = {}
    for shard, index in scan(whole.storage, whole.manifest, whole.manifest.shards):
        sizes = {part: index[f"{part}.size"].to_numpy() for part in parts}
        a_sample.add(np.sum(list(sizes.values()), axis=0))
        for part, values in sizes.items():
            a_part[part].add(values)
        start, end = index["start"].to_numpy(), index["end"].to_numpy()
        ranges.add((end - start)[end >= start])
        lengths = pc.list_value_length(index["shape"]).to_numpy()
        flat = index["shape"].combine_chunks().flatten().to_numpy()
        if len(flat):
            starts = np.cumsum(lengths) - lengths
            cells.add(np.multiply.reduceat(flat.astype(np.float64), starts[lengths > 0]))
            for axis in range(int(lengths.max())):
                axes.setdefault(axis, Sizes(f"lattice, axis {axis}")).add(flat[starts[lengths > axis] + axis])
        for row in pc.value_counts(index["label"]).to_pylist():
            labels[row["values"]] += row["counts"]
        progress(shard.samples)
    lattice = [*axes.values(), cells] if len(axes) > 1 else [cells]
    return [one for sizes in (a_sample, *a_part.values(), *lattice, ranges) if (one := sizes.histogram())]


def _of_some(chosen: Selection, progress: Callable[[int], object]) -> list[Histogram]:
    """Return histograms of the numbers in json, of each layer's values, and of the columns of tables."""
    facts: dict[str, list[float]] = {}
    layers: dict[str, list[np.ndarray]] = {}
    columns: dict[str, list[np.ndarray]] = {}
    missing: dict[str, list[float]] = {}
    for split in chosen.manifest.splits:
        for _, row, parts in chosen.samples(split):
            try:
                for name, value in (decode_part("json", parts.get("json", b"")) or {}).items():
                    if name not in KNOWN and type(value) in (int, float) and value != UNKNOWN:
                        facts.setdefault(name, []).append(value)
                for name, layer in chosen.manifest.layers.items():
                    if (stored := decode_part(f"{name}.npy", parts[f"{name}.npy"])) is not None:
                        layers.setdefault(name, []).append(_measure(layer, stored))
                if (table := decode_part("arrow", parts.get("arrow", b""))) is not None:
                    for name, column in zip(table.column_names[:COLUMNS], table.columns, strict=False):
                        missing.setdefault(name, []).append(column.null_count / max(len(column), 1))
                        if pa.types.is_floating(column.type):
                            columns.setdefault(name, []).append(column.to_numpy())
            except ValueError as error:
                raise Problem(f"sample {row['key']}: {error}; see shard-tools verify") from error
            progress(1)
    found = [_linear(f"json: {name}", "", np.asarray(values, float)) for name, values in sorted(facts.items())]
    for name, blocks in sorted(layers.items()):
        title, unit = _layer_title(name, chosen.manifest.layers[name])
        found.append(_linear(title, unit, np.concatenate(blocks)))
    found += [_linear(f"column {name}", "", np.concatenate(blocks)) for name, blocks in columns.items()]
    for name, shares in missing.items():
        if any(shares):
            found.append(_linear(f"column {name}: missing", "", np.asarray(shares)))
    return [histogram for histogram in found if histogram]


def _measure(layer: Layer, stored: np.ndarray) -> np.ndarray:
    """Return the numbers of a layer of one sample that its histogram counts, float [n]."""
    if layer.kind == "label":
        return np.array([len(np.unique(stored))], float)
    if layer.kind == "flag":
        return np.array([np.mean(stored != 0)]) if stored.size else np.empty(0)
    values = layer.decode(stored)
    return (np.linalg.norm(values, axis=0) if layer.kind == "vector" else values).ravel()


def _layer_title(name: str, layer: Layer) -> tuple[str, str]:
    """Return what the numbers of a layer are, and their unit."""
    if layer.kind == "label":
        return f"layer {name}: labels a sample", ""
    if layer.kind == "flag":
        return f"layer {name}: share of cells a sample", ""
    return f"layer {name}: {'length' if layer.kind == 'vector' else 'value'} a cell", layer.unit


def _linear(title: str, unit: str, values: np.ndarray) -> Histogram | None:
    values = values[np.isfinite(values)].astype(float)
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    counts, edges = np.histogram(values, BINS if high > low else 1, (low, high if high > low else low + 1))
    if high == low:
        edges = np.array([low, low])
    return _histogram(title, unit, False, edges, counts, len(values), low, float(values.mean()), high)


def _histogram(
    title: str,
    unit: str,
    log: bool,
    edges: np.ndarray,
    counts: np.ndarray,
    count: int,
    low: float,
    mean: float,
    high: float,
) -> Histogram:
    return Histogram(title, unit, log, edges.tolist(), counts.tolist(), count, low, mean, high)
