"""What several test files need: sample files, data sets built from them, a short training run.

They are made once by the real commands and kept in .cache/, named by a digest of the code that makes them: a second
`make test` finds them there, a change of that code makes them anew.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings
from stores import gcs, s3, store  # noqa: F401 - fixtures

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "tests"
MODALITIES = ("image", "video", "lidar", "audio", "table")
FILES = {"image": 48, "video": 8, "lidar": 10, "audio": 24, "table": 4}


def cached(name: str, code: tuple[str, ...], make: Callable[[Path], None]) -> Path:
    """Return a folder that make(folder) fills, from the cache where the code has not changed since."""
    digest = hashlib.sha256()
    files = [
        path for top in code for path in sorted((ROOT / top).rglob("*")) if path.suffix in (".py", ".yaml", ".txt")
    ]
    for path in [*files, ROOT / "constraints.txt", Path(__file__)]:
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    folder = CACHE / f"{name}-{digest.hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(str(CACHE / f"{name}.lock")):
        if not folder.exists():
            for old in CACHE.glob(f"{name}-*"):
                shutil.rmtree(old)
            partial = CACHE / f".{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            make(partial)
            partial.rename(folder)
    return folder


def command(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m …` as a user would, and return its exit code and output."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=500,
        check=False,
    )


def succeed(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must end with exit code 0."""
    done = command(*arguments, **environment)
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done


@pytest.fixture(scope="session")
def samples() -> Path:
    """A few sample files of each modality: samples/{image,video,lidar,audio,table}/…"""

    def make(folder: Path) -> None:
        from examples.make_samples import maker

        for name, count in FILES.items():
            step = maker(name).COUNT // count
            for i in range(count):
                maker(name).make(i * step, folder / name)

    return cached("samples", ("examples/samples",), make)


@pytest.fixture(scope="session")
def built(samples: Path) -> dict[str, Path]:
    """The five data sets of the sample files, by modality."""

    def make(folder: Path) -> None:
        for name in MODALITIES:
            labels = "none" if name == "table" else "parent"
            flags = ["--modality", name, "--input", samples / name, "--output", folder / name, "--labels", labels]
            succeed("pipelines.cli", *flags, "--val", "0.25", "--workers", "2")

    folder = cached("built", ("examples/samples", "pipelines", "shard_tools"), make)
    return {name: folder / name for name in MODALITIES}


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real files that MMMASK_REAL_DATA names."""
    if not (where := os.environ.get("MMMASK_REAL_DATA")):
        pytest.skip("MMMASK_REAL_DATA is not set: no real files to test with")
    return Path(where)


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A local Ray of two CPUs, whose workers find the modality of `poison`."""
    import ray  # here, since most tests do without

    path = {"PYTHONPATH": str(Path(__file__).parent)}
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=2, runtime_env={"env_vars": path}, **quiet)
    yield
    ray.shutdown()
