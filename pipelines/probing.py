"""Probe all inputs on Ray, a segment after the other; what a segment's probe found is kept for later runs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray

from .inputs.sorted import Inputs
from .inputs.sources import Source
from .modality import Piece, Reject
from .ordered import query, rows_of, write_rows
from .output import Output
from .plan import PROBED, probed_rows
from .rejects import Rejection
from .run import Run, bar
from .worker import probe_inputs

SEGMENT = 4096  # inputs
TASK = 256  # inputs at most

REJECTED = "SELECT * FROM {probed} WHERE error <> ''"

Answer = list[Piece] | Reject


def probe(run: Run, target: Output, inputs: Inputs, scratch: Path, **naming: Any) -> list[Path]:
    """Return files of PROBED rows that say what became of all inputs. naming: see `plan.probed_rows`."""
    files = target.probed(scratch)
    run.limit.count(turned_away(list(files.values()), scratch), inputs.count)
    size = max(1, min(TASK, run.share(inputs.count)))
    segments: dict[int, _Segment] = {}
    running: dict[ray.ObjectRef, tuple[int, int]] = {}

    def tasks() -> Iterator[tuple[int, int, list[Source]]]:
        for number, sources in enumerate(inputs.batches(SEGMENT)):
            if number in files:
                shown.update(len(sources))
                continue
            segments[number] = _Segment(sources)
            for start in range(0, len(sources), size):
                yield number, start, sources[start : start + size]

    with bar("probe", " inputs", run.progress, inputs.count) as shown:
        todo = tasks()
        while True:
            while len(running) < run.slots and (task := next(todo, None)):
                number, start, sources = task
                running[probe_inputs.remote(run.job, run.watch, sources)] = number, start
            if not running:
                break
            ready = run.wait(running)
            number, start = running.pop(ready)
            answers, memory = ray.get(ready)
            run.memory = max(run.memory, memory)
            shown.update(len(answers))
            run.limit.count(segments[number].settle(start, answers), inputs.count)
            if segments[number].is_complete:
                files[number] = scratch / f"probed-{number:06d}.parquet"
                write_rows(files[number], probed_rows(segments.pop(number).results(), **naming), PROBED)
                target.save_probed(number, files[number])
    return [files[number] for number in sorted(files)]


class _Segment:
    """Inputs whose answers come in any order."""

    def __init__(self, sources: list[Source]) -> None:
        self.sources = sources
        self.answers: dict[int, Answer] = {}

    def settle(self, start: int, answers: Sequence[Answer]) -> list[Rejection]:
        """Take the answers for the inputs from `start` on; return the rejections among them."""
        self.answers |= dict(enumerate(answers, start))
        return [
            Rejection.of(self.sources[number], "probe", answer)
            for number, answer in enumerate(answers, start)
            if isinstance(answer, Reject)
        ]

    @property
    def is_complete(self) -> bool:
        return len(self.answers) == len(self.sources)

    def results(self) -> Iterator[tuple[Source, Answer]]:
        """Yield each input with its answer, in order."""
        return ((source, self.answers[number]) for number, source in enumerate(self.sources))


def turned_away(probed: list[Path], scratch: Path) -> Iterator[Rejection]:
    """Yield the inputs that the probe turned away."""
    if not probed:
        return
    with query(scratch, REJECTED, probed=probed) as batches:
        yield from map(Rejection.of_probed, rows_of(batches))
