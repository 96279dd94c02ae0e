"""Decoding in a process of its own: an input that crashes, hangs or eats memory ends that process and nothing else.

The worker asks, the process answers: what becomes of items, and what is to be known of samples, by messages, the bytes
of samples through a file in memory (`spool`). The deadline is a timer of the kernel in the process itself (SIGALRM with
its default action): nobody need watch it, and it ends a decoder that holds Python's lock, too. The bound on memory is
the kernel's as well (RLIMIT_DATA): beyond it an allocation fails.
"""

import errno
import gc
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby, repeat
from multiprocessing.connection import Connection, Pipe
from typing import Any, Self, TypeVar

import pyarrow as pa

from shard_tools.errors import Problem
from shard_tools.storage import Blob, Storage, in_order

from .inputs.fetch import Fetcher, Place, protocol, retried
from .inputs.sources import Source
from .modality import Modality, Piece, Reject, Sample
from .plan import Row, within
from .samples import Encoder, Layout, Samples
from .scratch import PREFIX, sweep
from .spool import Spool

TOGETHER = 0.2  # seconds of results that are sent in one message
SETTLED = 32  # results that are settled one after the other: see `_Server.settle`
STARTS = 3  # of a process that is killed while it starts
DEATHS = 3  # of its process, one after the other, after which an input's other rows are not tried
KILLED = f"exit code {-signal.SIGKILL}"
OUT_OF_MEMORY = 86  # exit code
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # bytes must not depend on the machine's cores

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """What every process of a build needs to know.

    modality: a pickled Modality. timeout: seconds that an input may take for each of its results; stall: seconds after
    which somebody is told that it takes long. memory: bytes that it may take. rate: requests a second of this process,
    None for any number. retries: of a request. keep: an input that is turned away leaves an absent sample. onto: root
    of the data set whose stored samples are the inputs, '' for files. scratch: name of the build's folder in $TMPDIR,
    with which the names of its workers' begin.
    """

    modality: bytes
    timeout: float
    stall: float
    memory: int
    rate: float | None
    retries: int
    keep: bool = False
    onto: str = ""
    scratch: str = field(default=f"{PREFIX}alone", compare=False)


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
                [sys.executable, "-c", f"from {__name__} import serve; serve{handles}"],
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


def serve(handle: int, place: int, spool: int) -> None:
    """Answer what is asked through a socket until it ends: this is what the process does.

    place: file descriptor where the number of the item at hand is kept. spool: of the file that samples are written to.
    """
    connection = Connection(handle)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.stack_size(1 << 20)  # the usual 8 MiB of each that fetches would count as --memory of the inputs
    job, folder = connection.recv()
    try:
        server = _Server(job, pickle.loads(job.modality), folder, Spool(spool))  # from our own driver
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    pa.array([0])  # the first one looks for pandas, which takes a second: now, and not at an input's cost
    gc.freeze()  # what stands now is no garbage, and need not be looked through again and again
    connection.send("")
    resource.setrlimit(resource.RLIMIT_DATA, (job.memory, job.memory))

    def timed(number: int, step: Callable[..., Any], *args: Any) -> Any:
        """Return step(…) for the item of this number, which has the time of an input and the blame if all ends here."""
        os.pwrite(place, number.to_bytes(8, "little"), 0)
        signal.setitimer(signal.ITIMER_REAL, job.timeout)
        result = _without_frames(step(*args))
        signal.setitimer(signal.ITIMER_REAL, 0)
        return result

    while True:
        try:
            server.spool.end, what, items, *more = connection.recv()
        except EOFError:
            with suppress(OSError):
                server.fetcher.close()
            os._exit(0)  # without waiting for what is still being fetched
        results = server.probe(items) if what == "probe" else server.build(items, *more)
        made: list[tuple[int, Any]] = []
        ready: list[Any] = []
        sent = time.monotonic()
        for number in range(len(items)):
            made.append((number, timed(number, next, results)))
            due = number == len(items) - 1 or time.monotonic() - sent > TOGETHER
            if due or len(made) == SETTLED:
                ready += [timed(at, server.settle, items[at], result) for at, result in made]
                made.clear()
            if due:
                connection.send((ready, server.samples(), _peak()))
                ready, sent = [], time.monotonic()


