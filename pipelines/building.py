"""Build the shards of a plan on Ray: bounded work on its way, a writer a shard, a record for each that is committed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa
import ray
from ray.exceptions import RayError

from .output import Output
from .plan import Plan
from .rejects import Rejection
from .run import Run, bar
from .samples import Layout
from .worker import build_chunk, write_shard

CHUNK_BYTES = 32 << 20  # of estimated output
WRITER = -1  # in place of the number of a chunk
PATIENCE = 20.0  # seconds


@dataclass(slots=True)
class _Shard:
    """A shard on its way. sizes: samples planned in each of its chunks, 0 once it is built."""

    sizes: list[int]
    payloads: dict[int, ray.ObjectRef] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)


def build_shards(run: Run, target: Output, plan: Plan, layout: Layout) -> None:
    """Build the shards that are not committed yet."""
    committed = set()
    for record in target.committed():
        run.limit.count(record.rejections, plan.samples)
        committed.add(record.name)
    size = min(CHUNK_BYTES, run.share(plan.bytes))
    write = write_shard if target.storage.local else write_shard.options(num_cpus=0)  # an upload needs none
    shards: dict[str, _Shard] = {}
    running: dict[ray.ObjectRef, tuple[str, int]] = {}
    done = sum(samples for name, samples in plan.shards.items() if name in committed)
    ended = sum(name in committed for name in plan.shards)

    def chunks() -> Iterator[tuple[str, int, pa.Table]]:
        for name in plan.shards:
            if name not in committed:
                own = list(cut(plan.rows(name), size))
                shards[name] = _Shard([len(rows) for rows in own])
                yield from ((name, number, rows) for number, rows in enumerate(own))

    with bar("build", " samples", run.progress, plan.samples, done) as shown, _writers_ended(running):
        todo = chunks()
        while True:
            shown.set_postfix_str(f"{ended}/{len(plan.shards)} shards")
            while len(running) < run.slots and (chunk := next(todo, None)):
                name, number, rows = chunk
                shards[name].payloads[number], summary = build_chunk.remote(run.job, run.watch, layout, rows)
                running[summary] = name, number
            if not running:
                break
            ready = run.wait(running)
            name, number = running.pop(ready)
            if number == WRITER:
                ray.get(ready)
                ended += 1
                continue
            result, shard = ray.get(ready), shards[name]
            run.built += result.samples
            run.memory = max(run.memory, result.memory)
            run.limit.count(result.rejections, plan.samples)
            shown.update(shard.sizes[number])
            shard.rejections += result.rejections
            shard.sizes[number] = 0
            if not any(shard.sizes):
                del shards[name]
                ordered = [shard.payloads[number] for number in range(len(shard.sizes))]
                writer = write.remote(target.root, target.run, name, layout, ordered, sorted(shard.rejections))
                running[writer] = name, WRITER


@contextmanager
def _writers_ended(running: Mapping[ray.ObjectRef, tuple[str, int]]) -> Iterator[None]:
    """Wait for the writers when the block fails: what they commit need not be built again.

    Chunks are left to end by themselves: they harm nobody, and to cancel tasks makes Ray 2.60 abort or hang at times.
    """
    try:
        yield
    finally:
        if writers := [ref for ref, (_, number) in running.items() if number == WRITER]:
            with suppress(RayError):
                ray.wait(writers, num_returns=len(writers), timeout=PATIENCE)


def cut(rows: pa.Table, size: int) -> Iterator[pa.Table]:
    """Yield runs of rows of at most `size` estimated bytes, or of one larger input, which CHUNK_BYTES alone cuts."""
    sizes = rows["bytes"].to_numpy()
    first, filled, end = 0, 0, 0
    for _, group in groupby(rows["source"].to_pylist()):
        begin, end = end, end + len(list(group))
        if begin > first and filled + sizes[begin:end].sum() > size:
            yield rows.slice(first, begin - first)
            first, filled = begin, 0
        for place in range(begin, end):
            if place > first and filled + sizes[place] > CHUNK_BYTES:
                yield rows.slice(first, place - first)
                first, filled = place, 0
            filled += sizes[place]
    yield rows.slice(first)
