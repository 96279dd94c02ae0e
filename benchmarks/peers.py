"""Other people's builders on the same files, in an environment of their own: img2dataset and video2dataset.

Both are told to do what the builder does (shorter side 256, JPEG of quality 90 or H.264, tar shards) with one process,
and their start-up is left out: their own statistics say when the work on a shard began and ended.
"""

import contextlib
import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from shard_tools.errors import Problem

# video2dataset needs an ffmpeg, imageio-ffmpeg brings one; both want NumPy 1, newer PyArrow does not.
PACKAGES = ("img2dataset==1.47.0", "video2dataset==1.3.0", "imageio-ffmpeg", "pyarrow<20", "setuptools<81")

# Its ResolutionSubsampler lacks an attribute that its worker reads; its FrameSubsampler changes a dict that its worker
# goes through. The processes that it starts read this file anew, and so have what is mended.
VIDEO = """
import sys
from video2dataset import video2dataset
from video2dataset.subsamplers import FrameSubsampler, ResolutionSubsampler

take_frames = FrameSubsampler.__call__
ResolutionSubsampler.encode_formats = {"video": "mp4"}
FrameSubsampler.__call__ = lambda self, streams, *more: take_frames(self, dict(streams), *more)

if __name__ == "__main__":
    urls, output, scratch, rate = sys.argv[1:]
    subsampling = {"ResolutionSubsampler": {"args": {"resize_mode": ["scale"], "height": 256}}}
    if rate:
        subsampling["FrameSubsampler"] = {"args": {"frame_rate": int(rate)}}
    video2dataset(
        url_list=urls,
        output_folder=output,
        output_format="webdataset",
        input_format="csv",
        encode_formats={"video": "mp4"},
        tmp_dir=scratch,
        config={
            "subsampling": subsampling,
            "reading": {"yt_args": {}, "timeout": 60, "sampler": None},
            "storage": {"number_sample_per_shard": 100000, "oom_shard_count": 5, "captions_are_subtitles": False},
            "distribution": {
                "processes_count": 1, "thread_count": 1, "subjob_size": 1000, "distributor": "multiprocessing",
            },
        },
    )
"""

# Python's own web server, but connections stay open, and many may wait, as with those that serve data.
SERVER = """
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

ThreadingHTTPServer.request_queue_size = 128
SimpleHTTPRequestHandler.protocol_version = "HTTP/1.1"
SimpleHTTPRequestHandler.disable_nagle_algorithm = True
handler = partial(SimpleHTTPRequestHandler, directory=sys.argv[2])
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""


class Peer(NamedTuple):
    """A builder. seconds: how long it takes: of (its environment's Python, files, an empty folder)."""

    name: str
    seconds: Callable[[Path, Sequence[Path], Path], float]


def environment(folder: Path) -> Path:
    """Return the Python of the peers' environment, which is made if it is not there yet. Raises Problem."""
    python = folder / "bin" / "python"
    if (folder / "bin" / "img2dataset").exists():
        return python
    print(f"installing {', '.join(PACKAGES)} into {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True)
    uv = shutil.which("uv")
    install = [uv, "pip", "install", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
    if subprocess.run([*install, "--quiet", *PACKAGES], check=False).returncode:
        raise Problem(f"--peers {folder}: the peers cannot be installed")
    return python


def img2dataset(python: Path, files: Sequence[Path], scratch: Path) -> float:
    """Return the seconds that img2dataset takes for some pictures, served to it from this machine."""
    output = scratch / "img2dataset"
    with served(files[0].parent) as address:
        urls = scratch / "urls.txt"
        urls.write_text("".join(f"{address}/{path.name}\n" for path in files))
        flags = {
            "url_list": urls,
            "output_folder": output,
            "output_format": "webdataset",
            "image_size": 256,
            "resize_mode": "keep_ratio",
            "resize_only_if_bigger": True,
            "encode_quality": 90,
            "processes_count": 1,
            "thread_count": 16,
            "number_sample_per_shard": len(files),
            "enable_wandb": False,
            "disallowed_header_directives": "[]",
        }
        _run([python.parent / "img2dataset", *(f"--{name}={value}" for name, value in flags.items())], scratch)
    return _seconds(output, len(files))


def video2dataset(python: Path, files: Sequence[Path], scratch: Path, rate: str = "") -> float:
    """Return the seconds that video2dataset takes for some films. rate: whole frames a second; '' keeps them all."""
    output, urls = scratch / "video2dataset", scratch / "urls.csv"
    with urls.open("w") as stream:
        csv.writer(stream).writerows([["url"], *([str(path)] for path in files)])
    binaries = scratch / "bin"
    binaries.mkdir()
    found = [str(python), "-c", "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())"]
    ffmpeg = subprocess.run(found, capture_output=True, text=True, check=True).stdout.strip()
    (binaries / "ffmpeg").symlink_to(ffmpeg)
    script = scratch / "convert.py"
    script.write_text(VIDEO)
    _run([python, script, urls, output, scratch, rate], scratch, PATH=f"{binaries}:{os.environ['PATH']}")
    return _seconds(output, len(files))


def _run(command: Sequence[str | Path], scratch: Path, **variables: str) -> None:
    """Run a peer on one core: its libraries start threads as they like."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        cwd=scratch,
        env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", **variables},
        preexec_fn=lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}),
        check=False,
    )
    if done.returncode:
        raise Problem(f"{command[0]} failed: {done.stderr[-2000:]}")


def _seconds(output: Path, expected: int) -> float:
    """Return the time between the first shard's beginning and the last one's end. Raises Problem."""
    stats = [json.loads(path.read_text()) for path in output.glob("*_stats.json")]
    made = sum(shard["successes"] for shard in stats)
    if made < expected:
        raise Problem(f"{output.name} made {made} of {expected} samples")
    return max(shard["end_time"] for shard in stats) - min(shard["start_time"] for shard in stats)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP on the loopback device, from a process of its own; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVER, str(port), str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


IMG2DATASET = Peer("img2dataset", img2dataset)
VIDEO2DATASET = Peer("video2dataset", video2dataset)
VIDEO2DATASET_8 = Peer("video2dataset", partial(video2dataset, rate="8"))
