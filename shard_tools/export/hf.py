"""Hugging Face datasets: a folder that `load_dataset` takes, its card telling the type of every part.

Any data set of ours loads as it is; the types come on top: pictures and clips as such, arrays with their dtype, classes
by name. https://huggingface.co/docs/datasets/repository_structure
"""

import re
from typing import Any

import numpy as np

from ..manifest import write_card
from ..reader import Dataset
from ..storage import Storage
from .base import Format

MEDIA = {"jpg": "image", "png": "image", "mp4": "video"}
SCALAR = {bool: "bool", int: "int64", float: "float64", str: "string"}
EVERY = [{"name": "__key__", "dtype": "string"}, {"name": "__url__", "dtype": "string"}]  # added by their reader


def write(dataset: Dataset, output: Storage) -> list[str]:
    """Write the card."""
    write_card(output.root, dataset.manifest, features(dataset))
    return ["README.md"]


def features(dataset: Dataset) -> list[dict[str, Any]]:
    """Return the type of every part in the words of a card's `dataset_info`."""
    parts = [{"name": part, **_part(dataset, part)} for part in sorted(dataset.manifest.parts)]
    return parts + EVERY


def _part(dataset: Dataset, part: str) -> dict[str, Any]:
    if part in MEDIA:
        return {"dtype": MEDIA[part]}
    if part == "cls":
        return {"dtype": {"class_label": {"names": {str(i): name for i, name in enumerate(dataset.manifest.classes)}}}}
    if part.split(".")[-1] in ("npy", "json"):
        sizes = dataset.index[f"{part}.size"].to_numpy()
        written = np.flatnonzero(sizes)  # a part with nothing to say is empty
        if len(written):
            return _type(dataset[int(written[0])][part], dataset.manifest.parts[part].shape)
    return {"dtype": "string" if part == "txt" else "binary"}


def _type(value: Any, shape: str = "") -> dict[str, Any]:
    """Return the type of a decoded value. shape: of an array, as the manifest has it."""
    if isinstance(value, np.ndarray):
        if fixed := re.fullmatch(r"\w+,(\d+)", shape):  # rows of one length, the first axis free
            return {"dtype": {"array2_d": {"shape": [None, int(fixed[1])], "dtype": str(value.dtype)}}}
        type_: dict[str, Any] = {"dtype": str(value.dtype)}
        for _ in range(value.ndim):
            type_ = {"list": type_}
        return type_
    if isinstance(value, dict):
        return {"struct": [{"name": name, **_type(inner)} for name, inner in value.items()]}
    if isinstance(value, list):
        return {"list": _type(value[0]) if value else {"dtype": "string"}}
    return {"dtype": SCALAR[type(value)]}


FORMAT = Format(
    "Hugging Face datasets: a card that tells the type of every part", in_place=True, shards=True, write=write
)
