"""Choose samples of a data set: by a condition, by chance, by what they are. Each choice is a pure function of them."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from .errors import Misuse
from .scan import scan
from .schema import Shard
from .selection import Selection
from .where import Condition

FOLDERS = 1000  # more data sets than this are no split but a mistake
UNNAMED = "none"


def fulfilling(whole: Selection, expression: str) -> Selection:
    """Return the samples that fulfil a condition, see `where.Condition`. Raises Misuse."""
    condition = Condition(expression, whole.manifest)
    return whole.like([condition.rows(index, shard) for shard, index in _scan(whole)])


def by_chance(whole: Selection, count: int, seed: int) -> Selection:
    """Return `count` samples: those whose keys have the least hashes, so fewer are always a part of more.

    Raises Misuse when there are not so many.
    """
    if count > len(whole):
        raise Misuse(f"{whole.storage.root}: has {len(whole)} samples, not {count}")
    draws = np.concatenate([_draw(index["key"], seed) for _, index in _scan(whole)])
    chosen = np.zeros(len(draws), bool)
    chosen[np.argsort(draws, kind="stable")[:count]] = True
    return whole.where(chosen)


def by_shares(whole: Selection, shares: Sequence[float], seed: int) -> dict[str, Selection]:
    """Return part-0, part-1 …: these shares of the samples, in hash order of their groups, which are never torn.

    shares: in percent; what is missing to 100 is a last part. Raises Misuse for more than 100, and for a share that
    gets no sample.
    """
    if sum(shares) > 100 + 1e-9 or min(shares) <= 0:
        raise Misuse(f"shares of {sum(shares):g}%: each is more than 0%, and together they are at most 100%")
    parts = [*shares, 100 - sum(shares)] if sum(shares) < 100 - 1e-9 else list(shares)
    draws = np.concatenate([_draw(index["group"], seed) for _, index in _scan(whole)])
    order = np.sort(draws)
    middle = (np.searchsorted(order, draws, "left") + np.searchsorted(order, draws, "right")) / 2 / max(len(draws), 1)
    drawn = np.searchsorted(np.cumsum(parts)[:-1] / 100, middle, "right")
    selections = {f"part-{number}": whole.where(drawn == number) for number in range(len(parts))}
    for (name, selection), share in zip(selections.items(), parts, strict=True):
        if not len(selection):
            raise Misuse(f"{whole.storage.root}: {name} of {share:g}% gets no sample: there are too few groups")
    return selections


def by_value(whole: Selection, column: str) -> dict[str, Selection]:
    """Return the samples of each value of `split`, `label` or `group`, by a name of a folder made of it.

    Raises Misuse where there are too many values.
    """
    rows: dict[str, list[np.ndarray]] = {}
    shards = len(whole.rows)
    for number, (_, index) in enumerate(_scan(whole)):
        encoded = index[column].combine_chunks().dictionary_encode()
        codes = encoded.indices.to_numpy()
        for code, value in enumerate(encoded.dictionary.to_pylist()):
            if value not in rows:
                rows[value] = [np.empty(0, np.int64)] * shards
            rows[value][number] = np.flatnonzero(codes == code)
        if len(rows) > FOLDERS:
            raise Misuse(f"--by {column}: more than {FOLDERS} of them; each would be a data set")
    names = _folders(sorted(rows))
    return {names[value]: whole.like(rows[value]) for value in sorted(rows)}


def _folders(values: Sequence[str]) -> dict[str, str]:
    """Return a name of a folder for each text, without what could lead out of one, and no two alike."""
    names, taken = {}, Counter[str]()
    for value in values:
        slug = re.sub(r"[^a-z0-9_]+", "-", value.lower()).strip("-")[:60] or UNNAMED
        name = slug
        while taken[name]:
            taken[slug] += 1
            name = f"{slug}-{taken[slug]}"
        taken[name] += 1
        names[value] = name
    return names


def _scan(selection: Selection) -> Iterator[tuple[Shard, pa.Table]]:
    return scan(selection.storage, selection.manifest, selection.manifest.shards)


def _draw(column: pa.ChunkedArray, seed: int) -> np.ndarray:
    """Return a number for each text that is as good as drawn by chance, uint64 [N]; equal texts have equal ones."""
    encoded = column.combine_chunks().dictionary_encode()
    draws = [
        int.from_bytes(hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=8).digest(), "big")
        for text in encoded.dictionary.to_pylist()
    ]
    return np.array(draws, np.uint64)[encoded.indices.to_numpy()]
