"""The command `python -m fuzz`: run targets, each in a process of its own, and say what was found."""

import argparse
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import targets

CRASHES = Path(__file__).parent / "crashes"
ENVIRONMENT = {"PYTHONHASHSEED": "0", "NUMBA_DISABLE_JIT": "1"}  # to be deterministic, and to see coverage
NAMES = [module.name for module in pkgutil.iter_modules(targets.__path__)]
EXAMPLES = """examples:
  python -m fuzz                               every target
  python -m fuzz tar lidar --runs 1000000
  python -m fuzz tar --replay fuzz/crashes/tar-crash-0123…"""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a target. finding: what went wrong, with the file that shows it; '' for nothing."""

    target: str
    runs: int
    seconds: float
    finding: str


def main() -> int:
    """Run the command line; return 1 when anything was found."""
    parser = argparse.ArgumentParser(
        prog="python -m fuzz",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)} (all)")
    parser.add_argument(
        "--runs", type=int, default=150_000, metavar="N", help="executions a target, fewer of slow ones (150000)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the fuzzer (1)")
    parser.add_argument("--replay", metavar="FILE", help="give one file to one target, and let its error be seen")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(NAMES):
        parser.error(f"no target {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    if arguments.replay:
        if len(arguments.targets) != 1:
            parser.error("--replay takes one target")
        importlib.import_module(f"fuzz.targets.{arguments.targets[0]}").check(Path(arguments.replay).read_bytes())
        print("nothing found")
        return 0
    started = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = []
        for result in pool.map(lambda name: fuzz(name, arguments.runs, arguments.seed), arguments.targets or NAMES):
            print(
                f"{result.target:16} {result.runs:9,} runs {result.seconds:7.1f} s  {result.finding or 'ok'}",
                flush=True,
            )
            results.append(result)
    total = sum(result.runs for result in results)
    print(f"{'all':16} {total:9,} runs {time.monotonic() - started:7.1f} s")
    return int(any(result.finding for result in results))


def fuzz(target: str, runs: int, seed: int) -> Result:
    """Run one target for so many executions, or to its first finding."""
    CRASHES.mkdir(exist_ok=True)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.process", target, str(runs), str(seed), f"{CRASHES}/{target}-"],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **ENVIRONMENT},
        check=False,
    )
    seconds = time.monotonic() - started
    counted = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    finding = ""
    if done.returncode:
        said = re.search(r"Uncaught Python exception: ===\n(.*)|ERROR: libFuzzer: (.*)|(.*)\Z", done.stderr.strip())
        kept = re.search(r"Test unit written to (\S+)", done.stderr)
        what = next(filter(None, said.groups()), "died") if said else "died"
        finding = f"{what} [{kept[1] if kept else f'exit code {done.returncode}'}]"
    return Result(target, int(counted[1]) if counted else 0, seconds, finding)


if __name__ == "__main__":
    sys.exit(main())
