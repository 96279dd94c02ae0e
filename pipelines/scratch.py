"""Folders for a while in $TMPDIR. Who has one holds a lock in it, so that what a killed process left is known for that.

The scratch of a build is its driver's, `shard-build-XXXX`. What its workers fetch lies beside it, in
`shard-build-XXXX-NUMBER`, on their machines.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

PREFIX = "shard-build-"
LOCK = "lock"
YOUNG = 1.0  # seconds in which a folder may not be held yet
PATIENCE = 5.0  # seconds in which workers that are ended may still write


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder for the block, and remove it afterwards with what its workers on this machine have left."""
    sweep()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, held(folder):
        try:
            yield Path(folder)
        finally:
            until = time.monotonic() + PATIENCE
            while (left := list(Path(folder).parent.glob(f"{Path(folder).name}-*"))) and time.monotonic() < until:
                for beside in left:
                    shutil.rmtree(beside, ignore_errors=True)


def held(folder: str | os.PathLike[str]) -> TextIO:
    """Return the lock of a folder, which is made if it is not there: held until it is closed or this process ends."""
    os.makedirs(folder, 0o700, exist_ok=True)
    lock = open(os.path.join(folder, LOCK), "w")  # noqa: SIM115 - held by whoever gets it
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def sweep() -> None:
    """Remove the folders on this machine that nobody holds: their processes were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError), path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - path.stat().st_mtime > YOUNG:
                shutil.rmtree(path.parent, ignore_errors=True)
