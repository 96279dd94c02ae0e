"""A short form of `make fuzz`, and what fuzzing has found."""

import pytest
from conftest import command

pytest.importorskip("atheris", reason="Atheris has no wheel for this machine: no fuzzing")


def test_a_thousand_executions_of_each_target_find_nothing() -> None:
    done = command("fuzz", "--runs", "1000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 runs" not in done.stdout


def test_a_finding_is_kept_and_can_be_replayed(tmp_path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"no tar")
    assert "nothing found" in command("fuzz", "tar", "--replay", path).stdout
    assert "no target tor" in command("fuzz", "tor").stderr
