"""Functions compiled by Numba before the first input comes."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(*signatures: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function for these types now, not under an input's deadline, or take it from Numba's cache.

    The cache lies beside the function's own file, otherwise in the user's cache folder. Where neither can be written,
    every process compiles anew.
    """

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return njit(list(signatures), cache=True)(function)
        except (RuntimeError, OSError):  # no such folder; or it is full
            return njit(list(signatures))(function)

    return compile_
