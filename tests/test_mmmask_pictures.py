"""What a person looks at: reconstructions, the report, the help."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from nano import NANO
from PIL import Image

from mmmask import reconstruct, report, train
from mmmask.config import keys, view_keys
from shard_tools.arguments import run

ENTRIES = {"train": train, "reconstruct": reconstruct, "report": report}


@pytest.fixture(scope="module")
def trained(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on the five data sets."""
    folder = tmp_path_factory.mktemp("runs") / "<b>first"
    data = [str(path) for path in built.values()]
    train.main(["--config", str(NANO), "--data", *data, "--output", str(folder), "--steps", "2"])
    return folder


def rows_of(picture: Path) -> np.ndarray:
    return np.asarray(Image.open(picture).convert("RGB")).astype(float)


@pytest.mark.parametrize("name", ["audio", "image", "lidar", "table", "video"])
def test_every_modality_is_drawn(trained: Path, built: dict[str, Path], tmp_path: Path, name: str) -> None:
    out = tmp_path / "some.png"
    reconstruct.main(["--run", str(trained), "--out", str(out), "--data", str(built[name]), "--count", "2"])
    pixels = rows_of(out)
    height, width, _ = pixels.shape
    assert 1100 < width < 1600 and 200 < height < 1600 and out.stat().st_size > 8_000
    thirds = [pixels[30:, width * i // 3 + 20 : width * (i + 1) // 3 - 20] for i in range(3)]
    assert all(third.std() > 5 for third in thirds), "none is blank"
    hidden = np.abs(thirds[0] - thirds[1][:, : thirds[0].shape[1]]) > 20
    assert hidden.mean() > 0.002, "something is hidden"


def test_reconstruct_draws_the_runs_own_data(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "all.png"
    reconstruct.main(["--run", str(trained), "--out", str(out), "--count", "1", "--split", "train"])
    assert "5 samples after 2 steps" in capsys.readouterr().out
    first = out.read_bytes()
    reconstruct.main(["--run", str(trained), "--out", str(out), "--count", "1", "--split", "train"])
    assert out.read_bytes() == first, "the same masks every time"


def test_the_report_is_one_page_that_needs_nothing_else(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    report.main(["--run", str(trained), "--out", str(out), "--count", "1"])
    page = out.read_text()
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(?!["']?data:)""", page) and "<script" not in page
    assert page.count("data:image/png;base64,") == 5 and page.count("data:image/svg+xml;base64,") == 1
    for name in ("audio", "image", "lidar", "table", "video"):
        assert f'alt="{name}: input' in page
    results = json.loads((trained / "results.json").read_text())["modalities"]
    for name, row in results.items():
        assert re.search(rf"<td>{name}</td><td>{row['error']:.4f}</td><td>{row['trivial_error']:.4f}</td>", page)
    assert "<b>first" not in page and "&lt;b&gt;first" in page, "names are not markup"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    "entry, argv, words",
    [
        ("reconstruct", "--run nowhere --out a.png", "nowhere is not a run"),
        ("reconstruct", "--run RUN --out a.gif", "ends in .png, .svg or .pdf"),
        ("reconstruct", "--run RUN --out a.png --count 0", "--count 0"),
        ("reconstruct", "--run RUN --out a.png --split vla", "(did you mean val?)"),
        ("reconstruct", "--run RUN --out a.png --dta x", "(did you mean --data?)"),
        ("reconstruct", "--run RUN --out a.png --data nowhere", "nowhere: no data set here"),
        ("reconstruct", "--run RUN --out RUN/config.yaml/a.png --count 1", "cannot be written"),
        ("reconstruct", "--out a.png", "--run"),
        ("report", "--run nowhere --out a.html", "nowhere is not a run"),
        ("report", "--run RUN --out RUN/config.yaml/a.html --count 1", "cannot be written"),
        ("report", "--run RUN --out a.html --count 0", "--count 0"),
        ("report", "--run RUN --outt a.html", "--out"),
    ],
)
def test_misuse_is_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    entry: str, argv: str, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run(f"mmmask.{entry}", ENTRIES[entry].main, argv.replace("RUN", str(trained)).split())
    told = capsys.readouterr().err
    assert end.value.code == 2 and words in told and told.count("\n") == 1 and "Traceback" not in told, told
    assert not list(tmp_path.iterdir())


def test_a_run_without_a_checkpoint_or_with_a_broken_one_says_so(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    young = tmp_path / "young"
    shutil.copytree(trained, young)
    checkpoint = young / "checkpoints" / "step-00000002.pt"

    def told(entry: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run(f"mmmask.{entry}", ENTRIES[entry].main, ["--run", str(young), "--out", str(tmp_path / "a.png")])
        shown = capsys.readouterr().err
        assert end.value.code == 1 and shown.count("\n") == 1
        return shown

    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    assert "cannot be read" in told("reconstruct") and "cannot be read" in told("report")
    checkpoint.unlink()
    assert "no checkpoint yet" in told("reconstruct") and "no checkpoint yet" in told("report")
    (young / "config.yaml").write_text("steps: [1")
    assert "not a whole run" in told("reconstruct")


@pytest.mark.parametrize("entry", ENTRIES)
def test_help_has_examples(entry: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(f"mmmask.{entry}", ENTRIES[entry].main, ["--help"])
    told = capsys.readouterr().out
    assert end.value.code == 0 and "examples:" in told and f"python -m mmmask.{entry} --" in told


def test_help_of_training_lists_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("mmmask.train", train.main, ["--help"])
    told = capsys.readouterr().out
    rows = keys() + [row for name in ("image", "video", "lidar", "audio", "table") for row in view_keys(name)]
    assert len(rows) > 50
    for key, default, text in rows:
        assert f"--{key} ({default})\n" in told and text and text in told, key
