"""The trainer runs where neither Ray, PyAV, Open3D nor torchaudio can be imported, and says so where torch cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from nano import NANO

PROGRAM = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "av", "open3d", "torchaudio", "pipelines"}:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Refuse())
import mmmask.train, mmmask.reconstruct, mmmask.report
config, out, *data = sys.argv[1:]
mmmask.train.main(["--config", config, "--data", *data, "--output", f"{out}/run", "--steps", "2"])
mmmask.reconstruct.main(["--run", f"{out}/run", "--out", f"{out}/a.png", "--count", "1"])
mmmask.report.main(["--run", f"{out}/run", "--out", f"{out}/a.html", "--count", "1"])
assert not {"ray", "av", "open3d", "torchaudio", "pipelines"} & set(sys.modules)
"""


@pytest.mark.slow
def test_five_modalities_train_without_the_builders_libraries(built: dict[str, Path], tmp_path: Path) -> None:
    arguments = [str(NANO), str(tmp_path), *map(str, built.values())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "results.json").exists()
    assert (tmp_path / "a.png").stat().st_size > 10_000 and (tmp_path / "a.html").stat().st_size > 50_000


@pytest.mark.parametrize("command", ["train", "reconstruct", "report"])
def test_without_torch_one_line_says_what_to_install(command: str) -> None:
    module = f"mmmask.{command}"
    program = f"import runpy, sys; sys.modules['torch'] = None; runpy.run_module('{module}', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr == f"{module}: torch is not installed: pip install 'mmmask[train]'\n"
