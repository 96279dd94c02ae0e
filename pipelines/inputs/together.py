"""Reading of many streams at a time, for those that wait for a server most of theirs."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from queue import Empty, Queue
from threading import Event, Thread
from typing import TypeVar

BATCH = 256  # items that a thread hands over at once

T = TypeVar("T")


def together(streams: Iterable[Iterator[T]], threads: int) -> Iterator[T]:
    """Yield what streams give, in any order; so many are read at a time, and a few batches of each lie in memory.

    Raises what a stream raises. The others end after the batch they are at; nobody waits for them.
    """
    found: Queue[list[T] | BaseException | None] = Queue(2 * threads)  # None: a stream has ended
    stopped = Event()

    def read(stream: Iterator[T]) -> None:
        try:
            while not stopped.is_set() and (batch := list(islice(stream, BATCH))):
                found.put(batch)
            found.put(None)
        except BaseException as error:
            found.put(error)

    waiting, running = iter(streams), 0
    try:
        while True:
            for stream in islice(waiting, threads - running):
                Thread(target=read, args=(stream,), daemon=True).start()
                running += 1
            if not running:
                return
            given = found.get()
            if isinstance(given, list):
                yield from given
                continue
            running -= 1
            if given:
                raise given
    finally:
        stopped.set()
        with suppress(Empty):  # room for the two things that a thread may still put there
            while True:
                found.get_nowait()
