"""Make sample files of all five modalities on this machine; nothing is downloaded.

Photographs come from inside scikit-image and scikit-learn, tables from scikit-learn; clips, sweeps and sounds
are computed. The same files, byte for byte, come out each time (with the same versions of the packages).
"""

import json
import multiprocessing
import os
import signal
import tempfile
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from shard_tools.arguments import Parser, run
from shard_tools.errors import Misuse, Problem

VERSION = 1
MARK = "samples.json"
MODALITIES = ("lidar", "video", "audio", "image", "table")  # the slowest first


EXAMPLE = """
example:
  python -m examples.make_samples --output out/samples
"""


def main(argv: list[str]) -> None:
    """Make --output/{image,video,lidar,audio,table}/…, some 800 files, 130 MB; a finished folder is left alone.

    The parent folder of a picture, clip or sound is its label, that of a sweep its drive.
    """
    parser = Parser(prog="python -m examples.make_samples", description=__doc__, epilog=EXAMPLE)
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--workers", default=os.cpu_count(), type=int, metavar="N", help="processes (default: one a core)"
    )
    args = parser.parse_args(argv)
    output = args.output
    if is_finished(output):
        print(f"{output} is finished already")
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as scratch:
            folder = Path(scratch) / output.name
            make_all(folder, max(args.workers, 1))
            folder.rename(output)
    except OSError as error:
        raise Problem(f"cannot make {output}: {error}") from error
    print(f"{output} is ready")


def is_finished(output: Path) -> bool:
    """Whether `output` holds the samples of this version already; refuse anything else that stands there."""
    if not os.path.lexists(output):
        return False
    try:
        found = json.loads((output / MARK).read_text())["version"]
    except (OSError, ValueError, LookupError, TypeError):
        raise Misuse(f"{output} exists and was not made by make_samples: name another folder") from None
    if found != VERSION:
        raise Misuse(f"{output} holds samples of version {found}, this is {VERSION}: remove it first")
    return True


def make_all(folder: Path, workers: int) -> None:
    """Make every file of every modality below `folder`, then the mark that says it is finished."""
    counts = {modality: maker(modality).COUNT for modality in MODALITIES}
    tasks = [(name, index, folder / name) for name, count in counts.items() for index in range(count)]
    # An interrupt is the parent's to handle: it ends the workers and removes what is half made.
    ignore_interrupt = (signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.get_context("spawn").Pool(workers, signal.signal, ignore_interrupt) as pool:
        done = pool.imap_unordered(make_file, tasks, chunksize=4)
        for _ in tqdm(done, total=len(tasks), unit="file", desc="samples"):
            pass
    for modality, count in counts.items():
        size = sum(path.stat().st_size for path in (folder / modality).rglob("*") if path.is_file())
        print(f"{modality:6} {count:4} files {size / 1e6:6.1f} MB")
    (folder / MARK).write_text(json.dumps({"version": VERSION, "files": counts}, indent=2) + "\n")


def make_file(task: tuple[str, int, Path]) -> None:
    """Make one file: (modality, its number, the modality's folder)."""
    modality, index, folder = task
    maker(modality).make(index, folder)


def maker(modality: str) -> ModuleType:
    """The module that makes files of `modality`; loaded when asked for, since some take seconds to load."""
    return import_module(f"examples.samples.{modality}")


if __name__ == "__main__":
    run("make_samples", main)
