"""How samples leave the process that decodes them: members of a tar, rows of the index, sums for the statistics.

They are gathered, so that whoever hands them on, or writes them, has one thing to do for many samples.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from shard_tools.errors import Problem
from shard_tools.schema import ColumnType, index_schema
from shard_tools.tar import encode_part, sample_members

from .inputs.columns import MISSING
from .modality import Sample
from .plan import Row
from .spool import Spool
from .statistics import Summary, merged

BESIDES = ("cls", "txt")  # parts that come from the list of inputs: classes and captions


@dataclass(frozen=True, slots=True)
class Layout:
    """What every sample of a data set is made of.

    parts: names, sorted. columns: name → type. classes: label → number. facts: what json says of an absent sample.
    """

    parts: Sequence[str]
    columns: Mapping[str, ColumnType]
    classes: Mapping[str, int]
    facts: Mapping[str, Any]


class Samples(NamedTuple):
    """Samples that follow each other.

    place, size: of their members of the tar in a spool. stream: their rows in Arrow IPC; a batch Ray would
    carry without a copy, and a writer that keeps rows would keep the whole chunk. summary: what those of the training
    split add to the statistics, None for nothing.
    """

    place: int
    size: int
    stream: bytes
    summary: Summary | None

    @property
    def rows(self) -> pa.RecordBatch:
        """The rows of the index, see `ShardWriter.append`."""
        return pa.ipc.open_stream(self.stream).read_next_batch()


class Encoder:
    """Writes samples into a spool, one after the other, and keeps what else is to be known of them.

    absent: the sample of a row that has no input.
    """

    def __init__(self, spool: Spool, layout: Layout) -> None:
        self.spool, self.layout = spool, layout
        self.absent = _absent(layout)
        self._nothing = {name: MISSING[kind] for name, kind in layout.columns.items()}  # columns of a row without input
        self._schema = index_schema(layout.parts, layout.columns)
        self._begin()

    def _begin(self) -> None:
        self._place = self.spool.end
        self._rows: list[dict[str, Any]] = []
        self._summaries: list[Summary | None] = []

    def add(self, sample: Sample, row: Row) -> None:
        """Take a sample: json gets what the engine knows; cls and txt are added where it has none but should.

        Raises Problem for parts that are not those of the data set, and see `tar.sample_members`; what was taken before
        is then as it was.
        """
        facts, parts = self._facts(row), sample.contents()
        if "json" in parts:
            parts["json"] = {**parts["json"], **facts}  # type: ignore[dict-item]
        for name in BESIDES:
            if name in self.layout.parts and name not in parts:
                parts[name] = (str(self.layout.classes[row.label]) if name == "cls" else row.caption).encode()
        if parts.keys() != set(self.layout.parts):
            raise Problem(f"sample {row.key} has parts {sorted(parts)}, its data set {list(self.layout.parts)}")
        encoded = {name: encode_part(name, value) for name, value in parts.items()}
        pieces, places = sample_members(row.key, encoded, self.spool.end - self._place)
        index = {**facts, "key": row.key, "split": row.split, "shape": [int(n) for n in sample.shape], **places}
        self.spool.append(b"".join(pieces))
        self._rows.append(index)
        self._summaries.append(sample.summary if row.split == "train" else None)

    def _facts(self, row: Row) -> dict[str, Any]:
        """Return what the part json and the index say of any sample."""
        facts = {name: getattr(row, name) for name in ("source", "label", "group", "start", "end")}
        return {**facts, **(json.loads(row.columns) if row.columns else self._nothing)}

    def take(self) -> Samples:
        """Return what was taken since the last time."""
        with pa.ipc.new_stream(stream := pa.BufferOutputStream(), self._schema) as writer:
            writer.write_batch(pa.RecordBatch.from_pylist(self._rows, self._schema))
        size = self.spool.end - self._place
        samples = Samples(self._place, size, stream.getvalue().to_pybytes(), merged(self._summaries))
        self._begin()
        return samples


def _absent(layout: Layout) -> Sample:
    """Return a sample without an input: every part is empty but json, and its lattice has no cells."""
    empty: dict[str, Any] = {part: b"" for part in layout.parts if part not in BESIDES}
    if "json" in empty:
        empty["json"] = dict(layout.facts)
    return Sample(empty, (0,), None)
