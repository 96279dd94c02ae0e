"""Packs by number: pack i of a run is the same whoever asks for it, so any rank or worker can make it."""

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Int
from torch.utils.data import Dataset as TorchDataset

import shard_tools
from shard_tools.errors import Misuse
from shard_tools.manifest import NAME
from shard_tools.storage import Storage

from ..batch import MaskPlan, TokenBatch, View
from ..config import Config
from ..masking import get_scores, sample_plan
from ..modality import Modality, get_modality
from .collate import collate
from .order import Order


class Source:
    """All data sets of one modality, end to end, without absent samples: len, and the sample at an index."""

    def __init__(self, datasets: list[shard_tools.Dataset]) -> None:
        found = [(dataset, present(dataset)) for dataset in datasets]
        self.datasets = [dataset for dataset, places in found if len(places)]
        self.places = [places for _, places in found if len(places)]
        self.ends = np.cumsum([len(places) for places in self.places])

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def shards(self) -> np.ndarray:
        """Samples of each shard, in index order."""
        pairs = zip(self.datasets, self.places, strict=True)
        return np.concatenate([np.diff(np.searchsorted(places, dataset.bounds)) for dataset, places in pairs])

    def locate(self, index: int) -> tuple[shard_tools.Dataset, int]:
        """Return the data set of a sample and its place in there."""
        which = int(np.searchsorted(self.ends, index, side="right"))
        place = index - (int(self.ends[which - 1]) if which else 0)
        return self.datasets[which], int(self.places[which][place])

    def name(self, index: int) -> str:
        """Return how a person finds the sample: data set and key."""
        dataset, place = self.locate(index)
        return f"{dataset.root}: {dataset.keys[place]}"


def present(dataset: shard_tools.Dataset) -> Int[np.ndarray, " n"]:
    """Return the places of the samples that are there, in order: an absent one has a lattice without cells."""
    shapes = dataset.index["shape"]
    rows, sizes = pc.list_parent_indices(shapes).to_numpy(), pc.list_flatten(shapes).to_numpy()
    return np.flatnonzero(np.bincount(rows, sizes, len(dataset)))


class Packs(TorchDataset):
    """Pack number → TokenBatch, with `samples` samples of every modality."""

    def __init__(
        self, config: Config, sources: dict[str, Source], modalities: dict[str, Modality], train: bool = True
    ) -> None:
        self.config, self.sources, self.modalities, self.train = config, sources, modalities, train
        self.orders = {name: Order(source.shards, config.seed) for name, source in sources.items()} if train else {}

    def __getitem__(self, number: int) -> TokenBatch:
        """Return pack `number` of the training order."""
        places = {
            name: [
                order[number * self.config.modalities[name].samples + i]
                for i in range(self.config.modalities[name].samples)
            ]
            for name, order in self.orders.items()
        }
        return self.pack(places, number)

    def pack(self, places: dict[str, list[int]], number: int, keep_views: bool = False) -> TokenBatch:
        """Read, cut and mask the samples at given places. What cannot be read is left out and named."""
        views: dict[str, list[View]] = {name: [] for name in self.modalities}
        plans: dict[str, list[MaskPlan]] = {name: [] for name in self.modalities}
        keys, dropped = [], []
        for which, (name, modality) in enumerate(self.modalities.items()):
            settings = self.config.modalities[name]
            for slot, index in enumerate(places.get(name, [])):
                rng = np.random.default_rng([self.config.seed, number, which, slot])
                try:
                    dataset, place = self.sources[name].locate(index)
                    view = modality.view(dataset[place], rng, self.train)
                except Exception as error:
                    reason = " ".join(str(error).split()) or type(error).__name__
                    dropped.append(f"{self.sources[name].name(index)}: {reason}")
                    continue
                views[name].append(view)
                plans[name].append(sample_plan(view, get_scores(settings.masking, view, rng), settings.ratio))
                keys.append(self.sources[name].name(index))
        empty = {name: modality.nothing() for name, modality in self.modalities.items() if not views[name]}
        return collate(views, plans, empty, keys, dropped, keep_views)


def split_path(path: str) -> list[str]:
    """Return the roots that 'A+B' names, data sets read as one: an overlay's layers beside its base.

    A data set whose own name has a plus is one.
    """
    return [path] if "+" not in path or Storage(path).exists(NAME) else path.split("+")


def open_sources(paths: list[str], split: str) -> dict[str, Source]:
    """Open a split of some data sets, by modality; those without it are left out. Raises Misuse or Problem.

    paths: see `split_path`.
    """
    grouped: dict[str, list[shard_tools.Dataset]] = {}
    for path in paths:
        dataset = _open(path)
        get_modality(dataset.manifest.modality)
        if not dataset.manifest.splits.get(split):
            continue
        dataset = _open(path, split)
        grouped.setdefault(dataset.manifest.modality, []).append(dataset)
    sources = {name: Source(grouped[name]) for name in sorted(grouped)}
    return {name: source for name, source in sources.items() if len(source)}


def _open(path: str, split: str | None = None) -> shard_tools.Dataset:
    roots = split_path(path)
    if len(roots) == 1:
        return shard_tools.open(path, split)
    dataset = shard_tools.Zipped(roots, split)
    for overlay in dataset.members[1:]:
        layers = [f"{name}.npy" for name in overlay.manifest.layers]
        if others := [part for part in overlay.manifest.parts if part not in layers]:
            raise Misuse(
                f"{path}: {overlay.root} is no overlay, since it has the part {others[0]} besides layers; "
                "give it to --data by itself"
            )
    return dataset
