"""Watching a run: metrics.jsonl, TensorBoard and the progress bar."""

import json
import time
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


class Meters:
    """Writes a line a logged step; only on the leading process.

    run: the run's folder. On a resumed run, lines of `start` and later are taken back first.
    """

    def __init__(self, run: Path, start: int, steps: int) -> None:
        path = run / "metrics.jsonl"
        kept = [line for line in _lines(path) if json.loads(line)["step"] < start]
        path.write_text("".join(kept))
        self.file = open(path, "a")  # noqa: SIM115 - closed by close()
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=start)
        self.bar = tqdm(total=steps, initial=start, unit="step", dynamic_ncols=True)
        self.began, self.samples, self.waited = time.perf_counter(), 0, 0.0

    def count(self, samples: int, waited: float) -> None:
        """Count one step: its samples, and the seconds it waited for data."""
        self.samples += samples
        self.waited += waited
        self.bar.update()

    def log(self, step: int, losses: dict[str, float], total: float, rate: float, dropped: int) -> None:
        """Write one line: step, loss, loss a modality, rate, samples a second, share of time waiting for data."""
        seconds = time.perf_counter() - self.began
        row: dict[str, Any] = {
            "step": step,
            "loss": total,
            "losses": losses,
            "lr": rate,
            "samples_per_second": self.samples / seconds,
            "waiting": self.waited / seconds,
            "dropped": dropped,
        }
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()
        for name, value in {"loss": total, "lr": rate, "samples_per_second": row["samples_per_second"]}.items():
            self.board.add_scalar(name, value, step)
        for name, value in losses.items():
            self.board.add_scalar(f"loss/{name}", value, step)
        self.bar.set_postfix_str(f"loss {total:.3f}, {row['samples_per_second']:.0f} samples/s", refresh=False)
        self.began, self.samples, self.waited = time.perf_counter(), 0, 0.0

    def close(self) -> None:
        """Close all files."""
        self.file.close()
        self.board.close()
        self.bar.close()


def _lines(path: Path) -> list[str]:
    """Return the whole lines of a file that may not exist or end in half a line."""
    text = path.read_text() if path.exists() else ""
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
