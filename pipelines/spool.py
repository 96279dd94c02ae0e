"""Bytes that a decoding process writes and its worker hands on: no copy goes through a pipe or a pickle."""

import mmap
import os

import numpy as np

KEPT_BYTES = 64 << 20  # of memory, to be written anew: fresh pages cost more than copying into them


class Spool:
    """A file in memory that two processes have open. end: where the next bytes go."""

    def __init__(self, handle: int | None = None) -> None:
        """handle: of the file that the other process made; without one a file is made."""
        self._file = open(os.memfd_create("spool") if handle is None else handle, "r+b", buffering=0)  # noqa: SIM115
        self.end = 0

    @property
    def handle(self) -> int:
        """The number of the open file."""
        return self._file.fileno()

    def append(self, data: bytes) -> int:
        """Write bytes and return where the first one stands. Raises OSError."""
        start, rest = self.end, memoryview(data)
        while rest:
            rest = rest[os.pwrite(self.handle, rest, start + len(data) - len(rest)) :]
        self.end += len(data)
        return start

    def clear(self) -> None:
        """Begin anew."""
        self.end = 0
        if os.fstat(self.handle).st_size > KEPT_BYTES:
            os.ftruncate(self.handle, KEPT_BYTES)

    def view(self) -> np.ndarray:
        """Return all bytes up to the end, uint8 [end], without a copy: they change when the spool begins anew."""
        if not self.end:
            return np.empty(0, np.uint8)
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        return np.frombuffer(mmap.mmap(self.handle, self.end, flags=flags, prot=mmap.PROT_READ), np.uint8)
