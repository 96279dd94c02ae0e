"""Corruptions: what the encoder gets in place of a hidden token.

A corruption says whether hidden tokens enter the encoder at all (`keeps_hidden`) and what they look like there:
forward(tokens [n, d], gate [n] of 1 where a token is read as it is and 0 where it is hidden) → tokens [n, d].
"""

from torch import nn

from .drop import Drop
from .mask_token import MaskToken

CORRUPTIONS: dict[str, type[nn.Module]] = {"drop": Drop, "mask_token": MaskToken}
