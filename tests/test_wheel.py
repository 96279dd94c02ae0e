"""The wheel holds all that is needed to run outside the source tree."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_the_wheel_runs_outside_the_source_tree(built: dict[str, Path], tmp_path: Path) -> None:
    wheel = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tmp_path,
    ]
    copy = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", copy], check=True)
    subprocess.run([*wheel, copy], check=True, capture_output=True)
    (package,) = tmp_path.glob("mmmask-*.whl")
    zipfile.ZipFile(package).extractall(tmp_path / "installed")
    # In front of the editable install's own finder, so that what runs is what the wheel holds.
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}

    def run(*words: str | Path) -> str:
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    where = run(
        "-c", "import shard_tools, pipelines, mmmask; print(shard_tools.__file__, pipelines.__file__, mmmask.__file__)"
    )
    assert all(path.startswith(str(tmp_path / "installed")) for path in where.split())
    run("-m", "shard_tools.cli", "view", built["table"], "--out", tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 1000
    flags = ["--steps", "1", "--run.held_out", "0", "--model.depth", "1"]
    run("-m", "mmmask.train", "--data", built["table"], "--output", tmp_path / "run", *flags)
    run("-m", "mmmask.report", "--run", tmp_path / "run", "--out", tmp_path / "report.html")
