"""Are the keys of ten million samples all different? 64-bit hashes say so in 8 bytes a key."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from .where import connect


def hash_text(column: pa.ChunkedArray) -> np.ndarray:
    """Return a 64-bit hash of each text of a column, uint64 [N]. Good for one process, not for keeping."""
    table = connect().from_arrow(pa.table({"text": column}))
    return np.asarray(table.project("hash(text) AS hash").fetchnumpy()["hash"], np.uint64)


class Hashes:
    """A bag of texts, of which it keeps the hashes."""

    def __init__(self) -> None:
        self._blocks = [np.empty(0, np.uint64)]

    def add(self, column: pa.ChunkedArray) -> None:
        """Add the texts of a column."""
        self._blocks.append(hash_text(column))

    def sorted(self) -> np.ndarray:
        """Return all hashes in ascending order, uint64 [N]."""
        if len(self._blocks) > 1:
            self._blocks = [np.concatenate(self._blocks)]
            self._blocks[0].sort()
        return self._blocks[0]

    def repeated(self) -> np.ndarray:
        """Return the hashes that are there more than once."""
        hashes = self.sorted()
        return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])


def repeated_texts(repeated: np.ndarray, columns: Iterable[pa.ChunkedArray], limit: int) -> list[str]:
    """Return texts that come more than once in the columns, at most `limit`, in order of their first appearance.

    repeated: the hashes that do. Two texts may share a hash, so those that share one are compared as they are.
    """
    found: Counter[str] = Counter()
    for column in columns if len(repeated) else ():
        found.update(column.filter(pa.array(np.isin(hash_text(column), repeated[:limit]))).to_pylist())
    return [text for text, count in found.items() if count > 1]
