"""One builder an output: a file lock on a local disk, a heart that beats in an object anywhere else.

Object stores know no locks, and the clocks of two machines differ: a builder that finds the heart of another waits to
see whether it still beats.
"""

import fcntl
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shard_tools.errors import Misuse, Problem
from shard_tools.storage import Storage

BEAT = 3.0  # seconds
DEAD = 4 * BEAT  # seconds without a beat
TAKEN = "another shard-build is writing here"


@contextmanager
def hold(storage: Storage, name: str) -> Iterator[Callable[[], None]]:
    """Hold the lock `name` of a data set while the block runs. Raises Misuse where another build holds it.

    Gives what raises Problem once another build has taken the lock all the same.
    """
    with _flock(storage, name) if storage.local else _heart(storage, name) as check:
        yield check


@contextmanager
def _flock(storage: Storage, name: str) -> Iterator[Callable[[], None]]:
    path = Path(storage.path(name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise Misuse(f"{storage.root}: cannot be written: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Misuse(f"{storage.root}: {TAKEN}") from None
        yield lambda: None


@contextmanager
def _heart(storage: Storage, name: str) -> Iterator[Callable[[], None]]:
    """Hold a lock whose owner stands in an object: of two builds that write it at once the last one has it."""
    ours, stop, lost = uuid.uuid4().hex, threading.Event(), threading.Event()

    def beat(count: int) -> None:
        storage.write(name, json.dumps({"owner": ours, "beat": count}).encode())

    def is_ours() -> bool:
        try:
            return ours.encode() in storage.read(name)
        except FileNotFoundError:
            return True

    def keep_beating() -> None:
        count = 0
        while not stop.wait(BEAT):
            count += 1
            with suppress(OSError):  # the next beat may come through; a store that is gone stops the build elsewhere
                if not is_ours():
                    lost.set()
                    return
                beat(count)

    def check() -> None:
        if lost.is_set():
            raise Problem(f"{storage.root}: {TAKEN}: it took this one for dead, which could not reach its lock")

    if storage.exists(name):
        before = storage.read(name)
        time.sleep(DEAD)
        if storage.exists(name) and storage.read(name) != before:
            raise Misuse(f"{storage.root}: {TAKEN}")
    try:
        beat(0)
        time.sleep(BEAT)  # in which another, that saw no lock either, may write it
        if not is_ours():
            raise Misuse(f"{storage.root}: {TAKEN}")
    except OSError as error:
        raise Misuse(f"{storage.root}: cannot be written: {error}") from None
    thread = threading.Thread(target=keep_beating, daemon=True)
    thread.start()
    try:
        yield check
    finally:
        stop.set()
        thread.join()
        if not lost.is_set():
            storage.remove(name)
