"""Losses: a list of terms, each of which may read any signal of the forward pass.

A term maps Signals to {modality: weighted sum over its targets}; the loop divides by the global count of targets and
weighs modalities and terms. The elementwise errors beside this file are what terms and heads are made of.
"""

from torch import nn

from .latents import Latents
from .reconstruction import Reconstruction

LOSSES: dict[str, type[nn.Module]] = {"reconstruction": Reconstruction, "latents": Latents}