class _Server:
    """The process's side of an Isolated."""

    def __init__(self, job: Job, modality: Modality, folder: str, spool: Spool) -> None:
        self.job, self.modality, self.spool = job, modality, spool
        self.encoder: Encoder | None = None
        self.fetcher = Fetcher(job.rate, job.retries, folder)
        self.blob = lru_cache(1)(lambda shard: in_order(Storage(job.onto).blob(f"shards/{shard}.tar")))

    def probe(self, sources: Sequence[Source]) -> Iterator[Any]:
        """Yield the pieces of some inputs, or why there are none."""
        self.encoder = None
        if not self.modality.one_sample:
            self.fetcher.expect(map(_place, sources))
        return map(self._pieces, sources)

    def _pieces(self, source: Source) -> Any:
        try:
            if not source.path:
                raise Reject("Absent", "its list names no file")
            if self.modality.one_sample and protocol(source.path):  # to fetch it twice would cost more than it tells
                return within(self.modality.expect(source.bytes), source.start, source.end)
            path = self.fetcher.local(*_place(source))
            return within(self.modality.probe(path), source.start, source.end)
        except Exception as error:
            return self._as_reject(error)

    def build(self, rows: Sequence[Row], layout: Layout) -> Iterator[Any]:
        """Yield a sample, or why there is none, for each row. Where the modality gives up, it is asked anew for others.

        See `settle`.
        """
        self.encoder = Encoder(self.spool, layout)
        self.fetcher.expect(map(_place, rows if not self.job.onto else ()))
        for _, group in groupby(rows, key=lambda row: (row.source, row.path, row.offset)):
            own = list(group)
            while own:
                results = self._results(tuple(own), self.encoder.absent)
                for _ in tuple(own):
                    own.pop(0)
                    try:
                        yield next(results)
                    except Exception as error:
                        yield self._as_reject(error)
                        break

    def samples(self) -> Samples | Problem | None:
        """Return the samples built since the last time, or why they do not go together."""
        try:
            return self.encoder.take() if self.encoder else None
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except Exception as error:
            return Problem(f"samples of {self.modality.name} do not go together: {type(error).__name__}: {error}")

    def settle(self, item: Source | Row, result: Any) -> Any:
        """Encode what `build` yielded, if it is a sample; return why there is none of the row, or None.

        A step of its own: encoding is done faster for many samples after each other than between decoders, which leave
        nothing of it in the processor's caches. What `probe` yielded is returned as it is.
        """
        if not self.encoder:
            return result
        reject = self._encoded(self.encoder, result, item)
        if isinstance(reject, Reject) and self.job.keep:
            return self._encoded(self.encoder, self.encoder.absent, item) or reject
        return reject

    def _encoded(self, encoder: Encoder, result: Any, row: Any) -> Any:
        """Encode a sample; return why that failed, or None. What is no sample is returned as it is."""
        if not isinstance(result, Sample):
            return result
        try:
            encoder.add(result, row)
        except Exception as error:
            return self._as_reject(error)

    def _results(self, rows: Sequence[Row], absent: Sample) -> Iterator[Sample | Reject]:
        """Yield what becomes of some rows of one input."""
        if not rows[0].path:
            return repeat(absent)
        return self._layers(rows) if self.job.onto else self._samples(rows)

    def _samples(self, rows: Sequence[Row]) -> Iterator[Sample | Reject]:
        """Yield what becomes of some rows of one file."""
        path = self.fetcher.local(*_place(rows[0]))
        yield from self.modality.build(path, [row.piece for row in rows])

    def _layers(self, rows: Sequence[Row]) -> Iterator[Sample | Reject]:
        """Yield the layers of some stored samples. A row's place says where their parts lie in their shard."""
        for row in rows:
            places = json.loads(row.place)
            parts = self._stored(row, places["parts"])
            layers = self.modality.look(parts) if any(parts.values()) else {}
            named: dict[str, Any] = {f"{name}.npy": layers.get(name, b"") for name in self.modality.layers}
            yield Sample(named, tuple(places["shape"]), None)

    def _stored(self, row: Row, places: Mapping[str, Sequence[int]]) -> dict[str, bytes]:
        """Return parts of a stored sample. Raises Problem where they cannot be read, which says nothing of them."""

        def read() -> dict[str, bytes]:
            blob: Blob = self.blob(row.shard)
            return {part: blob[offset : offset + size] for part, (offset, size) in places.items()}

        try:
            return retried(read)
        except Reject as reject:
            raise Problem(f"{row.path}: {reject.message}") from None

    def _as_reject(self, error: Exception) -> Any:
        """Return what an error says of the input; a Problem if it says nothing of the input, but stops the build."""
        if isinstance(error, Reject | Problem):
            return error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Problem(f"{error.filename or tempfile.gettempdir()}: {error.strerror}")
        if isinstance(error, MemoryError):  # its neighbours may have left too little: it has another try alone
            os._exit(OUT_OF_MEMORY)
        if isinstance(error, StopIteration):
            return Reject("Internal", "the builder gave fewer samples than it had planned")
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        return Reject("Internal", f"{type(error).__name__}: {error} ({where})")


def _following(items: Sequence[Source] | Sequence[Row], place: int) -> int:
    """Return how many items right after one come of the same input."""
    own, *others = [item.source for item in items[place:]]
    return next((number for number, source in enumerate(others) if source != own), len(others))


def _without_frames(result: T) -> T:
    """Return a result; if it is an error, without what was at work when it was raised: that may hold much memory."""
    if isinstance(result, BaseException):
        result.__traceback__ = result.__context__ = result.__cause__ = None
    return result


def _place(item: Source | Row) -> Place:
    size = item.bytes if isinstance(item, Source) else item.size
    return Place(item.path, item.offset, size, item.source)


def _peak() -> int:
    """Return the bytes of memory this process has taken at most.

    From /proc, since ru_maxrss also counts what the process that started this one had taken.
    """
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024
