"""The tasks that Ray runs: probe some inputs, build a chunk of samples, write a shard."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import ray

from shard_tools.writer import ShardWriter

from .decoder import Job
from .inputs.sources import Source
from .isolation import Isolated
from .modality import Piece, Reject
from .output import Record, check_run, write_record
from .plan import to_rows
from .rejects import Rejection
from .samples import Layout, Samples
from .statistics import Summary, merged
from .watch import tell

RETRIES = 10  # of a task whose machine or process was lost: Ray runs it anew elsewhere

_isolated: Isolated | None = None  # a worker keeps its process from task to task


@dataclass(frozen=True, slots=True)
class Payload:
    """The samples of a chunk and the bytes that they point to, uint8: Ray carries an array without copies."""

    data: np.ndarray
    samples: list[Samples]


@dataclass(frozen=True, slots=True)
class Chunk:
    """What became of a chunk: samples that are in it, inputs turned away, bytes that its process took at most."""

    samples: int
    rejections: list[Rejection]
    memory: int


@ray.remote(max_retries=RETRIES)
def probe_inputs(job: Job, watch: str, sources: Sequence[Source]) -> tuple[list[list[Piece] | Reject], int]:
    """Return the pieces of each input, or why it has none, and the bytes of memory that took."""
    process = _process(job, watch)
    return list(process.probe(sources)), process.peak


@ray.remote(num_returns=2, max_retries=RETRIES)
def build_chunk(job: Job, watch: str, layout: Layout, planned: pa.Table) -> tuple[Payload, Chunk]:
    """Return what became of some rows of one shard: the samples, for its writer, and a summary, for the driver."""
    process = _process(job, watch)
    rows = to_rows(planned)
    labels = {row.label for row in rows}  # a data set may have thousands
    classes = {label: number for label, number in layout.classes.items() if label in labels}
    rejects = list(process.build(rows, replace(layout, classes=classes)))
    rejections = [Rejection.of(row, "build", reject) for row, reject in zip(rows, rejects, strict=True) if reject]
    count = sum(len(samples.rows) for samples in process.samples)
    return Payload(process.spool.view(), process.samples), Chunk(count, rejections, process.peak)


@ray.remote(max_retries=RETRIES)
def write_shard(
    root: str, run: str, name: str, layout: Layout, chunks: Sequence[ray.ObjectRef], rejections: list[Rejection]
) -> Record:
    """Write and commit a shard of chunks that are ready, one at a time in memory, and its record.

    run: of the driver, see `Output.run`; in a cluster that goes on, a writer may outlive the driver that wanted it, and
    another may write there. Raises Problem then.
    """
    summary: Summary | None = None
    with ShardWriter(root, name, layout.parts, layout.columns) as writer:
        for chunk in chunks:
            payload = ray.get(chunk)
            for samples in payload.samples:
                writer.append(payload.data.data[samples.place : samples.place + samples.size], samples.rows)
                summary = merged([summary, samples.summary])
        check_run(root, run)
        shard = writer.commit()
    record = Record(name, shard, summary, rejections)
    write_record(root, run, record)
    return record


def _process(job: Job, watch: str) -> Isolated:
    global _isolated
    if _isolated is None or _isolated.job != job:
        if _isolated:
            _isolated.close()
        _isolated = Isolated(job)
        pa.array([0])  # the first one looks for pandas, which takes a second: now, and not between two shards
    _isolated.stalled = partial(tell, watch)
    return _isolated
