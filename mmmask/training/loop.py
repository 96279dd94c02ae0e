"""The training loop: packs → sums of errors → one optimiser step, the same on any number of ranks."""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from shard_tools.errors import Problem

from ..batch import TokenBatch
from ..config import Config
from ..data.stream import Packs
from . import checkpoint
from .distributed import World, total, union
from .meters import Meters
from .objective import Objective
from .optim import learning_rate, make_optimizer


def train(config: Config, objective: Objective, packs: Packs, run: Path, world: World) -> None:
    """Train from the newest checkpoint in `run`, or from the start, to the last step.

    Writes checkpoints and metrics into `run`. SIGTERM, Ctrl-C and a closed terminal (SIGHUP) save after the step at
    hand; SIGTERM then ends with exit code 0. Raises Problem when the loss is not finite or too many samples could not
    be read.
    """
    objective.to(world.device)
    optimizer = make_optimizer(objective, config.optim)
    start, dropped = _restore(run, objective, optimizer)
    wrapped = DistributedDataParallel(objective) if world.size > 1 else objective
    loader = iter(_loader(config, packs, start, world))
    with contextlib.ExitStack() as closing:
        meters = closing.enter_context(contextlib.closing(Meters(run, start, config.steps))) if world.leads else None
        stop = closing.enter_context(_Stop())
        for step in range(start, config.steps):
            began = time.perf_counter()
            numbers = range(step * config.packs + world.rank, (step + 1) * config.packs, world.size)
            batches = [_next(loader).to(world.device) for _ in numbers]
            waited = time.perf_counter() - began
            rate = learning_rate(step, config.steps, config.optim)
            losses, loss = _step(config, wrapped, optimizer, dict(zip(numbers, batches, strict=True)), rate, world)
            if not math.isfinite(loss):
                names = ", ".join(key for batch in batches for key in batch.keys)
                raise Problem(f"step {step}: the loss is not finite (lower optim.lr?); samples: {names[:600]}")
            objective.step()
            dropped = _count_dropped(config, batches, dropped, world)
            if meters:
                meters.count(sum(config.modalities[name].samples for name in config.modalities) * config.packs, waited)
                if step % config.run.log_every == 0 or step == config.steps - 1:
                    meters.log(step, losses, loss, rate, len(dropped))
            done, asked = step + 1, stop.asked_anywhere(world)
            if world.leads and (done % config.run.save_every == 0 or done == config.steps or asked):
                state = {"objective": objective.state_dict(), "optimizer": optimizer.state_dict()}
                checkpoint.save(run / "checkpoints", done, {**state, "dropped": sorted(dropped)}, config.run.keep)
            if asked:
                break


