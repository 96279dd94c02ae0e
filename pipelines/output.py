"""What a build leaves behind while it goes on, and how it becomes a data set: everything that makes it resumable.

    DATASET/.build/lock            held by the one build that writes here
    DATASET/.build/state.json      config (with the digest of the inputs), library versions, which run writes here
    DATASET/.build/marks.parquet   what is known of each input
    DATASET/.build/probe/N.parquet what the probe found in the N-th segment of the inputs
    DATASET/.build/plan.parquet    the plan's rows, a row group a shard
    DATASET/.build/NAME.json       one committed shard: its manifest entry, statistics and rejects

All of it goes when the manifest is written. Until then the same command goes on where the last one stopped.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shard_tools.errors import Misuse, Problem
from shard_tools.index import index_name
from shard_tools.manifest import STATE, read_manifest, write_card, write_manifest
from shard_tools.schema import Build, Manifest, Shard
from shard_tools.storage import Storage, atomic, remove_leftovers

from .inputs.marks import difference, write_marks
from .inputs.sorted import Inputs
from .lock import hold
from .plan import Plan
from .rejects import Rejection, read_rejected, write_rejected

LOCK = f"{STATE}/lock"
PLAN = f"{STATE}/plan.parquet"
PROBE = f"{STATE}/probe"
SEGMENT = re.compile(r"\d+\.parquet")
MARKS = f"{STATE}/marks.parquet"
OURS = ("manifest.json", "shards", "index", "README.md", "plan.parquet", "rejected.parquet")


@dataclass(frozen=True, slots=True)
class Record:
    """A committed shard of a build. shard is None where all its inputs were rejected."""

    name: str
    shard: Shard | None
    summary: dict[str, Any] | None
    rejections: list[Rejection]


def write_record(root: str, run: str, record: Record) -> None:
    """Put a shard's record in place: from now on it counts. Raises Problem where another run writes here."""
    check_run(root, run)
    data = {
        "shard": record.shard.model_dump() if record.shard else None,
        "summary": record.summary,
        "rejections": [asdict(rejection) for rejection in record.rejections],
    }
    Storage(root).write(f"{STATE}/{record.name}.json", json.dumps(data).encode())


def check_run(root: str, run: str) -> None:
    """Raise Problem unless this run, see `Output.run`, is the one that writes here."""
    try:
        is_ours = json.loads(Storage(root).read(f"{STATE}/state.json")).get("run") == run
    except (FileNotFoundError, ValueError):
        is_ours = False
    if not is_ours:
        raise Problem(f"{root}: another build was begun here, or this one was removed")


