"""Every code block of docs/api.md, run."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, succeed
from retold import make_overlay

import shard_tools

PAGE = (ROOT / "docs" / "api.md").read_text()
PYTHON = re.findall(r"\n## ([^\n]+)|```python\n(.*?)```", PAGE, re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """Return (heading, code) of the page's Python blocks."""
    found, heading = [], ""
    for title, code in PYTHON:
        heading = title or heading
        if code:
            found.append((heading, code))
    return found


@pytest.fixture(scope="module")
def folder(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder with the data sets of the page."""
    folder = tmp_path_factory.mktemp("api")
    shutil.copytree(built["image"], folder / "data" / "photos")
    make_overlay(built["image"], folder / "data" / "photos_depth")
    return folder


def run(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Run a block in the folder and return its names."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
    names: dict[str, object] = {"__name__": "page"}
    exec(compile(code, "docs/api.md", "exec"), names)
    return names


@pytest.mark.parametrize(
    "code",
    [pytest.param(code, id=f"{heading}-{number}") for number, (heading, code) in enumerate(blocks())],
)
def test_a_block_runs(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "import ray" in code:
        request.getfixturevalue("cluster")
        code = code.replace('"data/', f'"{folder}/data/')  # Ray's workers stand in another folder
    if "s3://" in code:
        upload(folder / "data" / "photos", request.getfixturevalue("s3"))
    run(code, folder, monkeypatch)


def upload(root: Path, bucket: str) -> None:
    """Copy a data set into the bucket under its own name."""
    import fsspec

    fs, target = fsspec.core.url_to_fs(f"{bucket}/{root.name}")
    fs.put(f"{root}/", target, recursive=True)


def test_the_commands_run(folder: Path) -> None:
    for line in "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).splitlines():
        words = [str(folder / word) if "/" in word else word for word in shlex.split(line)]
        succeed("shard_tools.cli", *words[1:])
    for made in ("energon/photos/.nv-meta/split.yaml", "dali/photos/train-000000.idx", "data/photos/wids-val.json"):
        assert (folder / made).is_file()
    assert "dataset_info" in (folder / "hf/photos/README.md").read_text()
    assert len(shard_tools.open(folder / "data/photos_whole")) == len(shard_tools.open(folder / "data/photos"))


def test_what_the_page_names_exists() -> None:
    for link in re.findall(r"\]\(([^):]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