def _step(
    config: Config,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: dict[int, TokenBatch],
    rate: float,
    world: World,
) -> tuple[dict[str, float], float]:
    """Make one optimiser step over this rank's packs, by number; return the global loss a modality and in total."""
    names = list(config.modalities)
    asked = [sum(batch.targets[name] for batch in batches.values()) for name in names]
    targets = total(torch.tensor(asked, device=world.device)).clamp(min=1)
    optimizer.zero_grad(set_to_none=True)
    sums = torch.zeros(len(names), device=world.device)
    for i, (number, batch) in enumerate(batches.items()):
        # Stochastic depth depends on the pack alone: not on its rank, nor on where a run was resumed.
        torch.manual_seed(int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0]))
        with _no_sync(objective, i < len(batches) - 1), _precision(config, world):
            errors = objective(batch)
        parts = torch.stack([errors[name].float() for name in names])
        with _no_sync(objective, i < len(batches) - 1):
            # DDP averages gradients over ranks; the loss is a sum over them.
            _weigh(config, parts / targets).mul(world.size).backward()
        sums += parts.detach()
    nn.utils.clip_grad_norm_(objective.parameters(), config.optim.clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    losses = total(sums) / targets
    if losses.isfinite().all():
        optimizer.step()
    return dict(zip(names, losses.tolist(), strict=True)), _weigh(config, losses).item()


def _weigh(config: Config, losses: Tensor) -> Tensor:
    """Return the sum of the modalities' losses, each times its weight."""
    return sum(losses[i] * modality.weight for i, modality in enumerate(config.modalities.values()))


def _precision(config: Config, world: World) -> contextlib.AbstractContextManager:
    """Return bf16 autocast where asked for, or by itself on GPUs that have it."""
    has_bf16 = world.device.type == "cuda" and torch.cuda.is_bf16_supported()
    bf16 = config.run.precision == "bf16" or (config.run.precision == "auto" and has_bf16)
    return torch.autocast(world.device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()


def _no_sync(objective: nn.Module, more: bool) -> contextlib.AbstractContextManager:
    """Keep gradients on this rank while more packs of the step follow."""
    wait = more and isinstance(objective, DistributedDataParallel)
    return objective.no_sync() if wait else contextlib.nullcontext()


def _loader(config: Config, packs: Packs, start: int, world: World) -> DataLoader:
    """Return this rank's packs from step `start` on: those numbered rank, rank + ranks, … of each step's list."""
    first, last = start * config.packs, config.steps * config.packs
    workers = config.run.workers
    if workers:
        _start_fork_server()
    return DataLoader(
        packs,
        sampler=range(first + world.rank, last, world.size),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=_start_worker,
    )


def _start_fork_server() -> None:
    """Start what loader processes are forked from, deaf to SIGHUP, as they are then, too.

    It reaches every process of a terminal that is closed, and the step at hand is to end, as with Ctrl-C.
    """
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    forkserver.ensure_running()
    signal.signal(signal.SIGHUP, before)


def _start_worker(worker: int) -> None:
    """Tie a loader process to the trainer's life.

    It outlives Ctrl-C, which reaches every process of a terminal, so that the step at hand can end. And it ends when
    the trainer is killed: torch watches the parent, which is the fork server here and waits for its workers in turn.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_after, args=[parent], daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _next(loader: Iterator[TokenBatch]) -> TokenBatch:
    """Return the next pack. Raises Problem where a loader process was killed."""
    try:
        return next(loader)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise Problem(
            "a loader process was killed: out of memory, or a decoder crashed on a sample; "
            "the same command goes on from the last checkpoint"
        ) from None


def _restore(run: Path, objective: Objective, optimizer: torch.optim.Optimizer) -> tuple[int, set[str]]:
    """Load the newest checkpoint, if there is one; return the step to go on with and the samples dropped so far."""
    state = checkpoint.load(run / "checkpoints")
    if state is None:
        return 0, set()
    objective.load_state_dict(state["objective"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], set(state["dropped"])


def _count_dropped(config: Config, batches: list[TokenBatch], before: set[str], world: World) -> set[str]:
    """Name each unreadable sample once, whichever rank met it; return all so far. Stop when they are too many."""
    new = {name for batch in batches for name in batch.dropped} - before
    if int(total(torch.tensor(len(new), device=world.device))):
        new = union(new) - before
        for name in sorted(new) if world.leads else ():
            print(f"dropped {name}", flush=True)
    dropped = before | new
    if len(dropped) > config.max_dropped:
        raise Problem(
            f"{len(dropped)} samples could not be read, more than max_dropped {config.max_dropped}; see the names above"
        )
    return dropped


class _Stop:
    """Remembers SIGTERM, Ctrl-C or SIGHUP until the step is done; on leaving, ends the program as it wants it."""

    def __enter__(self) -> "_Stop":
        self.signal = 0
        heard = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
            heard.append(signal.SIGHUP)
        self.before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def _note(self, number: int, frame: object) -> None:
        self.signal = number

    def asked_anywhere(self, world: World) -> bool:
        """Whether any rank was asked to stop."""
        asked = bool(total(torch.tensor(float(self.signal != 0), device=world.device)))
        if asked and not self.signal:
            self.signal = signal.SIGTERM  # another rank's
        return asked

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if kind is None and self.signal == signal.SIGTERM:
            raise SystemExit(0)
        if kind is None and self.signal:
            raise KeyboardInterrupt
