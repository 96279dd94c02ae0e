"""Build a data set: list, probe, plan, build, commit.

The plan is a pure function of the inputs and the config, and a shard one of its rows of the plan, so the number of
workers, retries and restarts leave no trace in the bytes.

    driver   lists the inputs, plans, keeps a bounded number of chunks on their way; sees rejects and records only
    workers  probe inputs and build chunks, each through a process of its own that an input may kill (`isolation`)
    writers  one task a shard: assembles its chunks in the order of the plan and commits it (`worker.write_shard`)
"""

import math
import os
import pickle
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

import ray
from pydantic import ValidationError
from ray.exceptions import RayError, RayTaskError
from tqdm import tqdm

from shard_tools.arguments import nearest
from shard_tools.errors import Misuse, Problem
from shard_tools.schema import SPLITS, Manifest, Part

from .modality import Modality, Piece, Reject, get_modality
from .output import Output, Record, make_build, make_digest
from .plan import Row, make_plan
from .rejects import Rejection, reasons
from .report import Report, in_one_line
from .sources import Labels, Source, inputs_digest, list_sources
from .statistics import merge
from .worker import build_chunk, probe_inputs, write_shard

CHUNK_BYTES = 32 << 20  # of estimated output
PROBE_INPUTS = 256  # a task
CHUNKS_A_WORKER = 8  # at least, if there is enough work: so that they end at about the same time


class Interrupted(Problem):
    """The user stopped the build."""

    exit_code = 130


def build(
    *,
    modality: str | type[Modality],
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: Mapping[str, Any] | None = None,
    labels: Labels = "none",
    val: float = 0.1,
    seed: int = 0,
    shard_size: int = 256_000_000,
    shard_samples: int = 10_000,
    timeout: float = 300.0,
    max_rejected: str | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Report:
    """Build a data set from raw files and return what came of it. The arguments are those of `shard-build`.

    modality: its name, or a class of one that is not installed. inputs: folders, files, globs. options: the modality's
    own. val: share of the groups for the split val. shard_size, shard_samples: bytes and samples of a shard at most.
    timeout: seconds an input may take for a sample. max_rejected: 'N' or 'P%' of the inputs, beyond which the build
    stops. workers: processes that decode; as many as there are CPUs unless told. ray_address: of a running cluster.

    A build that was stopped goes on when called again with the same arguments. Raises Misuse for arguments that make no
    sense, and Problem when nothing could be built or too much was rejected.
    """
    started = time.monotonic()
    kind = get_modality(modality) if isinstance(modality, str) else modality
    builder = kind(_parse_options(kind, options or {}), seed=seed, val_share=val)
    target = Output(output)
    _check_apart(inputs, target.root)
    sources = list_sources(inputs, labels)
    config = {
        "modality": kind.name,
        "options": builder.options.model_dump(mode="json"),
        "labels": labels,
        "val": val,
        "seed": seed,
        "shard_size": shard_size,
        "shard_samples": shard_samples,
        "inputs": {
            "files": len(sources),
            "bytes": sum(max(source.bytes, 0) for source in sources),
            "sha256": inputs_digest(sources),
        },
    }
    if manifest := target.finished(make_digest(config), config, overwrite=overwrite):
        return _report(target, manifest, target.rejections(), 0, started, started)
    limit = _Limit.parse(max_rejected)
    versions = _versions()
    with _in_one_line(target.root), target.writing(config, versions, overwrite=overwrite):
        with _cluster(workers, ray_address) as slots:
            run = _Run(pickle.dumps(builder), timeout, slots, progress, limit)
            planned = target.load_plan()
            if planned is None:
                probed, rejections = _probe(run, sources)
                rows = make_plan(probed, seed=seed, val=val, shard_bytes=shard_size, shard_samples=shard_samples)
                target.save_plan(rows, rejections)
            else:
                rows, rejections = planned
                limit.count(rejections, len(sources))
            building = time.monotonic()
            classes = sorted({row.label for row in rows}) if labels != "none" else []
            parts = _parts(builder, with_class=bool(classes))
            records, built = _build(run, target, rows, sorted(parts), classes)
        rejections = sorted([*rejections, *(rejection for record in records for rejection in record.rejections)])
        if not any(record.shard for record in records):
            target.discard()
            raise Problem(f"nothing built, every input was rejected: {in_one_line(reasons(rejections))}")
        manifest = _manifest(target.root.name, builder, parts, classes, records, len(rejections), config, versions)
        target.finish(manifest, rows, rejections)
    return _report(target, manifest, rejections, built, started, building)


@contextmanager
def _in_one_line(root: Path) -> Iterator[None]:
    """Turn what can stop a build into a Problem that says how to go on."""
    again = f"the same command goes on with what is in {root}"
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {again}") from None
    except RayTaskError as error:
        if not isinstance(error.cause, OSError | Problem):
            raise  # a mistake of ours: its traceback is wanted
        raise Problem(f"{error.cause}; once this is put right, {again}") from None
    except RayError as error:
        raise Problem(f"Ray: {' '.join(str(error).split())}; {again}") from None
    except OSError as error:
        raise Problem(f"{error}; once this is put right, {again}") from None


@dataclass(slots=True)
class _Limit:
    """How much may be rejected, and what has been. A share is taken of the inputs, then of the planned samples."""

    text: str
    share: float
    number: float
    seen: list[Rejection] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str | None) -> "_Limit":
        if text is None:
            return cls("", math.inf, math.inf)
        if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)%|(\d+)", text)):
            raise Misuse(f"--max-rejected {text!r}: give a number (20) or a share (5%)")
        return cls(text, float(match[1]) / 100, math.inf) if match[1] else cls(text, math.inf, int(match[2]))

    def count(self, rejections: Sequence[Rejection], total: int) -> None:
        """Raise Problem when this makes too many."""
        self.seen += rejections
        if rejections and len(self.seen) > min(self.number, self.share * total):
            found = f"{len(self.seen):,} rejected of {total:,}, more than --max-rejected {self.text}"
            raise Problem(f"stopped: {found}: {in_one_line(reasons(self.seen))}")


