"""Do the same to many things in processes of their own, and take what comes of them in order."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from .errors import Problem

T = TypeVar("T")
R = TypeVar("R")

_call: Callable[[Any], Any]  # of this process


def in_order(call: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield call(item) for each item; a few are worked on ahead. With one worker all is done in this process.

    call: what it says, and what it returns, is pickled. Raises Problem where a process is killed.
    """
    if workers == 1:
        yield from map(call, items)
        return
    waiting: deque[Future[R]] = deque()
    todo = iter(items)
    context = multiprocessing.get_context("spawn")  # a fork would take over locks that other threads hold
    pool = ProcessPoolExecutor(workers, context, _begin, (call,))
    try:
        while True:
            while len(waiting) < 2 * workers and (item := next(todo, None)) is not None:
                waiting.append(pool.submit(_do, item))
            if not waiting:
                return
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise Problem(f"a process was killed, most likely for want of memory: fewer than {workers} take less") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(call: Callable[[Any], Any]) -> None:
    global _call
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us
    _call = call


def _do(item: Any) -> Any:
    return _call(item)
