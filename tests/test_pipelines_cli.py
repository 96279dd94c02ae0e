"""The command shard-build: what a user sees, above all when something is wrong."""

import fcntl
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import ROOT, succeed
from PIL import Image as Pillow

from pipelines.cli import PROG, build_command
from pipelines.modality import get_modality
from pipelines.scratch import LOCK, held
from shard_tools.arguments import run


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(4):
        Pillow.new("RGB", (40, 30), (60 * number, 0, 0)).save(tmp_path / f"photos/{number}.png")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    return tmp_path / "photos"


IMAGE = "--modality image"
PHOTOS = f"{IMAGE} --input photos"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "the following arguments are required: --modality, --output"),
        (f"{PHOTOS}", "the following arguments are required: --output"),
        (f"{IMAGE} --inptu photos --output out", "unknown argument --inptu (did you mean --input?)"),
        ("--modality imgae --input photos --output out", "unknown modality 'imgae' (did you mean image?)"),
        (f"{PHOTOS} --output out --qualty 80", "unknown argument --qualty (did you mean --quality?)"),
        (f"{PHOTOS} --output out --lables parent", "unknown argument --lables (did you mean --labels?)"),
        (f"{PHOTOS} --output out --labels parrent", "(did you mean parent?)"),
        (f"{PHOTOS} --output out --format jpeg", "(did you mean jpg?)"),
        (f"{PHOTOS} --output out --quality 0", "--quality 0: input should be greater than or equal to 1"),
        (f"{PHOTOS} --output out --quality high", "invalid int value: 'high'"),
        (f"{PHOTOS} --output out --val 1.5", "1.5: must be at least 0 and less than 1"),
        (f"{PHOTOS} --output out --workers 0", "0: must be at least 1"),
        (f"{PHOTOS} --output out --shard-size lots", "'lots': give bytes, or a number with KB, MB or GB"),
        (f"{PHOTOS} --output out --max-rejected few", "'few': give a number (20) or a share (5%)"),
        (f"{PHOTOS} --output mine", "mine: the output is not empty and holds no data set of ours"),
        (f"{PHOTOS} --output mine/letter.txt", "the output is a file"),
        (f"{PHOTOS} --output s3://", "s3://: names no bucket and no folder"),
        (f"{PHOTOS} --output photos/out", "lies inside --input, which would list it"),
        (f"{IMAGE} --input potos --output out", "potos: no such file or folder (did you mean photos?)"),
        (f"{IMAGE} --input nothing --output out", "nothing: no files in this folder"),
        (f"{IMAGE} --input photos/*.tiff --output out", "photos/*.tiff: nothing matches"),
    ],
)
def test_misuse_is_answered_in_one_line(photos: Path, capsys: pytest.CaptureFixture[str], line: str, says: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run(PROG, build_command, line.split())
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert says in err and err.startswith("shard-build: ") and err.count("\n") == 1
    assert not out and not Path("out").exists()


def test_help_names_the_options_of_the_modality(capsys: pytest.CaptureFixture[str]) -> None:
    def helped(*argv: str) -> str:
        with pytest.raises(SystemExit) as ended:
            build_command([*argv, "--help"])
        assert ended.value.code == 0
        return capsys.readouterr().out

    assert "--quality" not in helped() and "audio, image, lidar, table, video" in helped()
    assert "--quality N" in helped("--modality", "image") and "JPEG quality (90)" in helped("--modality=image")


def test_a_build_ends_with_a_summary(photos: Path, cluster: None, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "notes.md").write_text("# notes")
    line = f"{PHOTOS} --output out --labels parent --json --size 32 --workers 1 --shard-size 1MB"
    assert build_command(line.split()) == 0
    report = json.loads(capsys.readouterr().out)
    assert sum(report["samples"].values()) == 4 and report["rejected"]["UnknownFormat"]["count"] == 1
    assert json.loads(Path("out/manifest.json").read_text())["build"]["config"]["options"]["size"] == 32


def test_a_second_run_says_that_nothing_is_to_do(
    photos: Path, cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "notes.md").write_text("# notes")
    line = f"{PHOTOS} --output out".split()
    assert build_command(line) == 0
    assert "already built" not in capsys.readouterr().out
    assert build_command(line) == 0
    out = capsys.readouterr().out
    assert "4 samples" in out and "already built, nothing to do" in out
    assert "photos/notes.md: not a file the image builder knows" in out


def test_when_all_is_rejected_it_fails_and_says_why(
    photos: Path, cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(PROG, build_command, f"{IMAGE} --input mine --output out".split())
    err = capsys.readouterr().err
    assert ended.value.code == 1
    assert err.startswith("shard-build: nothing built, every input was rejected: UnknownFormat 1 (mine/letter.txt:")
    assert err.endswith("/out/rejected.parquet\n") and err.count("\n") == 1
    assert [path.name for path in Path("out").iterdir()] == ["rejected.parquet"]
    (reject,) = pq.read_table("out/rejected.parquet").to_pylist()
    assert (reject["source"], reject["error"]) == ("mine/letter.txt", "UnknownFormat")
    assert build_command(f"{IMAGE} --input photos --output out".split()) == 0  # the folder is still free


@pytest.mark.parametrize("name", ["image", "video", "lidar", "audio", "table"])
def test_every_option_of_a_modality_stands_in_the_docs(name: str) -> None:
    (_, table), *_ = re.findall(rf"(\n\| {name} (\| `--.*\n(?:\| \| .*\n)*))", (ROOT / "docs/building.md").read_text())
    documented = dict(re.findall(r"\| `--(\w+)` \| ([^|]*) \|", table))
    options = get_modality(name).Options.model_fields
    assert documented == {option: f"{field.default}".removesuffix(".0") for option, field in options.items()} | (
        {"stride": "a clip's length"} if name == "video" else {}
    )


def test_what_is_not_installed_is_one_line(photos: Path) -> None:
    program = "import sys; sys.modules['simplejpeg'] = None; from pipelines.cli import main; main()"
    line = [sys.executable, "-c", program, *IMAGE.split(), "--input", "photos", "--output", "out"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "shard-build: simplejpeg is not installed: pip install 'mmmask[build]'\n"


@pytest.fixture
def web(photos: Path) -> Iterator[str]:
    """A web server with the pictures and a list of them."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=photos)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        (photos / "list.csv").write_text("\n".join(["url", *(f"{url}/{number}.png" for number in range(4))]))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield url
        server.shutdown()


def test_a_build_leaves_nothing_behind_and_removes_what_a_killed_one_did(web: str, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:  # a longer name is too long for Ray
        dead, alive = Path(scratch, "shard-build-dead"), Path(scratch, "shard-build-alive")
        for folder in (dead, alive):
            held(folder).close()
            (folder / "plan.parquet").touch()
            os.utime(folder / LOCK, (0, 0))
        with (alive / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            for inputs in (f"{web}/list.csv", str(tmp_path / "photos")):
                flags = ["--input", inputs, "--output", tmp_path / f"of-{Path(inputs).stem}"]
                succeed("pipelines.cli", *IMAGE.split(), *flags, TMPDIR=scratch)
                assert list(Path(scratch).glob("shard-build-*")) == [alive]
        assert (alive / "plan.parquet").exists()
