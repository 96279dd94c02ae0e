"""Build a data set: list, probe, plan, build, commit.

The plan is a pure function of the inputs and the config, and a shard one of its rows of the plan, so the number of
workers, retries and restarts leave no trace in the bytes.

    driver   lists the inputs, plans, keeps a bounded number of chunks on their way; sees rejects and records only
    workers  probe inputs and build chunks, each through a process of its own that an input may kill (`isolation`)
    writers  one task a shard: assembles its chunks in the order of the plan and commits it (`worker.write_shard`)
"""

import os
import pickle
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from itertools import chain
from typing import Any

import duckdb
import pyarrow as pa
from pydantic import ValidationError
from ray.exceptions import RayError, RayTaskError

from shard_tools.arguments import nearest
from shard_tools.errors import Misuse, Problem
from shard_tools.schema import SPLITS, Build, Manifest, Part, Shard

from .apart import check_apart
from .building import build_shards
from .cluster import cluster
from .decoder import Job
from .inputs.sorted import Inputs
from .inputs.sources import Labels, Listing, open_listing
from .modality import Modality, get_modality
from .onto import Base, Match
from .output import Output, make_build, make_digest
from .plan import Plan
from .planning import FromInputs, OntoInputs, Overlay, Planner
from .rejects import Tally
from .report import Report
from .run import Limit, Run, bar
from .samples import Layout
from .scratch import scratch_folder
from .statistics import Summary, merged

STALL = 30.0  # seconds
SHARD_SAMPLES = 10_000
LEAST_MEMORY = 256 * 10**6
GROUP_SAMPLES = 1_000  # where a group is a key: bytes cannot cut shards then, since data sets of other parts must match
ENGINE_FACTS = ("source", "label", "group", "start", "end")  # what every json says


class Interrupted(Problem):
    """The user stopped the build."""

    exit_code = 130


