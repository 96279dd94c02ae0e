"""The short form of `make faults`: one fault of each kind, on real builds."""

import random
from pathlib import Path

import pytest
from faults import KINDS, Trial, can_mount

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trial(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    made = Trial("image", samples / "image", tmp_path_factory.mktemp("faults"), random.Random(0))
    made.undisturbed()
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_fault_the_same_command_gives_the_same_bytes(kind: str, trial: Trial) -> None:
    if kind == "disk" and not can_mount(trial.folder):
        pytest.skip("no right to mount a small disk")
    trial.strike(kind)
    trial.end()
