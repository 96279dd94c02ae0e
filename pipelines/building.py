"""Build the shards of a plan on Ray: bounded work on its way, a writer a shard, a record for each that is committed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import ray

from .cluster import none_left
from .output import Output
from .plan import Plan, Row
from .rejects import Rejection
from .run import Run, bar
from .worker import Layout, build_chunk, write_shard

CHUNK_BYTES = 32 << 20  # of estimated output
WRITER = -1  # in place of the number of a chunk


@dataclass(slots=True)
class _Shard:
    """A shard on its way. sizes: samples planned in each of its chunks, 0 once it is built."""

    sizes: list[int]
    payloads: dict[int, ray.ObjectRef] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)


def build_shards(run: Run, target: Output, plan: Plan, layout: Layout) -> None:
    """Build the shards that are not committed yet."""
    committed = target.committed()
    for name in plan.shards:
        if name in committed:
            run.limit.count(target.record(name).rejections, plan.samples)
    size = min(CHUNK_BYTES, run.share(plan.bytes))
    shards: dict[str, _Shard] = {}
    running: dict[ray.ObjectRef, tuple[str, int]] = {}
    done = sum(samples for name, samples in plan.shards.items() if name in committed)
    ended = sum(name in committed for name in plan.shards)

    def chunks() -> Iterator[tuple[str, int, list[Row]]]:
        for name in plan.shards:
            if name not in committed:
                own = list(cut(plan.rows(name), size))
                shards[name] = _Shard([len(rows) for rows in own])
                yield from ((name, number, rows) for number, rows in enumerate(own))

    with bar("build", " samples", run.progress, plan.samples, done) as shown, none_left(running):
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
                writer = write_shard.remote(target.root, name, layout, ordered, sorted(shard.rejections))
                running[writer] = name, WRITER


def cut(rows: Sequence[Row], size: int) -> Iterator[list[Row]]:
    """Yield runs of rows of at most `size` estimated bytes, or of one larger input, which CHUNK_BYTES alone cuts."""
    chunk: list[Row] = []
    filled = 0
    for _, group in groupby(rows, key=lambda row: row.source):
        own = list(group)
        whole = sum(row.bytes for row in own)
        if chunk and filled + whole > size:
            yield chunk
            chunk, filled = [], 0
        for row in own:
            if chunk and filled + row.bytes > CHUNK_BYTES:
                yield chunk
                chunk, filled = [], 0
            chunk.append(row)
            filled += row.bytes
    if chunk:
        yield chunk
