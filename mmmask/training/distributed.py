"""One process or many under torchrun: ranks, devices, sums over all of them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from shard_tools.errors import Misuse

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """Who we are among the processes of a run."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0


def join(device: str) -> World:
    """Join the process group of torchrun's environment, if any. Raises Misuse for a GPU that is not there."""
    cuda = torch.cuda.is_available() if device == "auto" else device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise Misuse("run.device is cuda, and no CUDA device is to be seen; use run.device auto or cpu")
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(where)
    if size > 1:
        dist.init_process_group("nccl" if cuda else "gloo", device_id=where if cuda else None)
    return World(rank, size, where)


def leave() -> None:
    """Leave the process group, if in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def leader_first(world: World, work: Callable[[], T]) -> T:
    """Return work(), which the leading process does before the others; where it fails there, these leave in silence."""
    if world.leads:
        try:
            result = work()
        except BaseException:
            total(torch.tensor(1, device=world.device))
            raise
        total(torch.tensor(0, device=world.device))
        return result
    if int(total(torch.tensor(0, device=world.device))):
        raise SystemExit(Misuse.exit_code)
    return work()


def union(names: set[str]) -> set[str]:
    """Return the union of a set over all processes."""
    if not dist.is_initialized():
        return names
    every: list[set[str]] = [set()] * dist.get_world_size()
    dist.all_gather_object(every, names)
    return set().union(*every)


def total(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values
