"""The words of format 1: what a manifest, a part, a layer, an index row and a key are.

Everything else in `shard_tools` reads or writes these; `docs/format.md` says the same for people.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

FORMAT: Literal[1] = 1
KEY = re.compile(r"[a-z0-9_-]+")
MEMBER_BYTES = 100  # USTAR without a prefix; some readers look at no more
SPLITS = ("train", "val")

LayerKind = Literal["scalar", "vector", "label", "flag"]
ColumnType = Literal["string", "int64", "float64", "bool"]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class Strict(BaseModel):
    """A record of the format: no unknown fields, no change after it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(Strict):
    """One file of every sample, for instance `jpg`, `points.npy` or `json`."""

    description: str
    dtype: str = Field("", description="numpy dtype of a .npy part, empty for other kinds")
    shape: str = Field("", description="axes of a .npy part, for instance 'M,4'")
    scale: list[float] = Field([], description="value = stored * scale + offset, per channel of the last axis")
    offset: list[float] = Field([], description="see scale")
    unit: str = ""


class Layer(Strict):
    """What a mask needs to know, on the sample's lattice; stored in the part `NAME.npy`.

    Shape: the lattice's own for scalar, label and flag; [C, *lattice] for vector. `fill` is the stored value where
    nothing is known. The kind says how a transform treats it: scalar and vector are resampled bilinearly (vectors
    also change sign with a flip and length with a resize), labels by the nearest cell, flags by any-touch.
    """

    kind: LayerKind
    cell: list[int] = Field(description="size of a lattice cell in payload units, one number an axis")
    dtype: str
    scale: float = Field(1.0, description="value = stored * scale + offset; a constant of the layer, never of the data")
    offset: float = 0.0
    unit: str = ""
    fill: float = 0.0
    algorithm: str = Field(description="what computed it, in the field's words")
    version: int = 1

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Return the layer's values as float32, same shape as `stored`."""
        return stored.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)


class Shard(Strict):
    """One committed tar file of a data set."""

    name: str = Field(description="file name, for instance train-000000.tar")
    split: str
    sha256: str
    bytes: int
    samples: int


class Build(Strict):
    """What made the data set: enough to make it again."""

    config: dict[str, Any]
    digest: str = Field(description="sha256 of the config and of the sorted inputs")
    versions: dict[str, str]


class Manifest(Strict):
    """`manifest.json`: what the data set is, and which shards stand in it."""

    format: Literal[1] = FORMAT
    name: str
    modality: str
    parts: dict[str, Part] = Field(description="every part of every sample, layers included")
    layers: dict[Name, Layer]
    classes: list[str] = Field([], description="label of each integer in the part cls; empty without labels")
    columns: dict[str, ColumnType] = Field(
        {},
        description="columns carried over from a list of inputs: they stand in the json of every sample and the index",
    )
    splits: dict[str, int] = Field(description="samples a split")
    statistics: dict[str, Any] = Field(description="from the training split; its keys depend on the modality")
    rejected: int = Field(0, description="rows of rejected.parquet")
    gaps: list[str] = Field([], description="shards of the plan that got no file, since all their inputs were rejected")
    build: Build
    shards: list[Shard]


PLAN = pa.schema(
    [
        ("source", pa.string()),  # root name and path below it, the same on every machine
        ("start", pa.float64()),  # range of the source in the modality's unit: seconds, rows; 0 and -1 for all of it
        ("end", pa.float64()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("label", pa.string()),
        ("key", pa.string()),
        ("shard", pa.string()),
    ]
)

# The file can be given to `shard-build --input` to try again.
REJECTED = pa.schema(
    [
        ("source", pa.string()),
        ("path", pa.string()),  # where it lies: a file, a URL, the tar that holds it
        ("offset", pa.int64()),  # of its first byte in a tar, -1 for a file of its own
        ("bytes", pa.int64()),  # its size, -1 where that is not known
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("caption", pa.string()),
        ("columns", pa.string()),  # other columns of its list, as a JSON object
        ("stage", pa.string()),  # list, probe, build
        ("error", pa.string()),  # class: UnknownFormat, Corrupt, WrongModality, Timeout, Crash, …
        ("message", pa.string()),
    ]
)


def index_schema(parts: Sequence[str], columns: Mapping[str, str]) -> pa.Schema:
    """Return the schema of `index/NAME.parquet`: a row a sample, offset and size of every part in the tar's data.

    columns: those of the manifest, name → type.
    """
    fields = [
        ("key", pa.string()),
        ("split", pa.string()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("shape", pa.list_(pa.int32())),  # of the lattice
        ("source", pa.string()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        *((name, pa.type_for_alias(type_)) for name, type_ in sorted(columns.items())),
    ]
    fields += [(f"{part}.{what}", pa.int64()) for part in sorted(parts) for what in ("offset", "size")]
    return pa.schema(fields)
