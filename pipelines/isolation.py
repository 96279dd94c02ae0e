"""Decoding in a process of its own: an input that crashes, hangs or eats memory ends that process and nothing else.

The worker asks, the process answers: what becomes of items, and what is to be known of samples, by messages, the bytes
of samples through a file in memory (`spool`). The deadline is a timer of the kernel in the process itself (SIGALRM with
its default action): nobody need watch it, and it ends a decoder that holds Python's lock, too. The bound on memory is
the kernel's as well (RLIMIT_DATA): beyond it an allocation fails.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from multiprocessing.connection import Pipe
from typing import Any, Self

from shard_tools.errors import Problem

from .decoder import OUT_OF_MEMORY, Job, serve
from .inputs.sources import Source
from .modality import Piece, Reject
from .plan import Row
from .samples import Encoder, Layout, Samples
from .scratch import sweep
from .spool import Spool

STARTS = 3  # of a process that is killed while it starts
DEATHS = 3  # of its process, one after the other, after which an input's other rows are not tried
KILLED = f"exit code {-signal.SIGKILL}"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # bytes must not depend on the machine's cores


class Died(Reject):
    """The process ended in the middle of an input, which is turned away when that happens again."""

    @classmethod
    def of(cls, code: int, job: Job) -> Self:
        """Return what an exit code, or the negative of a signal, says of the input."""
        if code == -signal.SIGALRM:
            return cls("Timeout", f"took more than --timeout {job.timeout:g} seconds, twice")
        if code == OUT_OF_MEMORY:
            return cls("TooLarge", f"takes more than --memory {job.memory / 1e9:.3g} GB to decode")
        if code == -signal.SIGKILL:
            return cls("Crash", "its decoder was killed (SIGKILL), twice: most likely for want of memory")
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return cls("Crash", f"its decoder crashed ({how}), twice")

    def untried(self) -> Self:
        """Return what becomes of rows that are not tried, since this is what others of their input came to."""
        return type(self)(self.error, f"not tried, since the {DEATHS} samples before it ended so: {self.message}")


class Isolated:
    """A job in a process of its own, started when first needed and again after a death.

    stalled: called with the name of an input and the seconds it has taken, now and then while it takes long.
    peak: bytes of memory that a process took at most, so far. samples: of the last build; the spool holds their
    members.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.stalled: Callable[[str, float], object] = lambda *_: None
        self.peak = 0
        self.spool = Spool()
        self.samples: list[Samples] = []
        self._in_order = True  # no question is open
        self._process: subprocess.Popen[bytes] | None = None
        self._place = os.memfd_create("item")  # its number, written by the process, read when that stands or dies
        sweep()
        # Of fetched inputs: outlives the process. Made when the first is fetched.
        self._folder = os.path.join(tempfile.gettempdir(), f"{job.scratch}-{uuid.uuid4().hex}")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def probe(self, sources: Sequence[Source]) -> Iterator[list[Piece] | Reject]:
        """Yield the pieces of each of some inputs, or why it has none."""
        return self._run("probe", sources)

    def build(self, rows: Sequence[Row], layout: Layout) -> Iterator[Reject | None]:
        """Build the samples of some rows and yield why there is none for a row, or None. One depends on its row alone.

        layout: of the data set, with the classes of these rows at least.
        """
        self.spool.clear()
        self.samples = []
        for row, reject in zip(rows, self._run("build", rows, layout), strict=True):
            if isinstance(reject, Died) and self.job.keep:
                encoder = Encoder(self.spool, layout)
                encoder.add(encoder.absent, row)
                self.samples.append(encoder.take())
            yield reject

    def _run(self, what: str, items: Sequence[Source] | Sequence[Row], *more: Any) -> Iterator[Any]:
        """Yield what becomes of each item. One that ends the process twice is rejected.

        What the process had not sent yet when it ended is asked for again, then the suspect, alone. After DEATHS rows
        of one input the rest of its rows is turned away: each would cost its two deaths. Not so when inputs are probed:
        which are asked for together differs from build to build.
        """
        done, suspect, deaths = 0, -1, 0
        while done < len(items):
            first, end = done, len(items)
            if suspect >= done:  # what comes before it together, then itself alone
                end = max(suspect, done + 1)
            try:
                for result in self._ask(what, items[first:end], *more):
                    done, deaths = done + 1, 0
                    yield result
            except Died as death:
                culprit = first + self._at()
                if done == culprit == suspect:
                    deaths = deaths + 1 if deaths and items[done - 1].source == items[done].source else 1
                    untried = _following(items, done) if what == "build" and deaths == DEATHS else 0
                    done += 1 + untried
                    yield death
                    yield from repeat(death.untried(), untried)
                suspect = culprit

    def close(self) -> None:
        """End the process."""
        if self._process:
            self._connection.close()
            self._process.kill()
            self._process.wait()
            self._process = None
        self._in_order = True

    def _ask(self, what: str, items: Sequence[Source] | Sequence[Row], *more: Any) -> Iterator[Any]:
        if not self._in_order:  # a task before us was ended in the middle: its answers still come
            self.close()
        self._in_order = False
        if not self._process:
            self._start()
        os.pwrite(self._place, bytes(8), 0)
        try:
            self._connection.send((self.spool.end, what, items, *more))
            missing = len(items)
            while missing:
                waited = 0.0
                while not self._connection.poll(self.job.stall):
                    waited += self.job.stall
                    self.stalled(items[self._at()].source, waited)
                results, samples, self.peak = self._connection.recv()
                missing -= len(results)
                self._in_order = not missing
                if isinstance(samples, Problem):
                    raise samples
                if samples:
                    self.samples.append(samples)
                    self.spool.end = samples.place + samples.size
                for result in results:
                    if isinstance(result, Problem):  # not the input's fault
                        raise result
                    yield result
        except (EOFError, OSError):  # OSError: in the middle of a message
            assert self._process
            code = self._process.wait()
            self.close()
            raise Died.of(code, self.job) from None

    def _at(self) -> int:
        """Return the number of the item that the process is at."""
        return int.from_bytes(os.pread(self._place, 8, 0), "little")

    def _start(self) -> None:
        """Start the process, again where somebody kills it meanwhile. Raises Problem."""
        for _ in range(STARTS):
            failure = self._launch()
            if not failure:
                return
            self.close()
            if failure != KILLED:
                break
        raise Problem(f"the builder cannot be started: {failure}")  # nothing is wrong with the inputs

    def _launch(self) -> str:
        """Start the process and return why it cannot work, '' when it can."""
        self._connection, theirs = Pipe()
        environment = {
            **os.environ,
            **dict.fromkeys(THREADS, "1"),
            "ARROW_DEFAULT_MEMORY_POOL": "system",  # its own takes a GiB at once of what --memory bounds
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        handles = theirs.fileno(), self._place, self.spool.handle
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {serve.__module__} import serve; serve{handles}"],
                pass_fds=handles,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # decoders complain there about what becomes a reject anyway
            )
        try:
            self._connection.send((self.job, self._folder))
            failure: str = self._connection.recv()
        except (EOFError, ConnectionError):
            return f"exit code {self._process.wait()}"
        return failure


def _following(items: Sequence[Source] | Sequence[Row], place: int) -> int:
    """Return how many items right after one come of the same input."""
    own, *others = [item.source for item in items[place:]]
    return next((number for number, source in enumerate(others) if source != own), len(others))
