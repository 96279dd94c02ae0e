"""Folders for a while in $TMPDIR. Who has one holds a lock in it, so that what a killed process left is known for that.

The scratch of a build is its driver's, `shard-build-XXXX`. What its workers fetch lies beside it, in
`shard-build-XXXX-NUMBER`, on their machines.
"""

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

PREFIX = "shard-build-"
LOCK = "shard-build.lock"  # says which machine holds it: others may see the folder, and not the lock
NAME_MAX = 256  # characters of a host's name
YOUNG = 1.0  # seconds in which a folder may not be held yet
PATIENCE = 5.0  # seconds in which workers that are ended may still write


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder for the block, and remove what earlier processes have left."""
    sweep()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder, held(folder):
        yield Path(folder)


def held(folder: str | os.PathLike[str]) -> TextIO:
    """Return the lock of a folder, which is made if it is not there: held until it is closed or this process ends."""
    os.makedirs(folder, 0o700, exist_ok=True)
    lock = open(os.path.join(folder, LOCK), "w+")  # noqa: SIM115 - held by whoever gets it
    lock.write(socket.gethostname())
    lock.flush()
    with suppress(OSError):  # a file system without locks: nobody sweeps there
        fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def sweep() -> None:
    """Remove the folders of this machine that nobody holds: their processes were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        if not path.is_file():  # somebody else's pipe or device, which would be read for ever
            continue
        with suppress(OSError), path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.read(NAME_MAX) == socket.gethostname() and time.time() - path.stat().st_mtime > YOUNG:
                shutil.rmtree(path.parent, ignore_errors=True)


def remove_fetched(scratch: Path) -> None:
    """Remove what the workers of a build on this machine have left beside its scratch; they have been ended."""
    until = time.monotonic() + PATIENCE
    while (left := list(scratch.parent.glob(f"{scratch.name}-*"))) and time.monotonic() < until:
        for beside in left:
            shutil.rmtree(beside, ignore_errors=True)
        time.sleep(0.05)
