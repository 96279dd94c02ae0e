"""The main job, end to end: files of five modalities → five data sets → one encoder → a report.

Every step is a command of the project, printed as one would type it; a step that is already done is quick.
"""

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from shard_tools.arguments import Parser, run
from shard_tools.errors import Misuse, Problem

MODALITIES = ("image", "video", "lidar", "audio", "table")
SOURCE = "demo.json"  # names the files the folder was made from

EXAMPLES = """examples:
  python -m examples.demo --output out/demo
  python -m examples.demo --output out/mine --data files/"""


def make_parser() -> Parser:
    """Return the parser."""
    parser = Parser(prog="python -m examples.demo", description=__doc__, epilog=EXAMPLES)
    parser.add_argument(
        "--data", metavar="FOLDER", help="FOLDER/{image,video,lidar,audio,table} in place of sample files"
    )
    parser.add_argument("--output", metavar="DIR", default="out/demo", help="default: out/demo")
    return parser


def main(argv: list[str]) -> None:
    """Run the steps, each a process of its own, and say how long each took."""
    args = make_parser().parse_args(argv)
    out, began = Path(args.output), time.perf_counter()
    source = Path(args.data or "out/samples")
    if args.data and not any((source / name).is_dir() for name in MODALITIES):
        raise Misuse(f"--data {source}: no folder image, video, lidar, audio or table in it")
    prepare(out, source)
    if not args.data:
        step("examples.make_samples", "--output", str(source))
    data = []
    for name in MODALITIES:
        if (source / name).is_dir():
            data.append(str(out / "data" / name))
            flags = ["--modality", name, "--input", str(source / name), "--output", data[-1]]
            step("pipelines.cli", *flags, "--labels", "none" if name == "table" else "parent", shown="shard-build")
    step("mmmask.train", "--config", "configs/train/demo.yaml", "--data", *data, "--output", str(out / "run"))
    step("mmmask.report", "--run", str(out / "run"), "--out", str(out / "report.html"))
    for path in data:
        step("shard_tools.cli", "view", path, "--out", f"{out}/{Path(path).name}.html", shown="shard-tools")
    shutil.copy(out / "run" / "results.json", out / "results.json")
    print(f"\n{out}/report.html and {out}/results.json, {time.perf_counter() - began:.0f} s in all")


def prepare(out: Path, source: Path) -> None:
    """Empty a demo folder that was made from other files; refuse one that is not a demo's."""
    stamp = {"source": str(source.resolve())}
    marker = out / SOURCE
    if out.exists() and any(out.iterdir()):
        if not marker.exists():
            raise Misuse(f"{out} exists and is not a demo's folder; give another one with OUT=…")
        if json.loads(marker.read_text()) != stamp:
            shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps(stamp))


def step(module: str, *arguments: str, shown: str = "") -> None:
    """Run one command, printed first; Problem if it fails."""
    print(f"\n$ {shown or f'python -m {module}'} {shlex.join(arguments)}", flush=True)
    began = time.perf_counter()
    code = subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode
    if code:
        raise Problem(f"{shown or module} ended with exit code {code}")
    print(f"({time.perf_counter() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    run("demo", main)
