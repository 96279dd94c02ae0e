"""One builder an output: a file lock on a local disk, a heart that beats in an object anywhere else.

Object stores know no locks, and the clocks of two machines differ: a builder that finds the heart of another waits to
see whether it still beats.
"""

import fcntl
import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shard_tools.errors import Misuse
from shard_tools.storage import Storage

BEAT = 3.0  # seconds
DEAD = 4 * BEAT  # seconds without a beat


@contextmanager
def hold(storage: Storage, name: str) -> Iterator[None]:
    """Hold the lock `name` of a data set while the block runs. Raises Misuse where another build holds it."""
    with _flock(storage, name) if storage.local else _heart(storage, name):
        yield


@contextmanager
def _flock(storage: Storage, name: str) -> Iterator[None]:
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
            raise Misuse(f"{storage.root}: another shard-build is writing here") from None
        yield


@contextmanager
def _heart(storage: Storage, name: str) -> Iterator[None]:
    ours, stop = uuid.uuid4().hex, threading.Event()

    def beat(count: int) -> None:
        storage.write(name, json.dumps({"owner": ours, "beat": count}).encode())

    def keep_beating() -> None:
        count = 0
        while not stop.wait(BEAT):
            count += 1
            with suppress(OSError):  # the next beat may come through; a store that is gone stops the build elsewhere
                beat(count)

    if storage.exists(name):
        before = storage.read(name)
        time.sleep(DEAD)
        if storage.exists(name) and storage.read(name) != before:
            raise Misuse(f"{storage.root}: another shard-build is writing here")
    try:
        beat(0)
    except OSError as error:
        raise Misuse(f"{storage.root}: cannot be written: {error}") from None
    thread = threading.Thread(target=keep_beating, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        storage.remove(name)
