"""Names and kinds of files, with a good picture inside where there is one. For the image builder."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from hostile import Hostile, hostile
from hostile.image import picture

ODD = {
    "newline": "a\nb.png",
    "tab": "a\tb.png",
    "escape": "a\x1b[31mb.png",
    "emoji": "🦀🏳️‍🌈.png",
    "right to left": "a\u202egnp.b.png",
    "combining": "e\u0301.png",
    "not UTF-8": os.fsdecode(b"\xff\xfe.png"),
    "surrogate": os.fsdecode(b"\xed\xa0\x80.png"),
    "255 bytes": "x" * 251 + ".png",
    "many dots": "a..b...c.png",
    "dash": "--output.png",
    "quotes": "a'b\"c`d.png",
    "signs": "a#b?c*d%e[f]g.png",
    "percent": "%2e%2e%2f.png",
    "semicolon": "a;rm -rf $HOME && b|c.png",
    "backslash": "a\\..\\b.png",
    "spaces": "  a  .png",
    "markup": "<script>alert(1)<.png",
    "braces": "{{ m }}{% a %}.png",
    "capitals": "A.PNG",
    "same slug": "A .PNG",
    "reserved": "CON.png",
    "nothing left": "日本語.png",
    "JSON": '{"a":1}.png',
}


def _socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{here}/{path.name}")  # paths of sockets are short
    os.close(here)


def files() -> Iterator[Hostile]:
    """Yield the files."""
    good = picture("PNG")
    for name in ODD.values():
        yield hostile(name, good)
    yield hostile("deep/" * 40 + "x.png", good)
    yield hostile("kinds/pipe.png", os.mkfifo, "Unreadable")
    yield hostile("kinds/socket.png", _socket, "Unreadable")
    yield hostile("kinds/device.png", lambda path: path.symlink_to("/dev/zero"), "Unreadable")
    yield hostile("kinds/terminal.png", lambda path: path.symlink_to("/dev/tty"), "Unreadable")
    yield hostile("kinds/dangling.png", lambda path: path.symlink_to("nowhere"), "NotFound", "Unreadable")
    yield hostile("kinds/itself.png", lambda path: path.symlink_to(path.name), "NotFound", "Unreadable")
    yield hostile(
        "kinds/memory.png",
        lambda path: path.symlink_to("/proc/self/mem"),
        "Unreadable",
        "UnknownFormat",
        "Corrupt",
        "Empty",
    )
    yield hostile("kinds/folder.png/inside.png", good)
    yield hostile(
        "kinds/loop/x.png", lambda path: (path.write_bytes(good), (path.parent / "back").symlink_to("..", True))
    )
    if os.geteuid():
        yield hostile(
            "kinds/secret.png", lambda path: (path.write_bytes(good), path.chmod(0)), "Unreadable", "Forbidden"
        )
    yield hostile("no suffix", good, "accepted", "UnknownFormat")
    yield hostile("suffix.exe", good, "accepted", "UnknownFormat")
