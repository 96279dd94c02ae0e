"""`pipelines.tables.records`: where the records of separated values start. The first byte sets quote and block size."""

import csv
import io
from itertools import pairwise

import numpy as np

from pipelines.tables.records import starts

SEEDS = [
    b'\0a,b\n1,"x\ny"\n2,z\r\n3,""\n',
    b"\1a;b\r1;2\r3;4",
    b'\2"a""b",c\n"d\n\n',
    b'\3#comment "\nx, "y\nz"\n',
]


def check(data: bytes) -> None:
    """Cut anywhere, a text has the same records; and they are those of Python's csv where both mean the same."""
    head, text = (data or b"\0")[0], np.frombuffer(data[1:], np.uint8)
    quote = "" if head & 1 else '"'
    marks = {"delimiter": ",", "quote": quote, "escape": quote, "comment": "#" if head & 2 else ""}
    single, is_open = starts(iter(text.reshape(-1, 1)), marks)
    assert single == sorted(set(single)) and all(0 < start <= len(text) for start in single)
    size = 1 + head // 4
    cut, is_open_too = starts((text[first : first + size] for first in range(0, len(text), size)), marks)
    assert is_open == is_open_too
    assert set(cut) <= set(single) | {0}, "a record that starts by where the text was cut"
    if not is_open and quote and not head & 2 and b" " not in data and b"\0" not in data[1:]:
        _against_csv(data[1:].decode("latin-1"), single)


def _against_csv(text: str, places: list[int]) -> None:
    try:
        whole = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error:  # DuckDB's strict parser refuses it, too
        return
    bounds = [0, *places, len(text)]
    pieces = [text[first:last] for first, last in pairwise(bounds)]
    assert [row for piece in pieces for row in csv.reader(io.StringIO(piece, newline="")) if row] == whole
