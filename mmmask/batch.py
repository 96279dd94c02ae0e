"""The one currency between collate and loss: views, mask plans, packed token batches, encoder outputs.

Sizes in the shape strings: n tokens of a view or pack, c context tokens, q queries, s attention segments, d width.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Values = dict[str, Tensor]  # a modality's own arrays, first axis: tokens


@dataclass(slots=True)
class View:
    """One view of one sample, cut into tokens; what a modality gives to the loader.

    values: first axis n; stays in the payload's own type (uint8 pixels), normalised on the device.
    positions, extent: centre and size of each token in lattice units (t,y,x · x,y,z · 0,t,f · 0,0,column).
    segments: lengths of the attention segments, in token order; their sum is n. One a view, but for a table one a row.
    readable: may be context. askable: may be a query. A missing cell is neither, a fake voxel only askable.
    layers: mask layers, a value a token.
    canvas: what drawing the view needs to know (grid shape, origin, row count, …).
    """

    values: Values
    positions: Float[Tensor, "n 3"]
    extent: Float[Tensor, "n 3"]
    segments: Int[np.ndarray, " s"]
    readable: Bool[np.ndarray, " n"]
    askable: Bool[np.ndarray, " n"]
    layers: dict[str, Float[np.ndarray, " n"]] = field(default_factory=dict)
    canvas: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(slots=True)
class MaskPlan:
    """Which tokens are read, which places are asked, and how much each answer counts.

    context, query: indices into the tokens of a view (or pack), each sorted. weight: 0 for a place that is asked but
    not scored; the targets are the queries of weight above 0. Tokens in neither are dropped from both sides.
    """

    context: Int[np.ndarray, " c"]
    query: Int[np.ndarray, " q"]
    weight: Float[np.ndarray, " q"]


class Segments:
    """Which tokens of a packed sequence attend to one another.

    segment: id of each token, any order. Tokens are grouped by the length of their segment, so that attention is dense
    inside a group: no padding, and one call where all lengths are equal.
    """

    def __init__(self, segment: Int[np.ndarray, " n"]) -> None:
        self.size = len(segment)
        order = np.argsort(segment, kind="stable")
        lengths = np.unique(segment, return_counts=True)[1]
        starts = np.cumsum(lengths) - lengths
        self.groups = [
            torch.from_numpy(order[starts[lengths == length][:, None] + np.arange(length)])
            for length in np.unique(lengths)
        ]

    @cached_property
    def dense(self) -> int:
        """The number of segments where all have equal length and tokens stand in order; otherwise 0."""
        one = len(self.groups) == 1
        return len(self.groups[0]) if one and bool((self.groups[0].flatten().diff() == 1).all()) else 0

    def to(self, device: torch.device) -> "Segments":
        """Move the index tensors to a device, in place."""
        _ = self.dense
        self.groups = [group.to(device, non_blocking=True) for group in self.groups]
        return self


@dataclass(slots=True)
class Span:
    """Where one modality stands in a pack: its tokens' values, and which of them are context and queries.

    Context and queries of a modality are contiguous in the pack's context and query sequences.
    """

    values: Values
    context: Int[Tensor, " c"]
    query: Int[Tensor, " q"]

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def at(self, rows: Int[Tensor, " k"]) -> Values:
        """Return the values of some of its tokens."""
        return {name: value[rows] for name, value in self.values.items()}


@dataclass(slots=True)
class TokenBatch:
    """A pack: the tokens of several views of any modalities, with the plan that masks them.

    spans: one a modality of the run, in a fixed order, present also where it has no token (it then runs on zero rows).
    context, query: indices into the n tokens, ordered by modality. weight: see MaskPlan.
    segment: attention segment of each token. read: those of the context; decode: of context, then queries.
    views, plans: the parts of the pack, a list a modality; kept only when asked for (drawing, trivial predictors).
    """

    spans: dict[str, Span]
    positions: Float[Tensor, "n 3"]
    extent: Float[Tensor, "n 3"]
    modality: Int[Tensor, " n"]
    layers: dict[str, Float[Tensor, " n"]]
    segment: Int[np.ndarray, " n"]
    context: Int[Tensor, " c"]
    query: Int[Tensor, " q"]
    weight: Float[Tensor, " q"]
    read: Segments
    decode: Segments
    targets: dict[str, float]  # sum of the weights, a modality
    keys: list[str]
    dropped: list[str]  # samples of the pack that could not be read, with the reason
    views: dict[str, list[View]] = field(default_factory=dict)
    plans: dict[str, list[MaskPlan]] = field(default_factory=dict)

    def queries(self) -> Iterator[tuple[str, slice]]:
        """Yield each modality's name and where its queries stand in the query sequence."""
        start = 0
        for name, span in self.spans.items():
            yield name, slice(start, start + len(span.query))
            start += len(span.query)

    def to(self, device: torch.device) -> "TokenBatch":
        """Move all tensors to a device, in place."""
        for span in self.spans.values():
            span.values = {name: value.to(device, non_blocking=True) for name, value in span.values.items()}
            span.context, span.query = span.context.to(device), span.query.to(device)
        for name in ("positions", "extent", "modality", "context", "query", "weight", "read", "decode"):
            setattr(self, name, getattr(self, name).to(device))
        self.layers = {name: value.to(device) for name, value in self.layers.items()}
        return self


@dataclass(slots=True)
class EncoderOutput:
    """What an encoder gives: its last tokens and, for those who ask, the inner maps and attention."""

    latents: Float[Tensor, "c d"]
    maps: list[Float[Tensor, "c d"]] = field(default_factory=list)
    attention: list[Tensor] = field(default_factory=list)


@dataclass(slots=True)
class Signals:
    """Everything a loss may read of one forward pass."""

    batch: TokenBatch
    encoded: EncoderOutput
    decoded: Float[Tensor, "q d"]
    predictions: dict[str, Values]  # a modality's own answers at its queries
    teachers: dict[str, Float[Tensor, "q k"]] = field(default_factory=dict)
