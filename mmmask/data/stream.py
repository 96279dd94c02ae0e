"""Packs by number: pack i of a run is the same whoever asks for it, so any rank or worker can make it."""

import numpy as np
from torch.utils.data import Dataset as TorchDataset

import shard_tools

from ..batch import MaskPlan, TokenBatch, View
from ..config import Config
from ..masking import get_scores, sample_plan
from ..modality import Modality, get_modality
from .collate import collate
from .order import Order


class Source:
    """All data sets of one modality, end to end: len, and the sample at an index."""

    def __init__(self, datasets: list[shard_tools.Dataset]) -> None:
        self.datasets = [dataset for dataset in datasets if len(dataset)]
        self.ends = np.cumsum([len(dataset) for dataset in self.datasets])

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def shards(self) -> np.ndarray:
        """Samples of each shard, in index order."""
        return np.array([shard.samples for dataset in self.datasets for shard in dataset.shards])

    def locate(self, index: int) -> tuple[shard_tools.Dataset, int]:
        """Return the data set of a sample and its place in there."""
        which = int(np.searchsorted(self.ends, index, side="right"))
        return self.datasets[which], index - (int(self.ends[which - 1]) if which else 0)

    def name(self, index: int) -> str:
        """Return how a person finds the sample: data set and key."""
        dataset, place = self.locate(index)
        return f"{dataset.root}: {dataset.keys[place]}"


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


def open_sources(paths: list[str], split: str) -> dict[str, Source]:
    """Open a split of some data sets, by modality; those without it are left out. Raises Misuse or Problem."""
    grouped: dict[str, list[shard_tools.Dataset]] = {}
    for path in paths:
        dataset = shard_tools.open(path)
        get_modality(dataset.manifest.modality)
        if not dataset.manifest.splits.get(split):
            continue
        dataset = shard_tools.open(path, split=split)
        grouped.setdefault(dataset.manifest.modality, []).append(dataset)
    return {name: Source(grouped[name]) for name in sorted(grouped)}
