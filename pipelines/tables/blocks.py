"""What stands in the blocks of a table's rows, for all of them at once: moments of numbers, counts of texts.

A block begins where the rows of the one before it, and rows of nulls, have ended.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.compiled import compiled
from pipelines.statistics import whole

from .source import FLOAT32_MAX

LISTED_VALUES = 200  # distinct values of a column that a block lists; more than this in 256 rows is free text
LISTED_LENGTH = 256  # characters; a longer value is free text


def moments(
    columns: Sequence[np.ndarray], starts: np.ndarray
) -> tuple[dict[str, list[list[Any]]], list[tuple[np.ndarray, np.ndarray]]]:
    """Return (count, sum, sum of squares, min and max of what is known: for each block a list of a number a column;
    for each column its values, with 0 where they are not known, float64 [rows], and which are: a bit a row, the lowest
    first, uint8 [rows / 8]).

    columns: float64 [rows] each; not known are NaN, infinity and what is beyond float32. starts: of the blocks, int64
    [blocks]. Sums are as `statistics.whole` has them.
    """
    found: dict[str, list[np.ndarray]] = {key: [] for key in ("count", "sum", "square", "min", "max")}
    zeroed = []
    for column in columns:
        values = np.require(column, requirements="W")
        count, least, most, known = _known(values, np.append(starts, len(values)))
        sums = (np.array(whole(np.add.reduceat(own, starts).tolist()), object) for own in (values, values * values))
        for key, own in zip(found, (count, *sums, least, most), strict=True):
            found[key].append(own)
        zeroed.append((values, known))
    return {key: np.reshape(own, (len(columns), len(starts))).T.tolist() for key, own in found.items()}, zeroed


def text_counts(
    columns: Sequence[pa.DictionaryArray], starts: np.ndarray
) -> tuple[np.ndarray, Iterator[dict[str, int] | None]]:
    """Return (how many cells are known: int64 [blocks, columns]; how often each value stands in a column of a block,
    None for free text: of the first block, one column after the other, then of the next).

    columns: of one dictionary.
    """
    if not columns:
        return np.zeros((len(starts), 0), np.int64), iter(())
    texts = columns[0].dictionary
    is_long = pc.greater(pc.utf8_length(texts), LISTED_LENGTH).to_numpy(zero_copy_only=False)
    codes = np.stack([column.indices.fill_null(-1) for column in columns])
    found, counts, known, ends = _distinct(codes, np.append(starts, codes.shape[1]), is_long, LISTED_VALUES)
    return known, _listed(_values(texts, found), counts.tolist(), ends.ravel().tolist())


def _listed(values: list[str], counts: list[int], ends: list[int]) -> Iterator[dict[str, int] | None]:
    """Yield how often each value stands up to an end; None where that is -1."""
    start = 0
    for end in ends:
        if end < 0:
            yield None
        else:
            yield dict(zip(values[start:end], counts[start:end], strict=True))
            start = end


def _values(texts: pa.Array, codes: np.ndarray) -> list[Any]:
    """Return the texts that codes stand for."""
    is_used = np.zeros(len(texts), bool)
    is_used[codes] = True
    values = np.full(len(texts), None)
    values[is_used] = texts.filter(pa.array(is_used)).to_pylist()
    return values[codes].tolist()


@compiled("Tuple((int64[::1], float64[::1], float64[::1], uint8[::1]))(float64[::1], int64[::1])")
def _known(values: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return count, min and max of the values known between two edges, [n] each, and which are: bits [rows / 8].

    values: [rows]; the rest become 0. edges: [n + 1]. Of zeros of both signs the first is the min or max.
    """
    count = np.zeros(len(edges) - 1, np.int64)
    least, most = np.full(len(count), np.inf), np.full(len(count), -np.inf)
    bits = np.zeros(len(values) // 8, np.uint8)
    values[: edges[0]] = 0.0
    for number in range(len(count)):
        for row in range(edges[number], edges[number + 1]):
            value = values[row]
            if abs(value) <= FLOAT32_MAX:
                bits[row >> 3] |= np.uint8(1 << (row & 7))
                count[number] += 1
                least[number], most[number] = min(least[number], value), max(most[number], value)
            else:
                values[row] = 0.0
    return count, least, most, bits


@compiled(
    "Tuple((int32[::1], int32[::1], int64[:, ::1], int64[:, ::1]))(int32[:, ::1], int64[::1], boolean[::1], int64)"
)
def _distinct(
    codes: np.ndarray, edges: np.ndarray, is_long: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (the distinct codes of each column between two edges, one column after the other, then between the next;
    how often each stands there; how many rows have one, [n, columns]; where those of a column end, [n, columns]: -1
    for more than `most` or a long one, of which none are kept).

    codes: [columns, rows], -1 for none. edges: [n + 1]. is_long: whether the text of a code is.
    """
    found, counts = np.empty(codes.size, np.int32), np.empty(codes.size, np.int32)
    known = np.zeros((len(edges) - 1, len(codes)), np.int64)
    ends = np.empty_like(known)
    seen = np.zeros(len(is_long), np.int32)
    first = 0
    for number in range(len(edges) - 1):
        for column in range(len(codes)):
            end, is_listed = first, True
            for row in range(edges[number], edges[number + 1]):
                code = codes[column, row]
                if code < 0:
                    continue
                if seen[code] == 0:
                    found[end] = code
                    end += 1
                    is_listed &= not is_long[code]
                seen[code] += 1
                known[number, column] += 1
            for place in range(first, end):
                counts[place] = seen[found[place]]
                seen[found[place]] = 0
            is_listed &= end - first <= most
            ends[number, column] = end if is_listed else -1
            first = end if is_listed else first
    return found[:first], counts[:first], known, ends
