"""The process in which inputs are decoded: it answers what a worker asks of it, see `isolation`."""

import errno
import gc
import json
import os
import pickle
import resource
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby, repeat
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import pyarrow as pa

from shard_tools.errors import Problem
from shard_tools.storage import Blob, Storage, in_order

from .inputs.fetch import Fetcher, Place, protocol, retried
from .inputs.sources import Source
from .modality import Modality, Reject, Sample
from .plan import Row, within
from .samples import Encoder, Layout, Samples
from .scratch import PREFIX
from .spool import Spool

TOGETHER = 0.2  # seconds of results that are sent in one message
SETTLED = 32  # results that are settled one after the other: see `_Server.settle`
OUT_OF_MEMORY = 86  # exit code

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """What every process of a build needs to know.

    modality: a pickled Modality. timeout: seconds that an input may take for each of its results, and again for what is
    left for later of it; stall: seconds after which somebody is told that it takes long. memory: bytes that it may
    take. rate: requests a second of this process, None for any number. retries: of a request. keep: an input that is
    turned away leaves an absent sample. onto: root of the data set whose stored samples are the inputs, '' for files.
    scratch: name of the build's folder in $TMPDIR, with which the names of its workers' begin.
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
        server = _Server(job, pickle.loads(job.modality), folder, Spool(spool), place)  # from our own driver
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    pa.array([0])  # the first one looks for pandas, which takes a second: now, and not at an input's cost
    gc.freeze()  # what stands now is no garbage, and need not be looked through again and again
    connection.send("")
    resource.setrlimit(resource.RLIMIT_DATA, (job.memory, job.memory))
    while True:
        try:
            server.spool.end, what, items, *more = connection.recv()
        except EOFError:
            with suppress(OSError):
                server.fetcher.close()
            os._exit(0)  # without waiting for what is still being fetched
        for ready in server.answers(what, items, *more):
            connection.send((ready, server.samples(), _peak()))


class _Server:
    """What answers. place: see `serve`."""

    def __init__(self, job: Job, modality: Modality, folder: str, spool: Spool, place: int) -> None:
        self.job, self.modality, self.spool, self._place = job, modality, spool, place
        self.encoder: Encoder | None = None
        self.fetcher = Fetcher(job.rate, job.retries, folder)
        self.blob = lru_cache(1)(lambda shard: in_order(Storage(job.onto).blob(f"shards/{shard}.tar")))

    def answers(self, what: str, items: Sequence[Source] | Sequence[Row], *more: Any) -> Iterator[list[Any]]:
        """Yield what becomes of some items, that of about TOGETHER seconds at a time."""
        results = self.probe(items) if what == "probe" else self.build(items, *more)  # type: ignore[arg-type]
        made: list[tuple[int, Any]] = []
        ready: list[Any] = []
        due = time.monotonic() + TOGETHER
        for number in range(len(items)):
            made.append((number, self._timed(number, next, results)))
            if len(made) < SETTLED and number < len(items) - 1 and time.monotonic() < due:
                continue
            for at, result in made:
                ready.append(self._timed(at, self.settle, items[at], result))
                if at == len(items) - 1 or time.monotonic() >= due:
                    yield ready
                    ready, due = [], time.monotonic() + TOGETHER
            made.clear()

    def _timed(self, number: int, step: Callable[..., Any], *args: Any) -> Any:
        """Return step(…) for the item of this number, which has the time of an input and the blame if all ends here."""
        os.pwrite(self._place, number.to_bytes(8, "little"), 0)
        signal.setitimer(signal.ITIMER_REAL, self.job.timeout)
        result = _without_frames(step(*args))
        signal.setitimer(signal.ITIMER_REAL, 0)
        return result

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
