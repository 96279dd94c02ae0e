"""Targets of dense tokens: what is to be predicted of a standardised patch, and back to values.

A target maps patches [n, k] to what the head must say [n, width(k)], and such answers back to patches.
"""

from .normalised import Normalised
from .values import Values

TARGETS = {"values": Values, "normalised": Normalised}
