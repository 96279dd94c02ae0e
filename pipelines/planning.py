"""From what the user names to a plan: inputs alone, inputs onto another data set, or the stored samples of one.

One class each, with the same face: what decides the plan (`config`), making it (`make`), and who was turned away before
the building (`rejections`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from .inputs.sorted import Inputs
from .modality import Modality
from .onto import Base, Match
from .output import Output
from .plan import Plan, write_plan
from .probing import probe, turned_away
from .rejects import Rejection
from .run import Run

PLAN = "plan.parquet"


class Planner(Protocol):
    """What decides a plan.

    keeps: an input that is turned away leaves an absent sample, so that keys and shards stay those of other data sets.
    onto: root of the data set whose stored samples are the inputs, '' for none.
    """

    @property
    def keeps(self) -> bool:
        """Whether absent samples are kept."""

    @property
    def onto(self) -> str:
        """The root of the data set whose samples are looked at."""

    @property
    def config(self) -> dict[str, Any]:
        """Return what decides the plan, for the manifest."""

    def make(self, run: Run, target: Output, scratch: Path) -> Plan:
        """Make the plan and keep it in the output."""

    def rejections(self, target: Output, scratch: Path) -> Iterator[Rejection]:
        """Yield the inputs that were turned away before the building."""


@dataclass(frozen=True, slots=True)
class FromInputs:
    """Inputs, each cut into samples. by_group: inputs of one group are of one instant, which gives the key."""

    inputs: Inputs
    by_group: bool
    seed: int
    val: float
    shard_bytes: int
    shard_samples: int
    onto = ""

    @property
    def keeps(self) -> bool:
        """Whether absent samples are kept."""
        return self.by_group

    @property
    def config(self) -> dict[str, Any]:
        """What decides the plan, for the manifest."""
        return {"shard_size": self.shard_bytes, "shard_samples": self.shard_samples, "inputs": self.inputs.config}

    def make(self, run: Run, target: Output, scratch: Path) -> Plan:
        """Make the plan and keep it in the output."""
        probed = self.probe(run, target, scratch)
        limits = {"shard_bytes": self.shard_bytes, "shard_samples": self.shard_samples}
        write_plan(scratch / PLAN, probed, scratch, **limits, keep=self.by_group)
        return target.save_plan(scratch / PLAN)

    def probe(self, run: Run, target: Output, scratch: Path) -> list[Path]:
        """Return what became of the inputs, see `probing.probe`."""
        return probe(run, target, self.inputs, scratch, seed=self.seed, val=self.val, by_group=self.by_group)

    def rejections(self, target: Output, scratch: Path) -> Iterator[Rejection]:
        """Yield the inputs that were turned away before the building."""
        return turned_away(list(target.probed(scratch).values()), scratch)


@dataclass(frozen=True, slots=True)
class OntoInputs:
    """Inputs that take the keys and places of another data set's samples."""

    alone: FromInputs
    base: Base
    match: Match
    keeps = True
    onto = ""

    @property
    def config(self) -> dict[str, Any]:
        """What decides the plan, for the manifest."""
        return {"onto": self.base.config, "inputs": self.alone.inputs.config}

    def make(self, run: Run, target: Output, scratch: Path) -> Plan:
        """Make the plan and keep it in the output."""
        probed = self.alone.probe(run, target, scratch)
        self.base.plan_matched(scratch / PLAN, probed, scratch, self.match)
        run.limit.count(self.base.unmatched(probed, scratch, self.match), self.alone.inputs.count)
        return target.save_plan(scratch / PLAN)

    def rejections(self, target: Output, scratch: Path) -> Iterator[Rejection]:
        """Yield the inputs that were turned away before the building."""
        probed = list(target.probed(scratch).values())
        return chain(self.alone.rejections(target, scratch), self.base.unmatched(probed, scratch, self.match))


@dataclass(frozen=True, slots=True)
class Overlay:
    """The stored samples of another data set, which get new layers."""

    base: Base
    builder: Modality
    keeps = True

    @property
    def onto(self) -> str:
        """The root of the data set whose samples are looked at."""
        return self.base.root

    @property
    def config(self) -> dict[str, Any]:
        """What decides the plan, for the manifest."""
        return {"onto": self.base.config}

    def make(self, run: Run, target: Output, scratch: Path) -> Plan:
        """Make the plan and keep it in the output."""
        payload = [part for part in self.base.manifest.parts if part in self.builder.parts and part != "json"]
        self.base.plan_overlay(scratch / PLAN, payload)
        return target.save_plan(scratch / PLAN)

    def rejections(self, target: Output, scratch: Path) -> Iterator[Rejection]:
        """Yield the inputs that were turned away before the building."""
        return iter(())
