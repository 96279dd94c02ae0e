"""How fast the builders are: `python -m benchmarks.build --data FOLDER [--peers FOLDER]`.

Every case takes turns, round after round on the same files: the bare library calls in this process, the whole command
shard-build with one worker, the bare calls again, the same with what they make written to a tar file by webdataset, as
a short script would, the command without mask layers and with two workers, and the peer. Each works on as many cores as
it has workers (bare calls and peers: one), and that goes for all of a build's processes, Ray's own among them. Ratios
are medians over the rounds, each taken inside one round. The files are warm in the page cache. Ray's start-up, listing
and probing are counted apart, as is the peers' start-up.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from webdataset import TarWriter

from benchmarks import peers
from benchmarks.bare import Bare
from benchmarks.cases import Case, cases, fastest, repeat
from pipelines.modality import get_modality
from shard_tools.arguments import Parser, run
from shard_tools.errors import Problem

EXAMPLES = """examples:
  python -m benchmarks.build --data files/
  python -m benchmarks.build --data files/ --peers .cache/peers --only image 'video, every frame' --rounds 3"""
SHARD_SIZE = "64MB"  # so that a short run has several, as a long one has
COLUMNS = (
    "files", "unit", "a second", "MB/s", "bare calls", "of bare", "of script", "layers", "1 → 2", "memory", "start-up",
    "peer",
)  # fmt: skip


@dataclass(slots=True)
class Result:
    """What came of a case; a number a round. seconds: without start-up. units, bytes: of all files, read."""

    name: str
    unit: str
    bare_name: str
    files: int
    bytes: int
    samples: int = 0
    units: int = 0
    bare: list[float] = field(default_factory=list)
    script: list[float] = field(default_factory=list)
    one: list[float] = field(default_factory=list)
    without_layers: list[float] = field(default_factory=list)
    two: list[float] = field(default_factory=list)
    start_up: list[float] = field(default_factory=list)
    memory: int = 0
    peer_name: str = ""
    peer: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return all that was measured and what follows from it."""
        one = statistics.median(self.one)
        return {
            **asdict(self),
            "units_a_second": self.units / one,
            "samples_a_second": self.samples / one,
            "bytes_a_second": self.bytes / one,
            "bare_units_a_second": self.units / statistics.median(self.bare),
            "of_bare": _ratio(self.bare, self.one),
            "of_script": _ratio(self.script, self.one),
            "layers": _ratio(self.one, self.without_layers) - 1 if self.without_layers else None,
            "scaling": _ratio(self.one, self.two) if self.two else None,
            "peer_units_a_second": self.units / statistics.median(self.peer) if self.peer else None,
            "times_peer": _ratio(self.peer, self.one) if self.peer else None,
        }

    def row(self) -> str:
        """Return the line of the table."""
        found = self.summary()
        layers = f"{found['layers']:+.0%}" if self.without_layers else "–"
        scaling = f"{found['scaling']:.2f}" if self.two else "–"
        peer = (
            f"{self.peer_name} {found['peer_units_a_second']:,.0f} ({found['times_peer']:.1f}×)" if self.peer else "–"
        )
        cells = [
            self.name,
            self.unit,
            f"{found['units_a_second']:,.0f}",
            f"{found['bytes_a_second'] / 1e6:,.1f}",
            f"{self.bare_name} {found['bare_units_a_second']:,.0f}",
            f"{found['of_bare']:.2f}",
            f"{found['of_script']:.2f}",
            layers,
            scaling,
            f"{self.memory / 1e6:,.0f} MB",
            f"{statistics.median(self.start_up):.1f} s",
            peer,
        ]
        return f"| {' | '.join(cells)} |"


def main(argv: list[str]) -> None:
    arguments = _parser().parse_args(argv)
    python = peers.environment(arguments.peers.absolute()) if arguments.peers else None
    with tempfile.TemporaryDirectory(prefix="mmmask-benchmark-") as scratch:
        folder = Path(scratch)
        results = []
        for number, case in enumerate(cases(arguments.data, folder)):
            if not arguments.only or {case.modality, case.name} & set(arguments.only):
                results.append(measure(case, folder / str(number), arguments, python))
                print(results[-1].row(), file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps([result.summary() for result in results], indent=1))
    else:
        head = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        print("\n".join([*head, *(result.row() for result in results)]))


