"""Ray for one build: a cluster started here, or a running one."""

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from shard_tools.errors import Problem

PATIENCE = 30.0  # seconds for cancelled tasks to end

_ours = False  # whether we are in a cluster that we leave when done


@contextmanager
def cluster(workers: int | None, address: str | None) -> Iterator[int]:
    """Yield how many tasks may be on their way: 2 a CPU, or the workers told of a running cluster.

    workers: CPUs of a cluster started here. address: of a running one. Where the process is in a cluster already, that
    one is used. To leave a cluster ends our tasks there. Raises Problem where it cannot be used.
    """
    global _ours
    if ray.is_initialized():
        yield workers or 2 * int(ray.cluster_resources().get("CPU", 1))
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
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
        _ours = True
        yield (workers if address else None) or 2 * int(ray.cluster_resources().get("CPU", 1))
    finally:
        _ours = False
        ray.shutdown()


@contextmanager
def none_left(running: Mapping[ray.ObjectRef, Any]) -> Iterator[None]:
    """Leave no task on its way when the block fails: in a cluster that outlives us it would go on to write."""
    try:
        yield
    finally:
        if running and not _ours:
            for ref in running:
                ray.cancel(ref)  # not by force: that makes Ray 2.60 abort the driver now and then
            ray.wait(list(running), num_returns=len(running), timeout=PATIENCE)


def _check_reachable(address: str) -> None:
    """Raise ConnectionError where nobody answers: Ray itself would try for two minutes."""
    if match := re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address):
        try:
            socket.create_connection((match[1], int(match[2])), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise ConnectionError(f"nobody answers there ({error})") from None