@dataclass(frozen=True, slots=True)
class _Run:
    """What every task of a build needs."""

    modality: bytes
    timeout: float
    slots: int
    progress: bool
    limit: _Limit

    def bar(self, what: str, unit: str, total: int, done: int = 0) -> "tqdm[Any]":
        shown = None if self.progress else True  # None: only on a terminal
        return tqdm(desc=what, unit=unit, total=total, initial=done, disable=shown, dynamic_ncols=True, smoothing=0.05)


def _probe(run: _Run, sources: Sequence[Source]) -> tuple[list[tuple[Source, list[Piece]]], list[Rejection]]:
    """Return the pieces of the sources that can be built, and the rejections of the others."""
    size = max(1, min(PROBE_INPUTS, len(sources) // (run.slots * CHUNKS_A_WORKER)))
    batches = iter(range(0, len(sources), size))
    running: dict[ray.ObjectRef, int] = {}
    answers: list[list[Piece] | Reject] = [[] for _ in sources]
    with run.bar("probe", " inputs", len(sources)) as bar, _cancelled_on_failure(running):
        while True:
            while len(running) < run.slots and (start := next(batches, None)) is not None:
                paths = [source.path for source in sources[start : start + size]]
                running[probe_inputs.remote(run.modality, run.timeout, paths)] = start
            if not running:
                break
            (ready,), _ = ray.wait(list(running))
            start, batch = running.pop(ready), ray.get(ready)
            answers[start : start + size] = batch
            run.limit.count(_rejections(sources[start : start + size], batch), len(sources))
            bar.update(len(batch))
    probed = [
        (source, answer) for source, answer in zip(sources, answers, strict=True) if not isinstance(answer, Reject)
    ]
    return probed, _rejections(sources, answers)


def _rejections(sources: Sequence[Source], answers: Sequence[list[Piece] | Reject]) -> list[Rejection]:
    found = zip(sources, answers, strict=True)
    return [Rejection.of(source, "probe", answer) for source, answer in found if isinstance(answer, Reject)]


def _build(
    run: _Run, target: Output, rows: Sequence[Row], parts: Sequence[str], classes: Sequence[str]
) -> tuple[list[Record], int]:
    """Build the shards that are not committed yet; return the records of all, in plan order, and the samples built."""
    shards = {name: list(own) for name, own in groupby(rows, key=lambda row: row.shard)}
    records = target.load_records(list(shards))
    for record in records.values():
        run.limit.count(record.rejections, len(rows))
    missing = {name: own for name, own in shards.items() if name not in records}
    size = min(CHUNK_BYTES, sum(row.bytes for row in rows) // (run.slots * CHUNKS_A_WORKER))
    chunks = {name: list(_chunks(own, size)) for name, own in missing.items()}
    todo = iter([(name, number) for name, own in chunks.items() for number in range(len(own))])
    payloads: dict[str, dict[int, ray.ObjectRef]] = {name: {} for name in missing}
    turned_away: dict[str, list[Rejection]] = {name: [] for name in missing}
    running: dict[ray.ObjectRef, tuple[str, int]] = {}  # -1 for a writer
    built = 0
    done = sum(len(own) for name, own in shards.items() if name in records)
    with run.bar("build", " samples", len(rows), done) as bar, _cancelled_on_failure(running):
        while True:
            while len(running) < run.slots and (chunk := next(todo, None)):
                name, number = chunk
                payload, answer = build_chunk.remote(run.modality, run.timeout, chunks[name][number])
                payloads[name][number] = payload
                running[answer] = chunk
            if not running:
                break
            (ready,), _ = ray.wait(list(running))
            (name, number), result = running.pop(ready), ray.get(ready)
            if number < 0:
                records[name] = result
                continue
            chunk_rows, chunks[name][number] = chunks[name][number], []
            built += len(chunk_rows) - len(result)
            bar.update(len(chunk_rows))
            run.limit.count(result, len(rows))
            turned_away[name] += result
            if not any(chunks[name]):
                ordered = [payloads[name][n] for n in range(len(chunks[name]))]
                del payloads[name]
                writer = write_shard.remote(
                    str(target.root), name, parts, classes, ordered, sorted(turned_away.pop(name))
                )
                running[writer] = (name, -1)
    return [records[name] for name in shards], built


def _chunks(rows: Sequence[Row], size: int) -> Iterator[list[Row]]:
    """Yield runs of rows of at most `size` estimated bytes, or of one larger input, which CHUNK_BYTES alone cuts."""
    chunk: list[Row] = []
    filled = 0
    for _, group in groupby(rows, key=lambda row: row.source):
        own = list(group)
        whole = sum(row.bytes for row in own)
        if chunk and filled + whole > size:
            yield chunk
            chunk, filled = [], 0
        for row in own:
            if chunk and filled + row.bytes > CHUNK_BYTES:
                yield chunk
                chunk, filled = [], 0
            chunk.append(row)
            filled += row.bytes
    if chunk:
        yield chunk


@contextmanager
def _cancelled_on_failure(running: Mapping[ray.ObjectRef, Any]) -> Iterator[None]:
    """End the tasks on their way when the build is stopped: a cluster that is not ours would go on with them."""
    try:
        yield
    finally:
        for ref in running:
            ray.cancel(ref, force=True)


@contextmanager
def _cluster(workers: int | None, address: str | None) -> Iterator[int]:
    """Yield how many tasks may be on their way: 2 a CPU of our own cluster, the workers told of a running one."""
    if ray.is_initialized():
        yield workers or int(ray.cluster_resources().get("CPU", 1))
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            _check_reachable(address)
            ray.init(address=address, **quiet)
        else:
            cpus = workers or len(os.sched_getaffinity(0))
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"--ray-address {address}" if address else "a local cluster"
        raise Problem(f"Ray: {where} cannot be used: {' '.join(str(error).split())}") from None
    try:
        yield (workers if address else None) or 2 * int(ray.cluster_resources().get("CPU", 1))
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise ConnectionError where nobody answers: Ray itself would try for two minutes."""
    if match := re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address):
        try:
            socket.create_connection((match[1], int(match[2])), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise ConnectionError(f"nobody answers there ({error})") from None


def _parse_options(kind: type[Modality], options: Mapping[str, Any]) -> Any:
    fields = kind.Options.model_fields
    if unknown := [name for name in options if name not in fields]:
        raise Misuse(
            f"unknown option {unknown[0]!r} of {kind.name}{nearest(unknown[0], fields)}; known: {', '.join(fields)}"
        )
    try:
        return kind.Options(**options)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + ".".join(map(str, first["loc"])).replace("_", "-")
        raise Misuse(f"{flag} {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


def _check_apart(inputs: Sequence[str | os.PathLike[str]], output: Path) -> None:
    for item in inputs:
        path = Path(item).absolute()
        if path.is_dir() and (output == path or path in output.parents):
            raise Misuse(f"--output {output}: lies inside --input {item}; give a folder outside")


def _parts(builder: Modality, *, with_class: bool) -> dict[str, Part]:
    """Return every part of a sample."""
    parts = dict(builder.parts)
    for name, layer in builder.layers.items():
        parts[f"{name}.npy"] = Part(
            description=f"layer {name}",
            dtype=layer.dtype,
            shape="C,L" if layer.kind == "vector" else "L",
            unit=layer.unit,
        )
    if with_class:
        parts["cls"] = Part(description="class, as a decimal integer: an index into the manifest's classes")
    return parts


def _manifest(
    name: str,
    builder: Modality,
    parts: dict[str, Part],
    classes: list[str],
    records: Sequence[Record],
    rejected: int,
    config: dict[str, Any],
    versions: dict[str, str],
) -> Manifest:
    shards = [record.shard for record in records if record.shard]
    summaries = [record.summary for record in records if record.summary is not None]
    counts = {split: sum(shard.samples for shard in shards if shard.split == split) for split in SPLITS}
    return Manifest(
        name=name,
        modality=builder.name,
        parts=parts,
        layers=builder.layers,
        classes=classes,
        splits={split: count for split, count in counts.items() if count},
        statistics=builder.statistics(reduce(merge, summaries)) if summaries else {},
        rejected=rejected,
        gaps=[record.name for record in records if not record.shard],
        build=make_build(config, versions),
        shards=shards,
    )


def _versions() -> dict[str, str]:
    """Return the versions of ourselves and of all that the extra `build` names."""
    wanted = [re.match(r"[\w.-]+", line) for line in metadata.requires("mmmask") or [] if 'extra == "build"' in line]
    versions = {"mmmask": metadata.version("mmmask")}
    for match in wanted:
        try:
            versions[match[0]] = metadata.version(match[0])  # type: ignore[index]
        except metadata.PackageNotFoundError:  # not on this platform
            continue
    return versions


def _report(
    target: Output, manifest: Manifest, rejections: Sequence[Rejection], built: int, started: float, building: float
) -> Report:
    now = time.monotonic()
    return Report(
        output=str(target.root),
        samples=manifest.splits,
        shards=len(manifest.shards),
        bytes=sum(shard.bytes for shard in manifest.shards),
        rejected=reasons(rejections),
        built=built,
        seconds=now - started,
        build_seconds=now - building,
    )