class Output:
    """The folder or URL of one build.

    root: as the workers take it. name: the last part of it. run: which of all runs has come to write here, '' before
    `writing`.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Raises Misuse where something stands that no build of ours has made."""
        self.storage = Storage(root)
        self.root = self.storage.absolute
        self.storage = Storage(self.root)
        self.name = self.root.rsplit("/", 1)[-1]
        self.run = ""
        if self.storage.local and Path(self.root).exists() and not Path(self.root).is_dir():
            raise Misuse(f"{root}: the output is a file; give a folder")
        try:
            found = self.storage.names("")
        except OSError as error:
            raise Problem(f"--output {error}") from None
        if not {"manifest.json", STATE} & set(found) and set(found) - {"rejected.parquet"}:
            raise Misuse(f"{root}: the output is not empty and holds no data set of ours; give another folder")

    def finished(self, digest: str, config: dict[str, Any], *, overwrite: bool) -> Manifest | None:
        """Return the manifest of the data set that stands here, if it is the one asked for; None where none stands.

        Raises Misuse, saying what differs, where another one stands, unless it may be overwritten.
        """
        if overwrite or not self.storage.exists("manifest.json"):
            return None
        manifest, stands = read_manifest(self.root), self._standing()
        if manifest.build.digest != digest:
            raise _other(self.root, "another data set", _differences(manifest.build.config, config))
        if lost := [shard.name for shard in manifest.shards if not stands(shard)]:
            raise Problem(
                f"{self.root}: built, but {len(lost)} of its shards are not there as they were written ({lost[0]}); "
                "shard-tools verify says more, --overwrite builds anew"
            )
        if self.storage.exists(STATE):  # it was ended before it had tidied up, or is just about to
            with suppress(Misuse), hold(self.storage, LOCK):
                self.storage.remove_tree(STATE)
        return manifest

    @contextmanager
    def writing(
        self, config: dict[str, Any], versions: dict[str, str], inputs: Inputs | None, scratch: Path, *, overwrite: bool
    ) -> Iterator[Callable[[], None]]:
        """Hold the output for this build. Raises Misuse where another build writes, or another was begun.

        Gives what raises Problem once another build has taken it all the same.
        """
        with hold(self.storage, LOCK) as check:
            if overwrite:
                self._clear()
            if self.storage.exists("manifest.json"):
                raise Misuse(f"{self.root}: another shard-build has just ended here; give the command again")
            self.run = uuid.uuid4().hex
            marks = write_marks(inputs, scratch) if inputs else None
            if self.storage.exists(PLAN) or self.storage.names(PROBE):  # otherwise there is nothing to lose
                self._check_same(config, versions, marks, scratch)
            else:
                for name in ("shards", "index"):  # of a build whose removal was cut short
                    self.storage.remove_tree(name)
                if marks:
                    self.storage.put(marks, MARKS)
            state = {"config": config, "versions": versions, "run": self.run}
            self.storage.write(f"{STATE}/state.json", json.dumps(state).encode())
            if self.storage.local:
                remove_leftovers(self.root)
            yield check

    def _check_same(self, config: dict[str, Any], versions: dict[str, str], marks: Path | None, scratch: Path) -> None:
        """Raise Misuse unless an earlier run built the same, of inputs that are as they were."""
        old, changes = self._read_json("state.json"), ""
        if marks and self.storage.exists(MARKS):
            changes = difference(self._local(MARKS, scratch / "kept-marks.parquet"), marks, scratch)
        if changes:  # they say more than the digest of the inputs
            config = {**config, "inputs": old["config"].get("inputs")}
        found = _differences(old["config"], config) or _differences(old["versions"], versions)
        if changes:
            found.append(f"inputs: {changes}")
        if found:
            raise _other(self.root, "an unfinished build of another kind", found)

    def probed(self, scratch: Path) -> dict[int, Path]:
        """Return the segments of the inputs that earlier runs have probed, as local files."""
        names = [name for name in self.storage.names(PROBE) if SEGMENT.fullmatch(name)]  # file systems leave others
        return {int(name.split(".")[0]): self._local(f"{PROBE}/{name}", scratch / name) for name in names}

    def save_probed(self, number: int, file: Path) -> None:
        """Keep what the probe found in a segment for later runs; `file` stays."""
        self.storage.put(file, f"{PROBE}/{number:06d}.parquet")

    def load_plan(self, scratch: Path) -> Plan | None:
        """Return the plan, if an earlier run of this build had come so far."""
        return Plan(self._local(PLAN, scratch / "kept-plan.parquet")) if self.storage.exists(PLAN) else None

    def save_plan(self, file: Path) -> Plan:
        """Keep the plan for later runs of this build and return it; `file` stays."""
        self.storage.put(file, PLAN)
        return Plan(file)

    def committed(self) -> Iterator[Record]:
        """Yield the records of the shards that earlier runs of this build have committed, if they still stand there."""
        stands = self._standing()
        names = (name.removesuffix(".json") for name in self.storage.names(STATE) if name.endswith(".json"))
        for record in (self.record(name) for name in names if name != "state"):
            if not record.shard or stands(record.shard):
                yield record

    def _standing(self) -> Callable[[Shard], bool]:
        """Return what says whether a shard stands here with its index, as large as it was written."""
        sizes, indexes = self.storage.sizes("shards"), set(self.storage.names("index"))
        return lambda shard: (
            sizes.get(shard.name) == shard.bytes and index_name(shard).removeprefix("index/") in indexes
        )

    def record(self, name: str) -> Record:
        """Return the record of a committed shard."""
        data = self._read_json(f"{name}.json")
        shard = Shard(**data["shard"]) if data["shard"] else None
        return Record(name, shard, data["summary"], [Rejection(**rejection) for rejection in data["rejections"]])

    def rejections(self, scratch: Path) -> Iterator[Rejection]:
        """Yield what a finished build turned away."""
        return read_rejected(self._local("rejected.parquet", scratch / "kept-rejected.parquet"))

    def finish(self, manifest: Manifest, plan: Plan, rejections: Iterator[Rejection], scratch: Path) -> None:
        """Make a data set of the committed shards."""
        with atomic(self.root, "plan.parquet") as file:
            plan.publish(file)
        with atomic(self.root, "rejected.parquet") as file:
            count = write_rejected(file, rejections, scratch)
        manifest = manifest.model_copy(update={"rejected": count})
        write_card(self.root, manifest)
        write_manifest(self.root, manifest)
        self.storage.remove_tree(STATE)

    def discard(self, rejections: Iterator[Rejection], scratch: Path) -> None:
        """Remove the traces of a build that gave nothing, but for what was turned away."""
        with atomic(self.root, "rejected.parquet") as file:
            write_rejected(file, rejections, scratch)
        self.storage.remove_tree(STATE)
        if self.storage.local:
            for folder in (Path(self.root, "shards"), Path(self.root, "index")):
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()

    def _clear(self) -> None:
        self.storage.remove_tree(f"{STATE}/state.json")  # a writer that is still at work commits nothing from now on
        for name in OURS:  # the manifest first: without it the rest is no data set
            self.storage.remove_tree(name)
        for name in self.storage.names(STATE):
            if name != "lock":
                self.storage.remove_tree(f"{STATE}/{name}")

    def _local(self, name: str, copy: Path) -> Path:
        """Return where a file of the data set can be read as a local one."""
        if self.storage.local:
            return Path(self.storage.path(name))
        self.storage.get(name, copy)
        return copy

    def _read_json(self, name: str) -> Any:
        path = self.storage.path(f"{STATE}/{name}")
        try:
            return json.loads(self.storage.read(f"{STATE}/{name}"))
        except (OSError, ValueError) as error:
            raise Problem(f"{path}: not readable ({error}); start anew with --overwrite") from None


def make_digest(config: dict[str, Any]) -> str:
    """Return the sha256 of a build's config, which holds the digest of its inputs."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def make_build(config: dict[str, Any], versions: dict[str, str]) -> Build:
    """Return the manifest's record of how the data set was made."""
    return Build(config=config, digest=make_digest(config), versions=versions)


def _other(root: str, what: str, differences: list[str]) -> Misuse:
    return Misuse(
        f"{root}: holds {what}: {'; '.join(differences)}. Give another --output, or --overwrite to build anew"
    )


def _say(value: Any) -> str:
    """Return a value of the config in words: a data set by its name."""
    return "none" if value is None else str(value.get("name", value) if isinstance(value, dict) else value)


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return in words what differs."""
    found = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            inner = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
            found += [
                f"{name}.{key} {before.get(key)} there, {after.get(key)} here" for key in inner if key != "sha256"
            ]
            if inner == ["sha256"]:
                found.append(f"{name}: other names, sizes or labels")
        else:
            found.append(f"{name} {_say(before)} there, {_say(after)} here")
    return found
