"""Builds from and to real servers that speak the protocols of object stores, by the command line."""

import contextlib
import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import command, succeed

import shard_tools
from shard_tools.storage import Storage
from shard_tools.verify import verify

pytestmark = pytest.mark.slow


def flags(inputs: object, output: object) -> list[str]:
    common = ["--modality", "image", "--workers", "2", "--shard-samples", "6"]
    return ["pipelines.cli", *common, "--input", str(inputs), "--output", str(output)]


@pytest.fixture(scope="module")
def near(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set from a folder to a folder."""
    root = tmp_path_factory.mktemp("data") / "near"
    succeed(*flags(samples / "image", root))
    return root


def test_from_a_bucket_to_a_bucket_equals_from_a_folder_to_a_folder(store: str, samples: Path, near: Path) -> None:
    Storage(store).fs.put(f"{samples / 'image'}/", f"{store}/raw/image/", recursive=True)
    succeed(*flags(f"{store}/raw/image", f"{store}/sets/a"))
    here, there = shard_tools.open(near), shard_tools.open(f"{store}/sets/a")
    assert len(here) == len(there) == 48
    pictures = [{sample["json"]["source"].split("/", 1)[1]: sample["jpg"] for sample in data} for data in (here, there)]
    assert set(pictures[0].values()) == set(pictures[1].values())
    assert verify(f"{store}/sets/a") == []
    again = json.loads(succeed(*flags(f"{store}/raw/image", f"{store}/sets/a"), "--json").stdout)
    assert again["built"] == 0
    other = command(*flags(f"{store}/raw/image", f"{store}/sets/a"), "--seed", "1")
    assert other.returncode == 2 and "another data set: seed 0 there, 1 here" in other.stderr


def test_a_build_to_a_bucket_that_was_killed_goes_on(store: str, samples: Path, near: Path) -> None:
    output = f"{store}/sets/killed"
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
    shards = [[shard.sha256 for shard in shard_tools.open(root).shards] for root in (near, output)]
    assert shards[0] == shards[1]
    assert verify(output) == [] and not storage.exists(".build")


def test_while_a_shard_is_uploaded_the_next_is_built(s3: str, samples: Path) -> None:
    host, port = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://").split(":")
    second, held = threading.Barrier(2), []

    class Gate(socketserver.BaseRequestHandler):
        """Passes bytes on, but the first upload waits for the second."""

        def handle(self) -> None:
            with socket.create_connection((host, int(port))) as server:
                threading.Thread(target=self.answer, args=(server,), daemon=True).start()
                while data := self.request.recv(1 << 16):
                    if re.match(rb"PUT \S+/shards/", data) and len(held) < 2:
                        held.append(data)
                        second.wait(60)
                    server.sendall(data)

        def answer(self, server: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := server.recv(1 << 16):
                    self.request.sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Gate) as gate:
        gate.daemon_threads = True
        threading.Thread(target=gate.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{gate.server_address[1]}"
        one_worker = [*flags(samples / "image", f"{s3}/sets/gate"), "--workers", "1"]
        succeed(*one_worker, AWS_ENDPOINT_URL=url)
        gate.shutdown()
    assert len(held) == 2 and not second.broken
    assert verify(f"{s3}/sets/gate") == []


def test_a_bucket_that_is_not_there_is_one_line(s3: str, samples: Path) -> None:
    done = command(*flags(samples / "image", "s3://no-such-bucket/a"))
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1 and "no-such-bucket" in done.stderr
