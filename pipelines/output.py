"""What a build leaves on disk while it goes on, and how it becomes a data set: everything that makes it resumable.

    DATASET/.build/lock            held by the one build that writes here
    DATASET/.build/state.json      config (with the digest of the inputs) and library versions
    DATASET/.build/plan.json.gz    the plan's rows, and the inputs rejected before it
    DATASET/.build/NAME.json       one committed shard: its manifest entry, statistics and rejects

The folder is removed when the manifest is written. Until then the same command goes on where the last one stopped.
"""

import fcntl
import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from shard_tools.errors import Misuse, Problem
from shard_tools.index import read_parquet
from shard_tools.manifest import read_manifest, write_card, write_manifest
from shard_tools.schema import Build, Manifest, Shard
from shard_tools.storage import Storage, atomic, remove_leftovers

from .plan import Row, plan_table
from .rejects import Rejection, rejected_table

STATE = ".build"
PLAN = "plan.json.gz"
OURS = ("shards", "index", "manifest.json", "README.md", "plan.parquet", "rejected.parquet", STATE)


@dataclass(frozen=True, slots=True)
class Record:
    """A committed shard of a build. shard is None where all its inputs were rejected."""

    name: str
    shard: Shard | None
    summary: dict[str, Any] | None
    rejections: list[Rejection]


def write_record(root: str, record: Record) -> None:
    """Put a shard's record on disk: from now on it counts."""
    data = {
        "shard": record.shard.model_dump() if record.shard else None,
        "summary": record.summary,
        "rejections": [asdict(rejection) for rejection in record.rejections],
    }
    with atomic(root, f"{STATE}/{record.name}.json") as file:
        file.write(json.dumps(data).encode())


class Output:
    """The folder of one build."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Raises Misuse where something stands that no build of ours has made."""
        self.root = Path(root).absolute()
        self.state = self.root / STATE
        if self.root.exists() and not self.root.is_dir():
            raise Misuse(f"{root}: the output is a file; give a folder")
        ours = (self.root / "manifest.json").exists() or self.state.exists()
        if self.root.is_dir() and not ours and any(self.root.iterdir()):
            raise Misuse(f"{root}: the output is not empty and holds no data set of ours; give another folder")

    def finished(self, digest: str, config: dict[str, Any], *, overwrite: bool) -> Manifest | None:
        """Return the manifest of the data set that stands here, if it is the one asked for; None where none stands.

        Raises Misuse, saying what differs, where another one stands, unless it may be overwritten.
        """
        if overwrite or not (self.root / "manifest.json").exists():
            return None
        manifest = read_manifest(self.root)
        if manifest.build.digest != digest:
            raise Misuse(f"{self.root}: holds another data set: {_difference(manifest.build.config, config)}")
        shutil.rmtree(self.state, ignore_errors=True)
        return manifest

    @contextmanager
    def writing(self, config: dict[str, Any], versions: dict[str, str], *, overwrite: bool) -> Iterator[None]:
        """Hold the folder for this build. Raises Misuse where another build writes, or another was begun."""
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            lock = (self.state / "lock").open("w")
        except OSError as error:
            raise Misuse(f"{self.root}: cannot be written: {error.strerror}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Misuse(f"{self.root}: another shard-build is writing here") from None
            if overwrite:
                self._clear()
            self._resume({"config": config, "versions": versions})
            yield

    def _resume(self, state: dict[str, Any]) -> None:
        """Say what is built here, or check that an earlier run said the same."""
        file = self.state / "state.json"
        begun = file.exists() and (self.state / PLAN).exists()  # without a plan there is nothing to lose
        if begun and (old := _read_json(file)) != state:
            what = "config" if old["config"] != state["config"] else "versions"
            raise Misuse(
                f"{self.root}: holds an unfinished build of another kind: {_difference(old[what], state[what])}"
            )
        remove_leftovers(self.root)
        with atomic(self.root, f"{STATE}/state.json") as stream:
            stream.write(json.dumps(state).encode())

    def rejections(self) -> list[Rejection]:
        """Return what a finished build turned away."""
        return [Rejection(**row) for row in read_parquet(Storage(self.root), "rejected.parquet").to_pylist()]

    def load_plan(self) -> tuple[list[Row], list[Rejection]] | None:
        """Return the plan and the rejects of the probe, if an earlier run of this build had come so far."""
        file = self.state / PLAN
        if not file.exists():
            return None
        rows, rejections = json.loads(gzip.decompress(file.read_bytes()))
        return [Row(*row) for row in rows], [Rejection(**rejection) for rejection in rejections]

    def save_plan(self, rows: Sequence[Row], rejections: Sequence[Rejection]) -> None:
        """Keep the plan for later runs of this build."""
        data = [[astuple(row) for row in rows], [asdict(rejection) for rejection in rejections]]
        with atomic(self.root, f"{STATE}/{PLAN}") as file:
            file.write(gzip.compress(json.dumps(data).encode(), 1))

    def load_records(self, names: Sequence[str]) -> dict[str, Record]:
        """Return the shards that earlier runs of this build have committed."""
        records = {}
        for name in names:
            if (file := self.state / f"{name}.json").exists():
                data = _read_json(file)
                shard = Shard(**data["shard"]) if data["shard"] else None
                rejections = [Rejection(**rejection) for rejection in data["rejections"]]
                records[name] = Record(name, shard, data["summary"], rejections)
        return records

    def finish(self, manifest: Manifest, rows: Sequence[Row], rejections: Sequence[Rejection]) -> None:
        """Make a data set of the committed shards."""
        with atomic(self.root, "plan.parquet") as file:
            pq.write_table(plan_table(rows), file)
        with atomic(self.root, "rejected.parquet") as file:
            pq.write_table(rejected_table(rejections), file)
        write_card(self.root, manifest)
        write_manifest(self.root, manifest)
        shutil.rmtree(self.state)

    def discard(self) -> None:
        """Remove the traces of a build that gave nothing."""
        shutil.rmtree(self.state)
        for folder in (self.root / "shards", self.root / "index", self.root):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _clear(self) -> None:
        (self.root / "manifest.json").unlink(missing_ok=True)  # first: without it the rest is no data set
        for name in OURS[:-1]:
            path = self.root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        for path in self.state.iterdir():
            if path.name != "lock":
                path.unlink()


def make_digest(config: dict[str, Any]) -> str:
    """Return the sha256 of a build's config, which holds the digest of its inputs."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def make_build(config: dict[str, Any], versions: dict[str, str]) -> Build:
    """Return the manifest's record of how the data set was made."""
    return Build(config=config, digest=make_digest(config), versions=versions)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise Problem(f"{file}: not readable ({error}); start anew with --overwrite") from None


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return in words what differs, and what to do."""
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
                found.append(f"{name}: other names or sizes")
        else:
            found.append(f"{name} {before} there, {after} here")
    return f"{'; '.join(found)}. Give another --output, or --overwrite to build anew"
