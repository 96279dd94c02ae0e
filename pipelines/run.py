"""What the driver has while it works: how many tasks may be on their way, what may be rejected, who stands still."""

import logging
import math
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray
from tqdm import tqdm

from shard_tools.errors import Misuse, Problem

from .decoder import Job
from .rejects import Rejection, Tally
from .watch import take

CHUNKS_A_WORKER = 8  # at least, if there is enough work

log = logging.getLogger("shard-build")


@dataclass(slots=True)
class Limit:
    """How much may be rejected, and what has been. A share is taken of the inputs, then of the planned samples."""

    text: str
    share: float
    number: float
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def parse(cls, text: str | None) -> "Limit":
        """Return the limit that 'N' or 'P%' says; None for none. Raises Misuse."""
        if text is None:
            return cls("", math.inf, math.inf)
        if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)%|(\d+)", text)):
            raise Misuse(f"--max-rejected {text!r}: give a number (20) or a share (5%)")
        return cls(text, float(match[1]) / 100, math.inf) if match[1] else cls(text, math.inf, int(match[2]))

    def count(self, rejections: Iterable[Rejection], total: int) -> None:
        """Raise Problem when this makes too many of a total."""
        before = len(self.tally)
        self.tally.add(rejections)
        if len(self.tally) > max(before, min(self.number, self.share * total)):
            found = f"{len(self.tally):,} rejected of {total:,}, more than --max-rejected {self.text}"
            raise Problem(f"stopped: {found}: {self.tally}")


@dataclass(slots=True)
class Run:
    """One call of `build`.

    slots: tasks on their way at most. check: raises Problem when the output is no longer ours. memory: bytes that a
    decoding process took at most. watch: its name.
    """

    job: Job
    slots: int
    progress: bool
    limit: Limit
    check: Callable[[], None]
    memory: int = 0
    built: int = 0
    watch: str = field(default_factory=lambda: f"watch-{uuid.uuid4().hex}")
    _looked: float = field(default_factory=time.monotonic)

    def share(self, total: int) -> int:
        """Return what share of a total a task takes, so that all workers end at about the same time."""
        return total // (self.slots * CHUNKS_A_WORKER)

    def wait(self, running: Mapping[ray.ObjectRef, Any]) -> ray.ObjectRef:
        """Return a task that has ended. Meanwhile say which inputs take long, and when nothing moves at all.

        Raises Problem when the output is no longer ours.
        """
        started, stall = time.monotonic(), self.job.stall
        while True:
            self.check()
            ready, _ = ray.wait(list(running), timeout=stall / 2)
            now = time.monotonic()
            if now - self._looked >= stall / 2:
                self._looked = now
                standing = take(self.watch)
                for source, seconds in sorted(standing.items()):
                    log.warning("%s has taken %.0f s (--timeout %g)", source, seconds, self.job.timeout)
                if not ready and not standing and now - started > 2 * stall:
                    log.warning("no task has ended for %.0f s: is there a free CPU in the cluster?", now - started)
            if ready:
                return ready[0]


def bar(
    what: str, unit: str, progress: bool, total: int | None = None, done: int = 0, stream: Iterable[Any] | None = None
) -> "tqdm[Any]":
    """Return a progress bar with rate and time left, perhaps around a stream; without `progress` it is hidden."""
    shown = None if progress else True  # None: only on a terminal
    return tqdm(
        stream, desc=what, unit=unit, total=total, initial=done, disable=shown, dynamic_ncols=True, smoothing=0.05
    )
