"""What the README tells people to type, typed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SMALL = ["--steps", "2", "--run.held_out", "2", "--model.depth", "1", "--model.decoder_depth", "1"]


def blocks(language: str) -> list[str]:
    """Return the README's code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def folder(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/, clips/ and configs/, as a reader's would be."""
    folder = tmp_path_factory.mktemp("readme")
    for name, target in {"photos": samples / "image", "clips": samples / "video", "configs": ROOT / "configs"}.items():
        (folder / name).symlink_to(target, target_is_directory=True)
    return folder


@pytest.mark.slow
def test_the_commands_for_files_of_ones_own(folder: Path) -> None:
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    for line in "".join(blocks("sh")).splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if "mmmask.train" in words:
            words += SMALL
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr
    for made in ("clips.html", "reconstructions.png", "report.html", "runs/two/results.json"):
        assert (folder / made).stat().st_size > 100


@pytest.mark.slow
def test_the_lines_for_other_readers(folder: Path, cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (folder / "data" / "photos").exists():
        pytest.skip("the commands before did not build data/photos")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (code,) = blocks("python")
    for passage in code.strip().split("\n\n"):
        names: dict = {}
        exec(passage, names)
        row = (
            names["ds"].take(1)[0]
            if "ray" in names
            else next(iter(names["ds"].values()))[0]
            if "load_dataset" in names
            else next(iter(names["ds"]))
        )
        assert row["json"]["source"].startswith("photos/")


def test_every_named_file_exists() -> None:
    text = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\(([^):]+)\)", text):
        assert (ROOT / link).exists(), link
