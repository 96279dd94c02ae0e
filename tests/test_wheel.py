"""The wheel holds all that is needed to run outside the source tree."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, cached


@pytest.fixture(scope="module")
def outside(built: dict[str, Path]) -> Path:
    """A folder with the wheel, unpacked, and what its commands made there."""

    def make(folder: Path) -> None:
        source, installed = folder / "source", folder / "installed"
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", source], check=True)
        wheel = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
        subprocess.run([sys.executable, "-m", *wheel], check=True, capture_output=True)
        (package,) = folder.glob("mmmask-*.whl")
        zipfile.ZipFile(package).extractall(installed)
        imported = (
            "import shard_tools, pipelines, mmmask; print(shard_tools.__file__, pipelines.__file__, mmmask.__file__)"
        )
        where = run(folder, "-c", imported)
        assert all(path.startswith(str(installed)) for path in where.split())
        run(folder, "-m", "shard_tools.cli", "view", built["table"], "--out", "view.html")
        flags = ["--steps", "1", "--run.held_out", "0", "--model.depth", "1"]
        run(folder, "-m", "mmmask.train", "--data", built["table"], "--output", "run", *flags)
        run(folder, "-m", "mmmask.report", "--run", "run", "--out", "report.html")

    return cached("wheel", ("examples/samples", "shard_tools", "pipelines", "mmmask"), make)


def run(folder: Path, *words: str | Path) -> str:
    """Run Python in a folder with the unpacked wheel before the editable install; return what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder / "installed")}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_the_wheel_runs_outside_the_source_tree(outside: Path) -> None:
    for made in ("view.html", "report.html"):
        assert (outside / made).stat().st_size > 1000
