"""Kill builds at random moments and see that nothing is lost, doubled or changed.

    python tests/faults.py --kills 50

Each fault strikes a real `shard-build` at a moment drawn by chance. Then the same command runs again, perhaps into the
next fault, until the data set stands; it must pass `shard-tools verify` and equal an undisturbed build to the byte.

    driver   kill -9 of the command            head   kill -9 of Ray's head, on a cluster
    worker   kill -9 of a decoding process     node   a node of the cluster is taken away, another joins
             or of a Ray worker                disk   the output's disk is full, then has room (if we may mount)
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

MODALITIES = ("image", "video", "lidar", "audio", "table")
KINDS = ("driver", "worker", "node", "head", "disk")
SHARD_SAMPLES = "4"  # small shards, so that there is much to commit


def shard_build(modality: str, inputs: Path, output: Path, *flags: str) -> "subprocess.Popen[str]":
    """Start the command."""
    command = [sys.executable, "-m", "pipelines.cli", "--modality", modality, "--input", inputs, "--output", output]
    return subprocess.Popen(
        [*map(str, command), "--workers", "2", "--shard-samples", SHARD_SAMPLES, "--json", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(build: "subprocess.Popen[str]") -> None:
    """Wait for a build that must succeed, and must print its report and nothing else."""
    report, said = build.communicate(timeout=600)
    assert build.returncode == 0, f"exit code {build.returncode}: {said[-2000:]}"
    assert json.loads(report)["output"]


def check(output: Path, reference: Path) -> None:
    """Raise AssertionError unless a data set is whole and equals another."""
    for flags in ([], ["--against", reference]):
        command = [sys.executable, "-m", "shard_tools.cli", "verify", output, *flags]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@dataclass
class Trial:
    """Builds of one modality that are struck by faults. seconds: that an undisturbed build takes."""

    modality: str
    inputs: Path
    folder: Path
    rng: random.Random
    seconds: float = 0.0
    struck: Counter[str] = field(default_factory=Counter)

    @property
    def reference(self) -> Path:
        return self.folder / "reference" / self.modality

    @property
    def output(self) -> Path:
        return self.folder / "struck" / self.modality

    def undisturbed(self) -> None:
        """Build what the others must equal."""
        started = time.monotonic()
        finish(shard_build(self.modality, self.inputs, self.reference))
        self.seconds = time.monotonic() - started
        check(self.reference, self.reference)

    def strike(self, kind: str) -> None:
        """Let a fault of a kind strike a build; where that finishes nevertheless, check it and start anew."""
        FAULTS[kind](self)
        self.struck[kind] += 1
        if (self.output / "manifest.json").exists():
            check(self.output, self.reference)
            shutil.rmtree(self.output)

    def end(self) -> None:
        """Build to the end what the last fault left."""
        finish(shard_build(self.modality, self.inputs, self.output))
        check(self.output, self.reference)
        shutil.rmtree(self.output)

    def wait(self, build: "subprocess.Popen[str]") -> None:
        """Let a build run to a moment drawn by chance."""
        moment = time.monotonic() + self.rng.uniform(0, 1.1 * self.seconds)
        while time.monotonic() < moment and build.poll() is None:
            time.sleep(0.01)


def kill_driver(trial: Trial) -> None:
    """Kill the command."""
    build = shard_build(trial.modality, trial.inputs, trial.output)
    trial.wait(build)
    build.kill()
    build.communicate()


def kill_worker(trial: Trial) -> None:
    """Kill one process that decodes, or its Ray worker. The build goes on by itself."""
    build = shard_build(trial.modality, trial.inputs, trial.output)
    trial.wait(build)
    with_suspects = [process for process in _children(build.pid) if _is_worker(process)]
    if with_suspects:
        trial.rng.choice(with_suspects).send_signal(signal.SIGKILL)
    finish(build)


def remove_node(trial: Trial) -> None:
    """Take a node away from the cluster that builds."""
    with cluster() as nodes:
        build = shard_build(trial.modality, trial.inputs, trial.output, "--ray-address", nodes.address)
        trial.wait(build)
        nodes.remove_node(trial.rng.choice(list(nodes.worker_nodes)))
        nodes.add_node(num_cpus=1)
        finish(build)


def kill_head(trial: Trial) -> None:
    """Kill the head of the cluster that builds: the command fails and says so."""
    with cluster() as nodes:
        build = shard_build(trial.modality, trial.inputs, trial.output, "--ray-address", nodes.address)
        trial.wait(build)
        nodes.head_node.kill_gcs_server(check_alive=False)
        nodes.head_node.kill_raylet(check_alive=False)
        try:
            build.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            build.kill()
            build.communicate()


def fill_disk(trial: Trial) -> None:
    """Build on a disk that gets full, then has room."""
    shutil.rmtree(trial.output, ignore_errors=True)
    size = sum(file.stat().st_size for file in trial.reference.rglob("*") if file.is_file())
    room = max(64 << 10, int(size * trial.rng.uniform(0.05, 1.0)))
    with small_disk(trial.folder / "disk", room) as disk:
        build = shard_build(trial.modality, trial.inputs, disk / trial.modality)
        _, said = build.communicate(timeout=600)
        if build.returncode:
            assert "No space left" in said and "Traceback" not in said, said
        subprocess.run(["mount", "-o", f"remount,size={4 * size + (64 << 20)}", disk], check=True)
        finish(shard_build(trial.modality, trial.inputs, disk / trial.modality))
        check(disk / trial.modality, trial.reference)


FAULTS: dict[str, Callable[[Trial], None]] = {
    "driver": kill_driver,
    "worker": kill_worker,
    "node": remove_node,
    "head": kill_head,
    "disk": fill_disk,
}


@contextmanager
def cluster() -> Iterator[Any]:
    """Give a Ray cluster of a head without CPUs and two nodes of one."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()
        yield nodes
    finally:
        nodes.shutdown()


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Give a disk of a few bytes. Raises CalledProcessError without the right to mount one."""
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True, stderr=subprocess.DEVNULL
        )
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
    finally:
        folder.rmdir()


def can_mount(folder: Path) -> bool:
    """Return whether `fill_disk` can be had here."""
    try:
        with small_disk(folder / "probe", 1 << 20):
            return True
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _is_worker(process: psutil.Process) -> bool:
    try:
        words = " ".join(process.cmdline())
    except psutil.Error:
        return False
    is_ray = words.startswith("ray::") and "Agent" not in words  # without its agents, the whole node gives up
    return is_ray or "pipelines.decoder" in words


def run(samples: Path, folder: Path, kills: int, modalities: list[str], kinds: list[str], seed: int) -> Counter[str]:
    """Strike `kills` times, dealt to modalities and kinds; return how often each kind did. Raises AssertionError."""
    rng = random.Random(seed)
    struck: Counter[str] = Counter()
    with tqdm(total=kills, unit=" faults") as bar:
        for number, modality in enumerate(modalities):
            trial = Trial(modality, samples / modality, folder, rng)
            trial.undisturbed()
            own = range(number, kills, len(modalities))
            for turn, _ in enumerate(own):
                trial.strike(kinds[(turn + number) % len(kinds)])
                bar.update()
            trial.end()
            struck += trial.struck
    return struck


def main() -> None:
    """Run the faults that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--modality", nargs="+", choices=MODALITIES, default=list(MODALITIES))
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        make_samples(folder / "samples", arguments.modality)
        kinds = arguments.kind
        if "disk" in kinds and not can_mount(folder):
            print("disk: left out, no right to mount a small one", file=sys.stderr)
            kinds = [kind for kind in kinds if kind != "disk"]
        struck = run(folder / "samples", folder, arguments.kills, arguments.modality, kinds, arguments.seed)
    told = ", ".join(f"{kind} {count}" for kind, count in struck.items())
    print(f"{struck.total()} faults ({told}): nothing lost, nothing twice, every data set equal to an undisturbed one")


def make_samples(folder: Path, modalities: list[str]) -> None:
    """Make a few sample files of some modalities."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from conftest import FILES

    from examples.make_samples import maker

    for name in modalities:
        for number in range(FILES[name]):
            maker(name).make(number * (maker(name).COUNT // FILES[name]), folder / name)


if __name__ == "__main__":
    main()
