"""The tasks that Ray runs: probe some inputs, build a chunk of samples, write a shard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from shard_tools.writer import ShardWriter

from .inputs.sources import Source
from .isolation import Encoded, Isolated, Job, absent, encode
from .modality import Piece, Reject
from .output import Record, write_record
from .plan import to_rows
from .rejects import Rejection
from .statistics import merge

RETRIES = 10  # of a task whose machine or process was lost: Ray runs it anew elsewhere

_isolated: Isolated | None = None  # a worker keeps its process from task to task


@dataclass(frozen=True, slots=True)
class Layout:
    """What every sample of a data set is made of.

    parts: names, sorted. columns: name → type. classes: labels. facts: what json says of an absent sample.
    """

    parts: Sequence[str]
    columns: dict[str, str]
    classes: Sequence[str]
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Payload:
    """The samples of a chunk and the bytes that they point to, uint8: Ray carries an array without copies."""

    data: np.ndarray
    samples: list[Encoded]


@dataclass(frozen=True, slots=True)
class Chunk:
    """What became of a chunk: samples that are in it, inputs turned away, bytes that its process took at most."""

    samples: int
    rejections: list[Rejection]
    memory: int


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Watch:
    """Knows which inputs take long. Workers tell it, the driver asks when nothing gets done."""

    def __init__(self) -> None:
        self.standing: dict[str, float] = {}

    def tell(self, source: str, seconds: float) -> None:
        """Note that an input has taken so many seconds, and is not done."""
        self.standing[source] = seconds

    def take(self) -> dict[str, float]:
        """Return what was told since the last time: input → seconds."""
        standing, self.standing = self.standing, {}
        return standing


@ray.remote(max_retries=RETRIES)
def probe_inputs(job: Job, watch: Any, sources: Sequence[Source]) -> tuple[list[list[Piece] | Reject], int]:
    """Return the pieces of each input, or why it has none, and the bytes of memory that took."""
    process = _process(job, watch)
    return list(process.probe(sources)), process.peak


@ray.remote(num_returns=2, max_retries=RETRIES)
def build_chunk(job: Job, watch: Any, layout: Layout, planned: pa.Table) -> tuple[Payload, Chunk]:
    """Return what became of some rows of one shard: the samples, for its writer, and a summary, for the driver."""
    process = _process(job, watch)
    rows = to_rows(planned)
    labels = {row.label for row in rows}  # a data set may have thousands
    classes = {label: number for number, label in enumerate(layout.classes) if label in labels}
    results = iter(list(process.build([row for row in rows if row.path], classes)))
    samples: list[Encoded] = []
    rejections: list[Rejection] = []
    for row in rows:
        result = next(results) if row.path else None
        if isinstance(result, Encoded):
            samples.append(result)
            continue
        if result:
            rejections.append(Rejection.of(row, "build", result))
        if not row.path or job.keep:
            nothing = absent(layout.parts, layout.facts)
            samples.append(encode(nothing, row, process.spool, classes, captions="txt" in layout.parts))
    return Payload(process.spool.view(), samples), Chunk(len(samples), rejections, process.peak)


@ray.remote(max_retries=RETRIES)
def write_shard(
    root: str, name: str, layout: Layout, chunks: Sequence[ray.ObjectRef], rejections: list[Rejection]
) -> Record:
    """Write and commit a shard of chunks that are ready, one at a time in memory, and its record.

    The statistics are summed sample by sample in the order of the plan, so that they do not depend on the chunks.
    """
    summary = None
    with ShardWriter(root, name, layout.parts, layout.columns) as writer:
        for chunk in chunks:
            payload = ray.get(chunk)
            for sample in payload.samples:
                writer.append(payload.data.data[sample.place : sample.place + sample.size], sample.row)
                if sample.row["split"] == "train" and sample.summary is not None:
                    summary = sample.summary if summary is None else merge(summary, sample.summary)
        shard = writer.commit()
    record = Record(name, shard, summary, rejections)
    write_record(root, record)
    return record


def _process(job: Job, watch: Any) -> Isolated:
    global _isolated
    if _isolated is None or _isolated.job != job:
        if _isolated:
            _isolated.close()
        _isolated = Isolated(job, watch.tell.remote)
        pa.array([0])  # the first one looks for pandas, which takes a second: now, and not between two shards
    return _isolated