def build(
    *,
    modality: str | type[Modality],
    output: str | os.PathLike[str],
    inputs: Sequence[str | os.PathLike[str]] = (),
    options: Mapping[str, Any] | None = None,
    labels: Labels = "none",
    columns: Mapping[str, str] | None = None,
    group: str | None = None,
    layers: Sequence[str] | None = None,
    onto: str | os.PathLike[str] | None = None,
    companions: Sequence[str] = (),
    val: float = 0.1,
    seed: int = 0,
    shard_size: int = 256_000_000,
    shard_samples: int | None = None,
    timeout: float = 300.0,
    memory: int = 2 << 30,
    rate: float | None = None,
    retries: int = 3,
    max_rejected: str | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> Report:
    """Build a data set from raw files and return what came of it. The arguments are those of `shard-build`.

    modality: its name, or a class of one that is not installed. inputs: folders, files, globs, URLs, lists, tars.
    output: folder or URL. options: the modality's own. labels: 'parent' takes them from the folders. columns: our name
    of a column of a list → theirs. group: regular expression over the names of the inputs; those of one group are of
    one instant, so keys and shards follow the group and zip with other data sets of the same groups. layers: names of
    those to build. onto: a data set whose keys and shards this one takes; without inputs its samples are the inputs.
    companions: modalities to build from the same inputs onto this data set, as OUTPUT-MODALITY (--with). val: share of
    the groups for the split val. shard_size, shard_samples: bytes and samples of a shard at most (10,000 samples; 1,000
    with group, where bytes do not count). timeout, memory: seconds and bytes an input may take for a sample. rate,
    retries: requests a second, of all workers, and repetitions of one that fails, for inputs behind URLs. max_rejected:
    'N' or 'P%' of the inputs, beyond which the build stops. workers: processes that decode; as many as there are CPUs
    unless told. ray_address: of a running cluster.

    A build that was stopped goes on when called again with the same arguments. Raises Misuse for arguments that make no
    sense, and Problem when nothing could be built or too much was rejected.
    """
    shared: dict[str, Any] = {
        "inputs": inputs, "labels": labels, "columns": columns, "val": val, "seed": seed, "timeout": timeout,
        "memory": memory, "rate": rate, "retries": retries, "max_rejected": max_rejected, "workers": workers,
        "ray_address": ray_address, "overwrite": overwrite, "progress": progress,
    }  # fmt: skip
    if memory < LEAST_MEMORY:
        raise Misuse(f"--memory {memory:,}: give {LEAST_MEMORY:,} bytes at least: decoders alone take about that")
    started = time.monotonic()
    kind = get_modality(modality) if isinstance(modality, str) else modality
    builder = kind(_parse_options(kind, options or {}), seed=seed, val_share=val, layers=layers)
    limit = Limit.parse(max_rejected)
    with _in_one_line(os.fspath(output), overwrite), scratch_folder() as scratch:
        base = Base(onto) if onto else None
        _check(builder, inputs, base, companions)
        target = Output(output)
        listing: Listing | None = None
        listed: Inputs | None = None
        alone: FromInputs | None = None
        if inputs:
            listing = _open_listing(kind, inputs, labels, group, columns or {})
        check_apart(inputs, base, listing, target.root)
        if listing:
            listed = Inputs.sort(bar("list", " inputs", progress, stream=listing), scratch)
            samples = shard_samples or (GROUP_SAMPLES if group else SHARD_SAMPLES)
            alone = FromInputs(listed, bool(group), seed, float(val), int(shard_size), samples)
        planner = _planner(builder, alone, base, "group" if group else "source")
        config: dict[str, Any] = {
            "modality": kind.name,
            "options": builder.options.model_dump(mode="json"),
            "layers": sorted(builder.layers),
            "labels": labels,
            "group": group or "",
            "val": float(val),  # 0 and 0.0 are the same
            "seed": int(seed),
            **planner.config,
        }
        if manifest := target.finished(make_digest(config), config, overwrite=overwrite):
            tally = Tally()
            tally.add(target.rejections(scratch))
            report = _report(target, manifest, tally, started)
        else:
            versions = _versions()
            with (
                target.writing(config, versions, listed, scratch, overwrite=overwrite) as check,
                cluster(workers, ray_address, scratch) as room,
            ):
                job = Job(
                    modality=pickle.dumps(builder),
                    timeout=timeout,
                    stall=min(STALL, timeout / 2),
                    memory=memory,
                    rate=rate / room.workers if rate else None,
                    retries=retries,
                    keep=planner.keeps,
                    onto=planner.onto,
                    scratch=scratch.name,
                )
                run = Run(job, room.slots, progress, limit, check)
                if plan := target.load_plan(scratch):
                    limit.count(planner.rejections(target, scratch), plan.samples)
                else:
                    plan = planner.make(run, target, scratch)
                parts = _parts(builder, plan, overlay=bool(job.onto), captions=listing is not None and listing.captions)
                carried = listing.columns if listing else {}
                classes = {label: number for number, label in enumerate(plan.labels)} if "cls" in parts else {}
                layout = Layout(sorted(parts), carried, classes, kind.facts)
                begun = time.monotonic()
                build_shards(run, target, plan, layout)
                manifest = _manifest(target, builder, plan, parts, layout, make_build(config, versions))
                early = planner.rejections(target, scratch)
                late = chain.from_iterable(target.record(name).rejections for name in plan.shards)
                if not manifest.shards:
                    target.discard(chain(early, late), scratch)
                    raise Problem(
                        f"nothing built, every input was rejected: {limit.tally}; see {target.root}/rejected.parquet"
                    )
                check()
                target.finish(manifest, plan, chain(early, late), scratch)
                seconds = time.monotonic() - begun  # before Ray goes, which takes a second
            report = _report(target, manifest, limit.tally, started, seconds, run)
    for name in companions:
        companion = build(modality=name, output=f"{target.root}-{name}", onto=target.root, **shared)
        report = replace(report, companions=[*report.companions, companion])
    return report


@contextmanager
def _in_one_line(root: str, overwrite: bool) -> Iterator[None]:
    """Turn what can stop a build into a Problem that says how to go on."""
    again = f"the same command{', without --overwrite,' if overwrite else ''} goes on with what is in {root}"
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {again}") from None
    except RayTaskError as error:
        if not isinstance(error.cause, OSError | Problem | RayError):
            raise  # a mistake of ours: its traceback is wanted
        raise Problem(f"{error.cause}; once this is put right, {again}") from None
    except RayError as error:
        raise Problem(f"Ray: {' '.join(str(error).split())}; {again}") from None
    except OSError as error:
        raise Problem(f"{error}; once this is put right, {again}") from None
    except (duckdb.Error, pa.ArrowException) as error:  # a file of the build is damaged, or there is no room to sort
        raise Problem(f"{' '.join(str(error).split())}; {again}, or --overwrite starts anew") from None


def _open_listing(
    kind: type[Modality],
    inputs: Sequence[str | os.PathLike[str]],
    labels: Labels,
    group: str | None,
    columns: Mapping[str, str],
) -> Listing:
    taken = (*ENGINE_FACTS, *kind.facts)
    return open_listing(
        inputs, labels=labels, group=group, column_names=columns, suffixes=kind.suffixes, reserved=taken
    )


def _planner(builder: Modality, alone: FromInputs | None, base: Base | None, match: Match) -> Planner:
    if base and alone:
        return OntoInputs(alone, base, match)
    if base:
        return Overlay(base, builder)
    assert alone, "by _check"
    return alone


def _check(
    builder: Modality, inputs: Sequence[str | os.PathLike[str]], base: Base | None, companions: Sequence[str]
) -> None:
    """Raise Misuse for arguments that make no sense together."""
    for name in companions:
        get_modality(name)
    if inputs or not base:
        if not inputs:
            raise Misuse("no inputs: give --input, or --onto with --layers for an overlay")
        return
    if base.manifest.modality != builder.name:
        raise Misuse(f"--onto {base.root}: a data set of {base.manifest.modality}, not of {builder.name}")
    if not builder.layers:
        raise Misuse(f"--onto {base.root}: an overlay needs --layers, of those that {builder.name} has")
    if doubled := sorted(set(builder.layers) & set(base.manifest.layers)):
        raise Misuse(f"--onto {base.root}: it has the layer {doubled[0]} already; name others with --layers")


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


def _parts(builder: Modality, plan: Plan, *, overlay: bool, captions: bool) -> dict[str, Part]:
    """Return every part of a sample."""
    parts = {} if overlay else dict(builder.parts)
    for name, layer in builder.layers.items():
        parts[f"{name}.npy"] = Part(
            description=f"layer {name}",
            dtype=layer.dtype,
            shape="C,L" if layer.kind == "vector" else "L",
            unit=layer.unit,
        )
    if any(plan.labels) and not overlay:
        parts["cls"] = Part(description="class, as a decimal integer: an index into the manifest's classes")
    if captions and not overlay:
        parts["txt"] = Part(description="caption")
    return parts


def _manifest(
    target: Output, builder: Modality, plan: Plan, parts: dict[str, Part], layout: Layout, made: Build
) -> Manifest:
    """Return the manifest of the committed shards, in the order of the plan."""
    shards: list[Shard] = []
    gaps: list[str] = []
    summary: Summary | None = None
    for record in map(target.record, plan.shards):
        if record.shard:
            shards.append(record.shard)
        else:
            gaps.append(record.name)
        summary = merged([summary, record.summary])
    counts = {split: sum(shard.samples for shard in shards if shard.split == split) for split in SPLITS}
    return Manifest(
        name=target.name,
        modality=builder.name,
        parts=parts,
        layers=builder.layers,
        classes=list(layout.classes),
        columns=layout.columns,
        splits={split: count for split, count in counts.items() if count},
        statistics={} if summary is None else builder.statistics(summary),
        gaps=gaps,
        build=made,
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
    target: Output,
    manifest: Manifest,
    tally: Tally,
    started: float,
    build_seconds: float = 0.0,
    run: Run | None = None,
) -> Report:
    return Report(
        output=target.root,
        samples=manifest.splits,
        shards=len(manifest.shards),
        bytes=sum(shard.bytes for shard in manifest.shards),
        rejected=tally.reasons(),
        built=run.built if run else 0,
        seconds=time.monotonic() - started,
        build_seconds=build_seconds,
        peak_memory=run.memory if run else 0,
    )
