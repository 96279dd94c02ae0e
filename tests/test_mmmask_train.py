"""Training as users run it: real processes, killed and resumed, two of them together, on shards that are damaged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, command
from nano import NANO

import shard_tools
from mmmask.train import main
from shard_tools.arguments import run

RANDOM = ("--model.drop_path", "0.3")  # chance inside the network, too, must come out the same


def flags(data: list[Path], output: Path, *more: str) -> list[str]:
    return ["--config", str(NANO), "--data", *map(str, data), "--output", str(output), *more]


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[tuple[int, float, dict[str, float]]]:
    return [(row["step"], row["loss"], row["losses"]) for row in metrics(folder)]


def newest(folder: Path) -> int:
    return max((int(path.stem[5:]) for path in (folder / "checkpoints").glob("step-*.pt")), default=0)


# Stopped and resumed


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start the trainer in a process group of its own, as a terminal does: who runs the tests may ignore SIGHUP."""
    return subprocess.Popen(
        [sys.executable, "-m", "mmmask.train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )


def stop(process: subprocess.Popen[str], folder: Path, number: signal.Signals, group: bool = False) -> tuple[int, str]:
    """Send a signal once the run has gone on by a checkpoint; return exit code and stderr."""
    before = newest(folder)
    deadline = time.monotonic() + 120
    while newest(folder) <= before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    (os.killpg if group else os.kill)(process.pid, number)
    told = process.communicate(timeout=60)[1]
    return process.returncode, told


@pytest.mark.slow
def test_a_run_that_is_stopped_in_every_way_ends_like_one_that_was_not(built: dict[str, Path], tmp_path: Path) -> None:
    data, steps = list(built.values()), ("--steps", "60", *RANDOM)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    main(flags(data, whole, *steps))
    again = flags(data, broken, *steps)

    code, told = stop(start(*again), broken, signal.SIGTERM)
    assert code == 0 and "Traceback" not in told, told
    asked = newest(broken)
    assert 0 < asked < 60 and metrics(broken)[-1]["step"] == asked - 1, "it saves after the step at hand"

    # As a terminal sends Ctrl-C, or is closed: to the loader processes as well, which must not give up before the step
    # is done.
    for number in (signal.SIGINT, signal.SIGHUP):
        code, told = stop(start(*again, "--run.workers", "1"), broken, number, group=True)
        assert code == 130 and told.endswith("mmmask.train: interrupted\n") and "Traceback" not in told, told
        assert asked < newest(broken) < 60 and metrics(broken)[-1]["step"] == newest(broken) - 1
        asked = newest(broken)

    # Loader processes that outlived the trainer would hold its output open, and this would not return.
    code, told = stop(start(*again, "--run.workers", "1"), broken, signal.SIGKILL)
    assert code == -signal.SIGKILL and newest(broken) < 60
    assert not (broken / "results.json").exists()

    main(flags(data, broken, *steps))
    assert losses(broken) == losses(whole) and len(losses(whole)) == 60
    assert (broken / "results.json").read_text() == (whole / "results.json").read_text()
    assert sorted(path.name for path in (broken / "checkpoints").iterdir()) == ["step-00000056.pt", "step-00000060.pt"]
    first, last = (torch.load(f / "checkpoints" / "step-00000060.pt", weights_only=True) for f in (whole, broken))
    for name, value in first["objective"].items():
        assert torch.equal(value, last["objective"][name]), name


def test_a_finished_run_is_not_trained_again(built: dict[str, Path], tmp_path: Path) -> None:
    argv = flags([built["image"]], tmp_path / "run", "--steps", "3")
    main(argv)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    main(argv)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_what_is_logged(built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    main(flags([built["table"], built["image"]], folder, "--steps", "7", "--run.log_every", "3"))
    rows = metrics(folder)
    assert [row["step"] for row in rows] == [0, 3, 6]
    for row in rows:
        assert np.isclose(row["loss"], sum(row["losses"].values())) and set(row["losses"]) == {"image", "table"}
        assert row["samples_per_second"] > 0 and 0 <= row["waiting"] <= 1 and row["dropped"] == 0
    results = json.loads((folder / "results.json").read_text())["modalities"]
    assert set(results) == {"image", "table"} and set(results["image"]) >= {"error", "trivial_error", "error_ratio"}
    assert list((folder / "tensorboard").iterdir())
    shown = capsys.readouterr().out
    assert "held out" in shown and "table" in shown


# Two processes


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(built: dict[str, Path], tmp_path: Path) -> None:
    damaged = damage(built["image"], tmp_path / "image", [3, 10])
    data = [damaged, *(path for name, path in built.items() if name != "image")]
    more = ("--steps", "8", "--packs", "2", *RANDOM)
    main(flags(data, tmp_path / "one", *more))
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mmmask.train"]
    done = command(*launch, *flags(data, tmp_path / "two", *more))
    assert done.returncode == 0, done.stderr
    for one, two in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert np.isclose(one["loss"], two["loss"], rtol=1e-4) and one["dropped"] == two["dropped"]
        assert all(np.isclose(one["losses"][name], two["losses"][name], rtol=1e-4) for name in one["losses"])
    assert metrics(tmp_path / "two")[-1]["dropped"] == 2 == done.stdout.count("dropped ")
    one, two = (json.loads((tmp_path / run / "results.json").read_text())["modalities"] for run in ("one", "two"))
    assert all(np.isclose(one[name]["error"], two[name]["error"], rtol=1e-3) for name in one)


# Damaged shards


def damage(source: Path, target: Path, places: list[int]) -> Path:
    """Copy a data set and overwrite the tar headers of some training samples."""
    shutil.copytree(source, target)
    data = shard_tools.open(source, "train")
    with open(target / "shards" / data.shards[0].name, "r+b") as shard:
        for place in places:
            row = data.row(place)
            for column, offset in row.items():
                if column.endswith(".offset"):
                    shard.seek(offset - 512)
                    shard.write(b"\xff" * 512)
    return target


def train(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run the trainer to its exit: code, stdout, stderr."""
    with pytest.raises(SystemExit) as end:
        run("mmmask.train", main, argv)
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return end.value.code, shown.out, shown.err


def test_a_damaged_sample_is_named_dropped_and_counted(
    built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, folder = damage(built["image"], tmp_path / "image", [4]), tmp_path / "run"
    key = shard_tools.open(built["image"], "train").keys[4]
    argv = flags([data], folder, "--steps", "24", "--run.keep", "9")  # more than two epochs
    code, out, _ = train(argv, capsys)
    assert code == 0 and out.count("dropped ") == 1 and key in out
    rows, before = metrics(folder), losses(folder)
    assert rows[0]["dropped"] <= rows[11]["dropped"] == rows[-1]["dropped"] == 1
    for path in (folder / "checkpoints").glob("step-0000002*.pt"):
        path.unlink()
    code, out, _ = train(argv, capsys)
    assert code == 0 and "dropped " not in out and losses(folder) == before
    assert metrics(folder)[-1]["dropped"] == 1, "a resumed run remembers what it has dropped"


def test_too_many_damaged_samples_stop_the_run(
    built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "image"
    shutil.copytree(built["image"], data)
    shard = data / "shards" / "train-000000.tar"
    os.truncate(shard, shard.stat().st_size // 2)
    code, out, err = train(flags([data], tmp_path / "run", "--max_dropped", "4"), capsys)
    assert code == 1 and out.count("dropped ") > 4
    last = err.splitlines()[-1]
    assert last.startswith("mmmask.train: ") and "more than max_dropped 4" in last
    shard.unlink()
    code, out, err = train(flags([data], tmp_path / "other", "--max_dropped", "4"), capsys)
    assert code == 1 and "not readable" in out


@pytest.mark.parametrize("name", ["image", "video", "lidar", "audio", "table"])
def test_damaged_payloads_of_every_modality_are_dropped(
    built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    data = tmp_path / name
    shutil.copytree(built[name], data)
    part = {"image": "jpg", "video": "mp4", "lidar": "count.npy", "audio": "mel.npy", "table": "arrow"}[name]
    row = shard_tools.open(built[name], "train").row(2)
    with open(data / "shards" / "train-000000.tar", "r+b") as shard:
        shard.seek(row[f"{part}.offset"])
        shard.write(b"\x5a" * row[f"{part}.size"])
    code, out, _ = train(flags([data], tmp_path / "run"), capsys)
    assert code == 0 and out.count("dropped ") == 1 and row["key"] in out
    assert np.isfinite([row["loss"] for row in metrics(tmp_path / "run")]).all()


def test_a_damaged_held_out_sample_is_named(
    built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "image"
    shutil.copytree(built["image"], data)
    shard = data / "shards" / "val-000000.tar"
    os.truncate(shard, shard.stat().st_size // 2)
    code, out, _ = train(flags([data], tmp_path / "run", "--steps", "1", "--run.held_out", "99"), capsys)
    results = json.loads((tmp_path / "run" / "results.json").read_text())["modalities"]["image"]
    val = len(shard_tools.open(data, "val"))
    assert code == 0 and 0 < results["samples"] == val - out.count("dropped ") < val


# What goes wrong in a run


def test_a_loss_that_is_not_finite_stops_the_run(
    built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = train(flags([built["image"]], tmp_path / "run", "--optim.lr", "1e30"), capsys)
    assert code == 1 and "the loss is not finite" in err.splitlines()[-1]


def test_a_broken_checkpoint_is_named(
    built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = flags([built["image"]], tmp_path / "run", "--steps", "8")
    assert train(argv, capsys)[0] == 0
    last = tmp_path / "run" / "checkpoints" / "step-00000008.pt"
    os.truncate(last, 1000)
    code, _, err = train(argv, capsys)
    assert code == 1 and str(last) in err and err.count("\n") == 1
    before = losses(tmp_path / "run")
    last.unlink()
    assert train(argv, capsys)[0] == 0 and losses(tmp_path / "run") == before


def test_a_checkpoint_that_cannot_be_written_stops_the_run(
    built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = flags([built["image"]], tmp_path / "run", "--steps", "8")
    assert train(argv, capsys)[0] == 0
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "checkpoints").write_text("in the way")
    code, _, err = train(argv, capsys)
    assert code == 1 and "checkpoint of step 4 cannot be written" in err.splitlines()[-1]


def test_a_gpu_that_is_not_there_is_named(
    built: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code, _, err = train(flags([built["image"]], tmp_path / "run", "--run.device", "cuda"), capsys)
    assert code == 2 and "run.device" in err and not (tmp_path / "run").exists()