def measure(case: Case, folder: Path, arguments: Namespace, python: Path | None) -> Result:
    """Measure a case, the peer too where its Python is given."""
    name, bare, files = fastest(case)
    files = repeat(files, folder / "files", bare, arguments.seconds)
    result = Result(case.name, case.unit, name, len(files), sum(path.stat().st_size for path in files))
    for _ in range(arguments.rounds):
        result.units, before = _bare(bare, files)
        report = _build(case, folder, 1, arguments.pin)
        after = _bare(bare, files)[1]
        result.bare.append((before + after) / 2)  # a host whose speed drifts weighs on both sides
        result.script.append(_bare(bare, files, folder / "script.tar")[1])
        result.samples = sum(report["samples"].values())
        result.one.append(report["build_seconds"])
        result.start_up.append(report["seconds"] - report["build_seconds"])
        result.memory = max(result.memory, report["peak_memory"])
        if get_modality(case.modality).layers:
            result.without_layers.append(_build(case, folder, 1, arguments.pin, "--layers", "")["build_seconds"])
        if len(os.sched_getaffinity(0)) > 1 and not case.by_url:  # the web server takes one
            result.two.append(_build(case, folder, 2, arguments.pin)["build_seconds"])
        if python and case.peer:
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                result.peer_name = case.peer.name
                result.peer.append(case.peer.seconds(python, files, Path(scratch)))
    shutil.rmtree(folder)
    return result


def _bare(bare: Bare, files: list[Path], tar: Path | None = None) -> tuple[int, float]:
    """Return (units, seconds) of bare calls over the files, on one core. tar: the file to write what they make to."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    started = time.perf_counter()
    units, keys = 0, count()
    with TarWriter(str(tar)) if tar else nullcontext() as writer:
        for path in files:
            for own, parts in bare(path):
                units += own
                if writer:
                    writer.write({"__key__": f"{next(keys):09d}", **parts, "json": {"source": path.name}})
    elapsed = time.perf_counter() - started
    os.sched_setaffinity(0, cores)
    return units, elapsed


def _build(case: Case, folder: Path, workers: int, pin: bool, *more: str) -> dict[str, Any]:
    """Return the report of the whole command, on as many cores as workers if pinned."""
    output = folder / "output"
    shutil.rmtree(output, ignore_errors=True)
    cores = set(sorted(os.sched_getaffinity(0), reverse=True)[: workers if pin else None])
    with _listed(folder / "files") if case.by_url else nullcontext(folder / "files") as files:
        flags = ["--modality", case.modality, "--input", files, "--output", output, "--workers", workers]
        flags += ["--shard-size", SHARD_SIZE]
        done = subprocess.run(
            list(map(str, [sys.executable, "-m", "pipelines.cli", *flags, *case.flags, *more, "--json"])),
            capture_output=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
            check=False,
        )
    if done.returncode:
        raise Problem(f"{case.name}: {done.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    if report["rejected"]:
        raise Problem(f"{case.name}: the builder rejects what bare calls read: {report['rejected']}")
    return report


@contextmanager
def _listed(folder: Path) -> Iterator[Path]:
    """Serve the files of a folder, as the peers have them; yield a list of their URLs."""
    with peers.served(folder) as address:
        urls = folder.with_suffix(".csv")
        urls.write_text("\n".join(["url", *(f"{address}/{path.name}" for path in sorted(folder.iterdir()))]))
        yield urls


def _ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.build", description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    data = os.environ.get("MMMASK_REAL_DATA")
    add(
        "--data",
        type=Path,
        required=data is None,
        default=data and Path(data),
        metavar="FOLDER",
        help="real files in image/ video/ lidar/ audio/ table/ (or MMMASK_REAL_DATA)",
    )
    add("--only", nargs="+", metavar="NAME", help="measure these modalities, or lines of the table, alone")
    add("--peers", type=Path, metavar="FOLDER", help="the peers' environment; made there if it is missing")
    add("--seconds", type=float, default=12.0, help="of bare calls a round: sets how often files are repeated (12)")
    add("--rounds", type=int, default=2, help="(2)")
    add(
        "--pin",
        action=BooleanOptionalAction,
        default=True,
        help="all processes of a build on as many cores as it has workers; otherwise on all cores (--pin)",
    )
    add("--json", action="store_true", help="print all figures as JSON")
    return parser


if __name__ == "__main__":
    run("benchmarks.build", main)
