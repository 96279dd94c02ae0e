"""Pictures that change between the time they are probed and the time they are built."""

import os
from collections.abc import Callable
from pathlib import Path

from hostile import ACCEPTED
from hostile.image import picture
from pipelines.modality import Piece
from pipelines.modality.image import Image


def _becomes(make: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda path: (path.unlink(), make(path))


CHANGES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "stays": (lambda path: None, (ACCEPTED,)),
    "vanishes": (Path.unlink, ("NotFound", "Unreadable")),
    "shrinks": (lambda path: os.truncate(path, 3000), ("Corrupt",)),
    "empties": (lambda path: os.truncate(path, 0), ("Empty",)),
    "grows": (lambda path: path.write_bytes(path.read_bytes() * 2), (ACCEPTED,)),
    "another": (lambda path: path.write_bytes(picture("JPEG")), (ACCEPTED,)),
    "noise": (lambda path: path.write_bytes(b"no picture"), ("UnknownFormat",)),
    "sound": (lambda path: path.write_bytes(b"RIFF\x24\0\0\0WAVEfmt "), ("WrongModality",)),
    "folder": (_becomes(Path.mkdir), ("Unreadable",)),
    "pipe": (_becomes(os.mkfifo), ("Unreadable",)),
    "endless": (_becomes(lambda path: path.symlink_to("/dev/zero")), ("Unreadable",)),
    "dangling": (_becomes(lambda path: path.symlink_to("nowhere")), ("NotFound", "Unreadable")),
    "itself": (_becomes(lambda path: path.symlink_to(path)), ("NotFound", "Unreadable")),
}


class Fickle(Image):
    """The builder of pictures; when it has probed one, that becomes what its name says."""

    def probe(self, path: str) -> list[Piece]:
        pieces = super().probe(path)
        change, _ = CHANGES[Path(path).stem]
        change(Path(path))
        return pieces
