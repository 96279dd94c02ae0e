"""The run of nano.yaml in this process: its config, its packs, its network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmmask.config import load_config
from mmmask.data.stream import Packs, open_sources
from mmmask.modality import get_modality
from mmmask.run import make_modalities, make_objective
from mmmask.training.objective import Objective

NANO = Path(__file__).with_name("nano.yaml")
torch.set_num_threads(1)  # sums depend on it, the processes we start have one, and several tests share the cores


def make_packs(built: Mapping[str, Path], *overrides: str, train: bool = True) -> Packs:
    """Return the packs of some of the built data sets; overrides: 'optim.lr=1e-4'."""
    sources = open_sources([str(path) for path in built.values()], "train" if train else "val")
    config = load_config(str(NANO), list(overrides), list(sources))
    spec = {
        name: get_modality(name).describe([dataset.manifest for dataset in source.datasets])
        for name, source in sources.items()
    }
    return Packs(config, sources, make_modalities(config, spec), train)


def make_network(packs: Packs) -> Objective:
    """Return the network of a run with its first weights."""
    return make_objective(packs.config, packs.modalities)


def equal(a: Any, b: Any) -> bool:
    """Whether two tensors, or dicts of them, are equal; NaN equals NaN."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.allclose(a, b, 0, 0, equal_nan=True)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return a == b
