"""The tasks that Ray runs: probe some inputs, build a chunk of samples, write a shard."""

from collections.abc import Sequence
from itertools import groupby

import ray

from shard_tools.writer import ShardWriter

from .isolation import Encoded, Isolated
from .modality import Piece, Reject
from .output import Record, write_record
from .plan import Row
from .rejects import Rejection
from .statistics import merge

_isolated: tuple[bytes, float, Isolated] | None = None  # a worker keeps its process from task to task


@ray.remote
def probe_inputs(modality: bytes, timeout: float, paths: Sequence[str]) -> list[list[Piece] | Reject]:
    """Return the pieces of each input, or why it has none."""
    return [_process(modality, timeout).probe(path) for path in paths]


@ray.remote(num_returns=2)
def build_chunk(modality: bytes, timeout: float, rows: Sequence[Row]) -> tuple[list[Encoded], list[Rejection]]:
    """Return what became of some rows of one shard: the samples, for its writer, and the rejects, for the driver."""
    process = _process(modality, timeout)
    samples: list[Encoded] = []
    rejections: list[Rejection] = []
    for _, group in groupby(rows, key=lambda row: row.path):
        own = list(group)
        for row, result in zip(own, process.build(own), strict=True):
            if isinstance(result, Reject):
                rejections.append(Rejection.of(row, "build", result))
            else:
                samples.append(result)
    return samples, rejections


@ray.remote
def write_shard(
    root: str,
    name: str,
    parts: Sequence[str],
    classes: Sequence[str],
    chunks: Sequence[ray.ObjectRef],
    rejections: list[Rejection],
) -> Record:
    """Write and commit a shard of chunks that are ready, one at a time in memory, and its record.

    The statistics are summed sample by sample in the order of the plan, so that they do not depend on the chunks.
    """
    numbers = {label: str(number).encode() for number, label in enumerate(classes)}
    summary = None
    with ShardWriter(root, name, parts) as writer:
        for chunk in chunks:
            for sample in ray.get(chunk):
                label = {"cls": numbers[sample.row["label"]]} if classes else {}
                writer.add(sample.row["key"], {**sample.parts, **label}, sample.row)
                if sample.row["split"] == "train":
                    summary = sample.summary if summary is None else merge(summary, sample.summary)
        shard = writer.commit()
    record = Record(name, shard, summary, rejections)
    write_record(root, record)
    return record


def _process(modality: bytes, timeout: float) -> Isolated:
    global _isolated
    if _isolated is None or _isolated[:2] != (modality, timeout):
        if _isolated:
            _isolated[2].close()
        _isolated = (modality, timeout, Isolated(modality, timeout))
    return _isolated[2]
