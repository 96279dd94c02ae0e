"""Where the records of a file of separated values end: a quoted cell may hold line breaks.

The scanner knows the states of DuckDB's strict parser: a quote opens a cell only where a cell begins, perhaps after
spaces; elsewhere it is a letter. What that parser would refuse is not noticed here.
"""

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

LF, CR, SPACE = 10, 13, 32
START, CELL, QUOTED, CLOSED, ESCAPED, COMMENT = range(6)


@numba.njit(nogil=True)
def scan(
    block: np.ndarray, state: int, after_cr: bool, delimiter: int, quote: int, escape: int, comment: int
) -> tuple[int, bool, int]:  # pragma: no cover - compiled
    """Read on through characters, given as integers [n], from a state.

    delimiter, quote, escape, comment: as integers; -1 for none. after_cr: whether a carriage return came just before.
    Returns (state at the end, whether the last character is a carriage return outside quotes, how many characters lie
    before the last known start of a record; -1 where none starts in the block).
    """
    start = -1
    for index in range(len(block)):
        character = block[index]
        if after_cr:
            after_cr = False
            if character == LF:
                start = index + 1
                continue
            start = index
        if state == QUOTED:
            if character == quote:
                state = CLOSED
            elif character == escape:
                state = ESCAPED
        elif state == ESCAPED:
            state = QUOTED
        elif character == LF:
            state, start = START, index + 1
        elif character == CR:
            state, after_cr = START, True
        elif state == COMMENT:
            pass
        elif character == delimiter:
            state = START
        elif character == comment:
            state = COMMENT
        elif state == START:
            if character == quote:
                state = QUOTED
            elif character != SPACE:
                state = CELL
        elif state == CLOSED and character == quote and quote == escape:
            state = QUOTED
    return state, after_cr, start


def starts(blocks: Iterator[np.ndarray], marks: dict[str, str]) -> tuple[list[int], bool]:
    """Return (the last place in each block, counted from the first block, where a record starts; if a quote is open).

    blocks: uint8 or uint16 [n] each, one integer a character. marks: delimiter, quote, escape and comment, one
    character each or ''.
    """
    characters: dict[str, Any] = {name: ord(mark) if mark else -1 for name, mark in marks.items()}
    state, after_cr, position, found = START, False, 0, []
    for block in blocks:
        state, after_cr, start = scan(block, state, after_cr, **characters)
        if start > 0 or (start == 0 and position):
            found.append(position + start)
        position += len(block)
    return found, state in (QUOTED, ESCAPED)
