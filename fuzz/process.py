"""One target under Atheris, in a process that ends with it: `python -m fuzz.process TARGET RUNS SEED CRASH_PREFIX`."""

import importlib
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

import atheris

SECONDS = 10  # that an execution may take
SEED_SECONDS = 120  # that all seeds may take, imports included
MEMORY = 1 << 30  # bytes that an execution may take on top of what the libraries do
LONGEST = 8192  # bytes of an input


def run(target: str, runs: str, seed: str, prefix: str) -> None:
    """Fuzz. Does not return: libFuzzer ends the process."""
    with atheris.instrument_imports(include=["shard_tools", "pipelines"]):
        module = importlib.import_module(f"fuzz.targets.{target}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for number, data in enumerate(module.SEEDS):
            Path(folder, f"{number:04d}").write_bytes(data)
        longest = max(LONGEST, *(2 * len(data) for data in module.SEEDS))
        signal.alarm(SEED_SECONDS)
        for data in module.SEEDS:
            module.check(data)  # libraries that are loaded at their first use are not the first input's
        signal.alarm(0)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        share = getattr(module, "SHARE", 1.0)
        flags = [
            f"-runs={int(int(runs) * share)}",
            f"-seed={seed}",
            f"-max_len={longest}",
            f"-timeout={SECONDS}",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *flags, f"-artifact_prefix={prefix}", folder], module.check)
        atheris.Fuzz()


if __name__ == "__main__":
    run(*sys.argv[1:])
