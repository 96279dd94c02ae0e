"""What targets share: a folder in memory for parsers that want a file, and what must hold of every refusal."""

import atexit
import shutil
import tempfile
from pathlib import Path

from shard_tools.errors import Problem

MEMORY = Path("/dev/shm")
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-", dir=MEMORY if MEMORY.is_dir() else None))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def write(name: str, data: bytes) -> str:
    """Put a file into the folder, replacing what has its name; return its path."""
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a new inode: the old one may still be mapped
    path.write_bytes(data)
    return str(path)


def told(error: Problem) -> None:
    """Check that an error can be told in one line of UTF-8."""
    text = str(error)
    assert text and "\n" not in text, f"not one line: {text!r}"
    text.encode()
