"""Views and their plans → one packed TokenBatch."""

from collections.abc import Sequence

import numpy as np
import torch

from ..batch import MaskPlan, Segments, Span, TokenBatch, Values, View


def collate(
    views: dict[str, list[View]],
    plans: dict[str, list[MaskPlan]],
    empty: dict[str, Values],
    keys: Sequence[str] = (),
    dropped: Sequence[str] = (),
    keep_views: bool = False,
) -> TokenBatch:
    """Pack views end to end, modality by modality.

    views, plans: a list a modality, in the run's order. empty: values of zero tokens, where that list is empty.
    """
    tokens, segments, spans, context, query, weight, targets = 0, 0, {}, [], [], [], {}
    segment: list[np.ndarray] = []
    for name, of_modality in views.items():
        first, inside = tokens, 0
        rows_context, rows_query, weights = [], [], []
        for view, plan in zip(of_modality, plans[name], strict=True):
            rows_context.append(plan.context + inside)
            rows_query.append(plan.query + inside)
            weights.append(plan.weight)
            segment.append(np.repeat(np.arange(len(view.segments)) + segments, view.segments))
            inside += len(view)
            segments += len(view.segments)
        in_context, in_query = _join(rows_context), _join(rows_query)
        values = (
            {k: torch.cat([view.values[k] for view in of_modality]) for k in of_modality[0].values}
            if of_modality
            else empty[name]
        )
        spans[name] = Span(values, torch.from_numpy(in_context), torch.from_numpy(in_query))
        context.append(in_context + first)
        query.append(in_query + first)
        weight += weights
        targets[name] = float(sum(w.sum() for w in weights))
        tokens += inside

    every = [view for of_modality in views.values() for view in of_modality]
    ids, c, q = _join(segment), _join(context), _join(query)
    modality = np.repeat(np.arange(len(views)), [sum(map(len, of_modality)) for of_modality in views.values()])
    return TokenBatch(
        spans=spans,
        positions=torch.cat([torch.zeros(0, 3), *(view.positions for view in every)]),
        extent=torch.cat([torch.ones(0, 3), *(view.extent for view in every)]),
        modality=torch.from_numpy(modality),
        layers=_layers(every),
        segment=ids,
        context=torch.from_numpy(c),
        query=torch.from_numpy(q),
        weight=torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *weight])),
        read=Segments(ids[c]),
        decode=Segments(np.concatenate([ids[c], ids[q]])),
        targets=targets,
        keys=list(keys),
        dropped=list(dropped),
        views=views if keep_views else {},
        plans=plans if keep_views else {},
    )


def _join(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _layers(views: list[View]) -> dict[str, torch.Tensor]:
    """Return every layer's value a token of the pack; NaN where a view does not have the layer."""
    names = sorted({name for view in views for name in view.layers})
    return {
        name: torch.from_numpy(
            np.concatenate([view.layers.get(name, np.full(len(view), np.nan)).astype(np.float32) for view in views])
        )
        for name in names
    }
