"""Servers that speak the protocols of S3 and Google Cloud Storage, on loopback, for the tests of remote storage."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import fsspec
import pytest

BUCKET = "bucket"
WAIT = 60  # seconds for the server to start


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    """Return once the server answers on its port."""
    until = time.monotonic() + WAIT
    while time.monotonic() < until and server.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server {server.args!r} does not answer on port {port}")


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of an empty bucket; the environment says where its server is, also to child processes."""
    pytest.importorskip("s3fs", reason="pip install 'mmmask[remote]'")
    pytest.importorskip("moto", reason="pip install 'moto[server]'")
    port = free_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with _served(["moto.server", "-H", "127.0.0.1", "-p", str(port)], port, environment):
        fsspec.filesystem("s3").mkdir(BUCKET)
        yield f"s3://{BUCKET}"


@pytest.fixture(scope="session")
def gcs() -> Iterator[str]:
    """The same for Google Cloud Storage."""
    pytest.importorskip("gcsfs", reason="pip install 'mmmask[remote]'")
    pytest.importorskip("gcp_storage_emulator", reason="pip install gcp-storage-emulator")
    port = free_port()
    server = ["gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory"]
    with _served(server, port, {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}):
        fsspec.filesystem("gs").mkdir(BUCKET)
        yield f"gs://{BUCKET}"


@pytest.fixture(scope="session", params=["s3", "gcs"])
def store(request: pytest.FixtureRequest) -> str:
    """The URL of an empty bucket, of one kind of store and then of the other."""
    return request.getfixturevalue(request.param)


@contextmanager
def _served(module: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    """Run a server, and say in the environment where it is."""
    log = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, "-m", *module], **log)  # type: ignore[call-overload]
    try:
        wait_for(port, server)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            yield
    finally:
        server.kill()
        server.wait()
