"""A modality of text files that do what they say: build, crash, hang. For tests of the engine."""

import ctypes
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from pipelines.modality import Modality, Piece, Reject, Sample, base
from pipelines.statistics import real, whole
from shard_tools.schema import Layer, Part


class Options(base.Options):
    pause: float = Field(0.0, ge=0, description="seconds a sample takes")


class Text(Modality[Options]):
    """Each line of a file is a sample. A line acts when it is built, `probe WORD` when the file is probed, `later WORD`
    when the layers are worked out.
    """

    name = "text"
    suffixes = frozenset({".txt"})
    Options = Options
    parts = {"txt": Part(description="the line"), "json": Part(description="length")}  # noqa: RUF012
    facts = {"length": -1}  # noqa: RUF012
    layers = {"long": Layer(kind="flag", cell=[1], dtype="uint8", algorithm="more than ten letters")}  # noqa: RUF012

    def probe(self, path: str) -> list[Piece]:
        lines = Path(path).read_text().splitlines()
        if not lines:
            raise Reject("Empty", "the file has no lines")
        for line in lines:
            if line.startswith("probe "):
                act(line.removeprefix("probe "))
        return [Piece(float(n), float(n + 1), bytes=1000) for n in range(len(lines))]

    def build(self, path: str, pieces: Sequence[Piece]) -> Iterator[Sample | Reject]:
        lines = Path(path).read_text().splitlines()
        for piece in pieces:
            line = lines[int(piece.start)]
            time.sleep(self.options.pause)
            act(line)
            if line == "refuse":
                yield Reject("Refused", "as it was told")
                continue
            layers = {f"{name}.npy": partial(self._layer, name, line) for name in self.layers}
            yield Sample(
                {"txt": line.encode(), "json": {"length": len(line)}, **layers},
                shape=(1,),
                summary={"letters": whole([len(line), 0.1 * len(line)])},
            )

    def _layer(self, name: str, line: str) -> np.ndarray:
        if line.startswith("later "):
            act(line.removeprefix("later "))
        return self.look({"txt": line.encode()})[name]

    def look(self, parts: Mapping[str, bytes]) -> dict[str, np.ndarray]:
        if b"\0" in parts["txt"]:
            raise Reject("Corrupt", "no text")
        return {name: np.array([len(parts["txt"]) > 10], np.uint8) for name in self.layers}

    def statistics(self, summary: dict[str, Any]) -> dict[str, Any]:
        return {name: real(sums).tolist() for name, sums in summary.items()}


class Mortal(Text):
    """Its process is killed while it starts, as often as the file that MORTAL names has bytes."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        lives = Path(os.environ["MORTAL"])
        if left := lives.read_bytes():
            lives.write_bytes(left[1:])
            os.kill(os.getpid(), signal.SIGKILL)


def act(line: str) -> None:
    """Do what a line says."""
    word, _, argument = line.partition(" ")
    if word == "segfault":
        ctypes.string_at(0)
    elif word == "segfault-once" and not Path(argument).exists():
        Path(argument).touch()
        ctypes.string_at(0)
    elif word == "hang":  # in C, with Python's lock held
        re.match(r"(a+)+$", "a" * 64 + "b")
    elif word == "fill":
        bytearray(int(argument))
    elif word == "hold":
        held = bytearray(int(argument))
        raise Reject("Refused", f"while it held {len(held)} bytes")
    elif word == "sleep":
        time.sleep(float(argument))
    elif word == "exit":
        os._exit(3)
    elif word == "bug":
        raise RuntimeError("a bug of the builder")
    elif word == "corrupt":
        raise Reject("Corrupt", "as it was told")
