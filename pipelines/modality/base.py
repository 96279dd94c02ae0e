"""The contract between the build engine and a modality: probe an input, build its samples, count its statistics.

A modality never sees plans, shards or Ray. It gets local files and gives samples; the engine does the rest.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from tokenize import TokenError
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from shard_tools.arguments import nearest
from shard_tools.errors import Misuse
from shard_tools.schema import Layer, Part

# What damaged headers make np.load raise.
NPY_ERRORS = (ValueError, TypeError, OSError, EOFError, OverflowError, SyntaxError, TokenError)


class Reject(Exception):  # noqa: N818 - a verdict on an input, not a failure of the program
    """An input, or a range of it, is turned away.

    error: class of the reason, one word: Empty, UnknownFormat, WrongModality, Corrupt, TooLarge, Unsupported, …
    message: one line a user understands.
    """

    def __init__(self, error: str, message: str) -> None:
        super().__init__(error, message)
        self.error = error
        self.message = " ".join(message.split())

    def __str__(self) -> str:
        return f"{self.error}: {self.message}"


class Options(BaseModel):
    """A modality's own options; each field is a flag of shard-build, with its description as help."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of one input that becomes one sample.

    start, end: in the modality's unit (seconds, rows); 0 and -1 mean all of it.
    bytes: the estimated size of the sample, which sizes shards and units of work.
    split: set where the modality itself divides an input (rows of a table); otherwise the engine draws it by group.
    place: what the probe found out that `build` needs to find the range again (byte offsets); no one else reads it.
    """

    start: float = 0.0
    end: float = -1.0
    bytes: int = 100_000
    split: str = ""
    place: str = ""


Content = bytes | np.ndarray | dict[str, Any]


@dataclass(slots=True)
class Sample:
    """What one piece became.

    parts: part name → bytes, or an array (stored as .npy), or a dict (stored as JSON), or a function that returns one:
        it is called later, for many samples after each other, which takes less time than between decoders. It may raise
        Reject; the input's file may be gone by then. The engine adds `cls` and `txt` where the inputs have classes and
        captions, unless they are here, and `source`, `label`, `group`, `start`, `end` to the part `json`.
    shape: of the lattice that the layers live on.
    summary: what this sample adds to the data set's statistics, sums as whole numbers (see `pipelines.statistics`);
        None for nothing.
    """

    parts: dict[str, Content | Callable[[], Content]]
    shape: tuple[int, ...]
    summary: dict[str, Any] | None = field(default_factory=dict)

    def contents(self) -> dict[str, Content]:
        """Return the parts, with those that were left for later."""
        return {name: part() if callable(part) else part for name, part in self.parts.items()}


O = TypeVar("O", bound=Options)  # noqa: E741


class Modality(ABC, Generic[O]):
    """A builder of one modality. Subclasses are named by the entry points of the group `mmmask.builders`."""

    name: ClassVar[str]
    suffixes: ClassVar[frozenset[str]]  # lower-case, with the dot; files with others are listed, probed and rejected
    Options: ClassVar[type[Options]]
    one_sample: ClassVar[bool] = False  # every input is one sample: a remote one need not be fetched to know
    parts: dict[str, Part]  # payload parts and json, without layers and cls; set in __init__ where options decide
    facts: ClassVar[dict[str, Any]]  # what the part json says of an absent sample: every key, with -1, "" or False
    layers: dict[str, Layer]  # layer name → its description, the part is NAME.npy; an instance has those asked for

    def __init__(
        self, options: O, *, seed: int = 0, val_share: float = 0.1, layers: Collection[str] | None = None
    ) -> None:
        """layers: names of those to build, all of them unless told. Raises Misuse for an unknown one."""
        self.options = options
        self.seed = seed
        self.val_share = val_share
        if layers is not None:
            known = type(self).layers
            if unknown := [name for name in layers if name not in known]:
                raise Misuse(
                    f"--layers {unknown[0]}: {self.name} has no such layer{nearest(unknown[0], known)}; "
                    f"known: {', '.join(known) or 'none'}"
                )
            self.layers = {name: layer for name, layer in known.items() if name in layers}

    @abstractmethod
    def probe(self, path: str) -> list[Piece]:
        """Return the samples an input will give, from its header alone where the format allows. Raises Reject."""

    def expect(self, size: int) -> list[Piece]:
        """Return what an input of one sample, which is not fetched to be probed, will give. size: bytes, -1 unknown."""
        return [Piece()]

    @abstractmethod
    def build(self, path: str, pieces: Sequence[Piece]) -> Iterator[Sample | Reject]:
        """Yield, in order, one Sample or Reject for each of some pieces of one input. Raises Reject for all of them.

        Samples are encoded later: what they hold must not change any more.
        """

    def look(self, parts: Mapping[str, bytes]) -> dict[str, np.ndarray]:
        """Return the layers (name → array) of a stored sample from the bytes of its payload parts, for an overlay.

        Raises Reject.
        """
        raise Reject("Unsupported", f"{self.name} has no layers")

    def statistics(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Return the manifest's statistics from the merged summaries of the training split."""
        return summary
