"""Which sample comes when: a pure function of the seed and the position, whatever the ranks and workers."""

import numpy as np
from jaxtyping import Int

WINDOW = 16  # shards that are shuffled into one another


def epoch_order(shards: Int[np.ndarray, " s"], seed: int, epoch: int) -> Int[np.ndarray, " n"]:
    """Return the samples 0..n−1 of one epoch: shards permuted, then samples shuffled inside windows of shards.

    shards: number of samples of each, in index order. A window keeps reads near one another on slow storage.
    """
    rng = np.random.default_rng([seed, epoch])
    permuted = rng.permutation(len(shards))
    starts = np.cumsum(shards) - shards
    windows = [permuted[i : i + WINDOW] for i in range(0, len(permuted), WINDOW)]
    samples = [np.concatenate([starts[s] + np.arange(shards[s]) for s in window]) for window in windows]
    return np.concatenate([rng.permutation(window) for window in samples])


class Order:
    """An endless walk over a data set, epoch after epoch; any position in constant time once its epoch is known."""

    def __init__(self, shards: Int[np.ndarray, " s"], seed: int) -> None:
        self.shards = np.asarray(shards)
        self.seed = seed
        self.size = int(self.shards.sum())
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def __getitem__(self, position: int) -> int:
        """Return the sample at a position of the walk."""
        epoch, place = divmod(position, self.size)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(self.shards, self.seed, epoch)
        return int(self._order[place])
