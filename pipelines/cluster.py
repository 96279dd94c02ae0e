"""Ray for one build: a cluster started here, or a running one."""

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray

from shard_tools.errors import Problem

from .scratch import remove_fetched


@dataclass(frozen=True, slots=True)
class Room:
    """slots: tasks that may be on their way. workers: those of them that run at a time, at most."""

    slots: int
    workers: int


@contextmanager
def cluster(workers: int | None, address: str | None, scratch: Path) -> Iterator[Room]:
    """Yield the room that there is: 2 tasks a CPU, or as many as the workers told of a running cluster.

    workers: CPUs of a cluster started here. address: of a running one. Where the process is in a cluster already, that
    one is used. To leave a cluster ends our tasks there, and removes what they have left beside `scratch`. Raises
    Problem where it cannot be used.
    """
    if ray.is_initialized():
        yield _room(workers)
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        with _sigterm_kept():
            if address:
                _check_reachable(address)
                ray.init(address=address, **quiet)
            else:
                cpus = workers or len(os.sched_getaffinity(0))
                ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"--ray-address {address}" if address else "a local cluster"
        raise Problem(f"Ray: {where} cannot be used: {' '.join(str(error).split())}") from None
    try:
        yield _room(workers if address else None)
    finally:
        ray.shutdown()
        remove_fetched(scratch)


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Leave SIGTERM to whom it belonged: Ray takes it, and would exit with a dump."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _room(workers: int | None) -> Room:
    cpus = int(ray.cluster_resources().get("CPU", 1))
    slots = workers or 2 * cpus
    return Room(slots, min(slots, cpus))


def _check_reachable(address: str) -> None:
    """Raise ConnectionError where nobody answers: Ray itself would try for two minutes."""
    if match := re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address):
        try:
            socket.create_connection((match[1], int(match[2])), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise ConnectionError(f"nobody answers there ({error})") from None
