"""What the README tells people to type, typed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, cached

SMALL = ["--steps", "2", "--run.held_out", "2", "--model.depth", "1", "--model.decoder_depth", "1"]


def blocks(language: str) -> list[str]:
    """Return the README's code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def folder(samples: Path) -> Path:
    """A reader's folder: photos/, clips/ and configs/, and what the README's commands made of them."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for name, target in {
            "photos": samples / "image",
            "clips": samples / "video",
            "configs": ROOT / "configs",
        }.items():
            (folder / name).symlink_to(target, target_is_directory=True)
        for line in "".join(blocks("sh")).splitlines():
            if words := shlex.split(line, comments=True):
                type_in(folder, [*words, *SMALL] if "mmmask.train" in words else words)

    return cached("readme", ("examples/samples", "shard_tools", "pipelines", "mmmask", "configs"), make)


def type_in(folder: Path, words: list[str]) -> None:
    """Run a command of this environment in a folder; it must end well and without a traceback."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_commands_for_files_of_ones_own(folder: Path) -> None:
    for made in ("clips.html", "reconstructions.png", "report.html", "runs/two/results.json"):
        assert (folder / made).stat().st_size > 100


@pytest.mark.slow
def test_the_lines_for_other_readers(folder: Path, cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (code,) = blocks("python")
    passages = re.split(r"\n\n(?=import|from)", code.strip())
    assert len(passages) == 4
    for passage in passages:
        names: dict = {}
        exec(passage.replace('"data/', f'"{folder}/data/'), names)  # Ray's workers stand in another folder
        data = names["ds"]["train"] if "load_dataset" in names else names["ds"]
        row = data.take(1)[0] if "ray" in names else next(iter(data))
        assert row["json"]["source"].startswith("photos/")


def test_every_named_file_exists() -> None:
    text = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\(([^):]+)\)", text):
        assert (ROOT / link).exists(), link
