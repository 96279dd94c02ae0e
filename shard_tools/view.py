"""Draw samples with their mask layers: one HTML page that needs nothing but a browser, which is also the decoder.

Python picks samples and packs their bytes; `templates/view.js` draws them. A part is drawn by its name (jpg, mp4,
points.npy, mel.npy, arrow), so the page has no need to know modalities.
"""

import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from jinja2 import Environment, PackageLoader, StrictUndefined

from .errors import Misuse, Problem
from .reader import CorruptSample, Dataset
from .schema import Layer, Manifest
from .storage import atomic

MEDIA = {"jpg": "image/jpeg", "png": "image/png", "mp4": "video/mp4"}
POINTS = 40_000  # more points than pixels only make the page heavy
ROWS, COLUMNS = 12, 40  # of a table


def view(root: str | os.PathLike[str], count: int, split: str | None, out: str | os.PathLike[str]) -> int:
    """Write a page with `count` samples, spread evenly over a split, and return how many it shows.

    split: None for all of the data set. Raises Misuse and Problem like `open`, and when `out` cannot be written.
    """
    data = Dataset(root, split)
    if not len(data):
        raise Problem(f"{data.root}: no samples to show")
    target = Path(out)
    if not target.parent.is_dir() or target.is_dir():
        raise Misuse(f"--out {target}: not a file in a folder that exists")
    positions = np.unique(np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(int))
    samples = [_sample(data, int(position)) for position in positions]
    page = _render(data.manifest, samples)
    try:
        with atomic(target.parent, target.name) as file:
            file.write(page.encode())
    except OSError as error:
        raise Problem(f"--out {target}: cannot be written: {error.strerror}") from error
    return len(samples)


def _render(manifest: Manifest, samples: list[dict[str, Any]]) -> str:
    """Return the page. Names and labels come from file names: everything is escaped, and no other script may run."""
    environment = Environment(loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined)
    loader = environment.loader
    assert loader is not None
    script = loader.get_source(environment, "view.js")[0]
    style = loader.get_source(environment, "view.css")[0]
    return environment.get_template("view.html.j2").render(
        m=manifest,
        samples=samples,
        drawn=[sample["drawn"] for sample in samples],
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=style,
    )


def _sample(data: Dataset, position: int) -> dict[str, Any]:
    """Return what the page shows of one sample: text for the template, and under `drawn` what the script draws."""
    row = data.row(position)
    shown: dict[str, Any] = {
        "key": row["key"],
        "split": row["split"],
        "label": row["label"],
        "facts": {
            "source": row["source"],
            "lattice": "none: an absent sample" if row["shape"] == [0] else " × ".join(map(str, row["shape"])),
        },
        "error": "",
        "media": {},
        "table": None,
        "drawn": {"arrays": {}, "layers": {}, "facts": {}},
    }
    try:
        sample, raw = data[position], data.raw(position)
    except CorruptSample as error:
        return {**shown, "error": str(error)}
    facts = sample.get("json") or {}
    known = {name: value for name, value in facts.items() if value not in ("", -1, row["label"], row["source"])}
    shown["facts"] |= {name: _text(value) for name, value in known.items()}
    if sample.get("txt"):
        shown["facts"]["caption"] = sample["txt"]
    shown["media"] = {part: _uri(MEDIA[part], raw[part]) for part in sorted(MEDIA) if raw.get(part)}
    shown["drawn"]["facts"] = facts
    shown["drawn"]["layers"] = dict(_layers(data.manifest, sample))
    if sample.get("points.npy") is not None:
        shown["drawn"] |= _cloud(data.manifest, sample)
    if sample.get("mel.npy") is not None:
        shown["drawn"]["arrays"]["mel"] = _array(sample["mel.npy"])
    if sample.get("arrow") is not None:
        shown["table"] = _table(sample["arrow"])
    return shown


def _layers(manifest: Manifest, sample: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, layer in sorted(manifest.layers.items()):
        values = sample.get(f"{name}.npy")
        if values is not None:
            yield name, _layer(layer, values)


def _layer(layer: Layer, values: np.ndarray) -> dict[str, Any]:
    about = {"kind": layer.kind, "cell": layer.cell, "scale": layer.scale, "offset": layer.offset, "unit": layer.unit}
    return {**_array(values), **about}


def _array(values: np.ndarray) -> dict[str, Any]:
    """Return an array as the script reads it: {'dtype', 'shape', 'data'}, base64 of little-endian bytes."""
    if values.dtype.kind not in "ui" or values.dtype.itemsize > 4:  # JavaScript has no float16, bool and int64 arrays
        values = values.astype(np.float32)
    values = values.astype(values.dtype.newbyteorder("<"), order="C")
    data = base64.b64encode(values.tobytes()).decode()
    return {"dtype": values.dtype.name, "shape": list(values.shape), "data": data, "scale": 1, "offset": 0}


def _cloud(manifest: Manifest, sample: dict[str, Any]) -> dict[str, Any]:
    """Return a LiDAR sweep for the script: points float32 [M,3] in metres, the layers of voxels as a value a point."""
    stored, about = sample["points.npy"], manifest.parts["points.npy"]
    points = stored * np.asarray(about.scale or 1.0, np.float32) + np.asarray(about.offset or 0.0, np.float32)
    count = sample.get("count.npy")
    stride = max(1, -(-len(points) // POINTS))
    layers = {}
    for name, layer in sorted(manifest.layers.items()):
        values = sample.get(f"{name}.npy")
        if values is not None and count is not None and len(values) == len(count) and count.sum() == len(points):
            layers[name] = _layer(layer, np.repeat(values, count)[::stride])
    return {"arrays": {"points": _array(points[::stride, :3].astype(np.float32))}, "layers": layers}


def _table(table: pa.Table) -> dict[str, Any]:
    """Return the first rows of a table: its column names and rows of cells {'text', 'missing', 'z'}."""
    names = table.column_names[:COLUMNS]
    columns = [list(_cells(table[index])) for index in range(len(names))]
    return {"names": names, "rows": list(zip(*columns, strict=True)), "size": [table.num_rows, table.num_columns]}


def _cells(column: pa.ChunkedArray) -> Iterator[dict[str, Any]]:
    """Yield the first cells of a column. z: how many standard deviations from the block's mean, -3 to 3."""
    scores = np.zeros(len(column))
    if pt.is_floating(column.type) or pt.is_integer(column.type):
        numbers = column.to_numpy().astype(float)
        known = numbers[np.isfinite(numbers)]
        if len(known) and known.std() > 0:
            scores = np.clip(np.nan_to_num((numbers - known.mean()) / known.std()), -3, 3)
    for value, z in zip(column[:ROWS].to_pylist(), scores, strict=False):
        yield {"text": "" if value is None else _text(value), "missing": value is None, "z": round(float(z), 2)}


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
