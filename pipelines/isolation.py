"""Decoding in a process of its own: an input that crashes, hangs or eats memory ends that process and nothing else.

The worker asks, the process answers with one message a result. The deadline is a timer of the kernel in the process
itself (SIGALRM with its default action): nobody need watch it, and it ends a decoder that holds Python's lock, too.
"""

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Any

from shard_tools.errors import Problem
from shard_tools.tar import encode_part

from .modality import Modality, Piece, Reject, Sample
from .plan import Row

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # bytes must not depend on the machine's cores


@dataclass(frozen=True, slots=True)
class Encoded:
    """A built sample: the bytes of its parts, its row of the index, what it adds to the statistics."""

    parts: dict[str, bytes]
    row: dict[str, Any]
    summary: dict[str, Any]


class Died(Exception):  # noqa: N818 - what happened, not whose fault it is
    """The process ended in the middle of an input. Carries the Reject to give when it does so again."""

    def __init__(self, reject: Reject) -> None:
        super().__init__(str(reject))
        self.reject = reject


class Isolated:
    """A modality in a process of its own, started when first needed and again after a death.

    modality: a pickled Modality. timeout: seconds that an input may take for each of its results.
    """

    def __init__(self, modality: bytes, timeout: float) -> None:
        self._modality = modality
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None

    def probe(self, path: str) -> list[Piece] | Reject:
        """Return an input's pieces, or why it has none."""
        for _ in range(2):
            try:
                (pieces,) = self._ask("probe", path, None)
                return pieces
            except Died as death:
                reject = death.reject
        return reject

    def build(self, rows: Sequence[Row]) -> Iterator[Encoded | Reject]:
        """Yield the sample, or why there is none, for each of some rows of one input.

        A row that ends the process twice is rejected, and so is one at which the modality gives up; the others are
        then asked for anew. So what becomes of a row does not depend on the rows it is asked for with.
        """
        done, died_at = 0, -1
        while done < len(rows):
            results = self._ask("build", rows[done].path, rows[done:])
            try:
                for result in results:
                    done += 1
                    yield result
            except Died as death:
                if died_at == done:
                    done += 1
                    yield death.reject
                else:
                    died_at = done

    def close(self) -> None:
        """End the process."""
        if self._process:
            self._connection.close()
            self._process.kill()
            self._process.wait()
            self._process = None

    def _ask(self, what: str, path: str, rows: Sequence[Row] | None) -> Iterator[Any]:
        if not self._process:
            self._start()
        try:
            self._connection.send((what, path, rows))
            while (result := self._connection.recv()) is not None:
                yield result
        except (EOFError, ConnectionError):
            assert self._process
            code = self._process.wait()
            self.close()
            raise Died(_verdict(code, self._timeout)) from None

    def _start(self) -> None:
        self._connection, theirs = Pipe()
        environment = {
            **os.environ,
            **dict.fromkeys(THREADS, "1"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # decoders complain there about what becomes a reject anyway
            )
        self._connection.send((self._modality, self._timeout))
        try:
            failure = self._connection.recv()
        except EOFError:
            failure = f"exit code {self._process.wait()}"
        if failure:  # nothing is wrong with the inputs
            self.close()
            raise Problem(f"the builder cannot be started: {failure}")


def _verdict(code: int, timeout: float) -> Reject:
    if code == -signal.SIGALRM:
        return Reject("Timeout", f"took more than {timeout:g} seconds, twice")
    if code == -signal.SIGKILL:
        return Reject("Crash", "its decoder was killed (SIGKILL), twice: most likely for want of memory")
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return Reject("Crash", f"its decoder crashed ({how}), twice")


def serve(handle: int) -> None:
    """Answer what is asked through a socket until it ends: this is what the process does."""
    connection = Connection(handle)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    blob, timeout = connection.recv()
    try:
        modality: Modality = pickle.loads(blob)  # from our own driver
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send("")
    while True:
        try:
            what, path, rows = connection.recv()
        except EOFError:
            return
        results = _probe(modality, path) if what == "probe" else _build(modality, path, rows)
        while True:
            signal.setitimer(signal.ITIMER_REAL, timeout)
            result = next(results, None)
            signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send(result)
            if result is None:
                break


def _probe(modality: Modality, path: str) -> Iterator[list[Piece] | Reject]:
    try:
        if not os.path.isfile(path):
            raise Reject(
                "Unreadable", "a folder that cannot be listed" if os.path.isdir(path) else "not a regular file"
            )
        yield modality.probe(path)
    except Exception as error:
        yield _as_reject(error)


def _build(modality: Modality, path: str, rows: Sequence[Row]) -> Iterator[Encoded | Reject]:
    results = modality.build(path, [row.piece for row in rows])
    for row in rows:
        try:
            result = next(results)
            yield result if isinstance(result, Reject) else _encode(result, row)
        except Exception as error:
            yield _as_reject(error)
            return


def _as_reject(error: Exception) -> Reject:
    if isinstance(error, Reject):
        return error
    if isinstance(error, MemoryError):
        return Reject("TooLarge", "not enough memory to decode it")
    if isinstance(error, StopIteration):
        return Reject("Internal", "the builder gave fewer samples than it had planned")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
    return Reject("Internal", f"{type(error).__name__}: {error} ({where})")


def _encode(sample: Sample, row: Row) -> Encoded:
    facts = {name: getattr(row, name) for name in ("source", "label", "group", "start", "end")}
    parts = dict(sample.parts)
    parts["json"] = {**sample.parts["json"], **facts}  # type: ignore[dict-item]
    return Encoded(
        {name: encode_part(name, value) for name, value in parts.items()},
        {**facts, "key": row.key, "split": row.split, "shape": [int(n) for n in sample.shape]},
        sample.summary,
    )
