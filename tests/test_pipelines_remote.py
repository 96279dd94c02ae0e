"""Builds from and to a real server that speaks the S3 protocol, by the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest
from conftest import command, succeed

import shard_tools
from shard_tools.storage import Storage
from shard_tools.verify import verify

pytestmark = pytest.mark.slow


def flags(inputs: object, output: object) -> list[str]:
    common = ["--modality", "image", "--workers", "2", "--shard-samples", "6"]
    return ["pipelines.cli", *common, "--input", str(inputs), "--output", str(output)]


def test_from_a_bucket_to_a_bucket_equals_from_a_folder_to_a_folder(s3: str, samples: Path, tmp_path: Path) -> None:
    fsspec.filesystem("s3").put(f"{samples / 'image'}/", f"{s3}/raw/image/", recursive=True)
    succeed(*flags(samples / "image", tmp_path / "a"))
    succeed(*flags(f"{s3}/raw/image", f"{s3}/sets/a"))
    here, there = shard_tools.open(tmp_path / "a"), shard_tools.open(f"{s3}/sets/a")
    assert len(here) == len(there) == 48
    pictures = [{sample["json"]["source"].split("/", 1)[1]: sample["jpg"] for sample in data} for data in (here, there)]
    assert set(pictures[0].values()) == set(pictures[1].values())
    assert verify(f"{s3}/sets/a") == []
    again = json.loads(succeed(*flags(f"{s3}/raw/image", f"{s3}/sets/a"), "--json").stdout)
    assert again["built"] == 0
    other = command(*flags(f"{s3}/raw/image", f"{s3}/sets/a"), "--seed", "1")
    assert other.returncode == 2 and "another data set: seed 0 there, 1 here" in other.stderr


def test_a_build_to_a_bucket_that_was_killed_goes_on(s3: str, samples: Path, tmp_path: Path) -> None:
    succeed(*flags(samples / "image", tmp_path / "a"))
    output = f"{s3}/sets/killed"
    build = subprocess.Popen(
        [sys.executable, "-m", *flags(samples / "image", output)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    storage = Storage(output)
    while not any(name.startswith("train-") for name in storage.names(".build")) and build.poll() is None:
        time.sleep(0.1)
    build.send_signal(signal.SIGKILL)
    build.wait()
    assert not storage.exists("manifest.json")
    report = json.loads(succeed(*flags(samples / "image", output), "--json").stdout)
    assert report["built"] < 48
    shards = [[shard.sha256 for shard in shard_tools.open(root).shards] for root in (tmp_path / "a", output)]
    assert shards[0] == shards[1]
    assert verify(output) == [] and not storage.exists(".build")


def test_a_bucket_that_is_not_there_is_one_line(s3: str, samples: Path) -> None:
    done = command(*flags(samples / "image", "s3://no-such-bucket/a"))
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1 and "no-such-bucket" in done.stderr
