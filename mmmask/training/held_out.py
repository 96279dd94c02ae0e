"""Masked error on held-out samples, in value space, beside a trivial predictor's."""

from typing import Any

import torch

from ..batch import Values
from ..data.stream import Packs
from ..model import MaskedAutoencoder

PER_PACK = 8


@torch.inference_mode()
def reconstruct(
    model: MaskedAutoencoder, packs: Packs, name: str, places: list[int], number: int = 0
) -> list[dict[str, Any]]:
    """Return one dict a sample: view, plan, truth of all tokens, guess and trivial guess of the queries, key.

    Masks depend on `number` and the place in the list alone. Everything is on the CPU, in value space.
    """
    device = next(model.parameters()).device
    batch = packs.pack({name: places}, number, keep_views=True).to(device)
    for dropped in batch.dropped:
        print(f"dropped {dropped}", flush=True)
    predictions = model(batch).predictions[name]
    adapter, span = model.adapters[name], batch.spans[name]
    guess, truth = adapter.decode(predictions), adapter.truth(span.values)
    results, token, query = [], 0, 0
    for view, plan, key in zip(batch.views[name], batch.plans[name], batch.keys, strict=True):
        own = slice(token, token + len(view))
        values = {k: v[own] for k, v in span.values.items()}
        context, asked = torch.from_numpy(plan.context).to(device), torch.from_numpy(plan.query).to(device)
        trivial = adapter.trivial({k: v[context] for k, v in values.items()}, {k: v[asked] for k, v in values.items()})
        results.append(
            {
                "view": view,
                "plan": plan,
                "key": key,
                "truth": _cpu({k: v[own] for k, v in truth.items()}),
                "guess": _cpu({k: v[query : query + len(asked)] for k, v in guess.items()}),
                "trivial": _cpu(trivial),
            }
        )
        token += len(view)
        query += len(asked)
    return results


def masked_errors(model: MaskedAutoencoder, packs: Packs, count: int) -> dict[str, Any]:
    """Return {'modalities': {name: {error, trivial_error, error_ratio, samples, parts}}}, of `count` samples each.

    parts: the same three numbers for each kind of error of a modality; `error` is their sum. A modality without
    readable samples is left out.
    """
    was_training = model.training
    model.eval()
    results = {}
    for name, source in packs.sources.items():
        sums: dict[str, list[float]] = {}
        samples = 0
        places = spread(len(source), count)
        adapter = model.adapters[name]
        for start in range(0, len(places), PER_PACK):
            for result in reconstruct(model, packs, name, places[start : start + PER_PACK], start):
                samples += 1
                query = torch.from_numpy(result["plan"].query)
                truth = {k: v.to(_device(adapter)) for k, v in result["truth"].items()}
                asked = {k: v[query.to(v.device)] for k, v in truth.items()}
                for column, who in enumerate(("guess", "trivial")):
                    told = {k: v.to(_device(adapter)) for k, v in result[who].items()}
                    for part, errors in adapter.errors(told, asked).items():
                        known = errors[errors.isfinite()]
                        entry = sums.setdefault(part, [0.0, 0.0, 0.0])
                        entry[column] += known.sum().item()
                        entry[2] += len(known) * (column == 0)
        if samples:
            parts = {part: _row(a / n, b / n) for part, (a, b, n) in sums.items() if n}
            whole = _row(sum(p["error"] for p in parts.values()), sum(p["trivial_error"] for p in parts.values()))
            results[name] = {**whole, "samples": samples, "parts": parts}
    model.train(was_training)
    return {"modalities": results}


def spread(size: int, count: int) -> list[int]:
    """Return up to `count` places spread evenly over 0..size−1."""
    return sorted({int(i * size / min(count, size)) for i in range(min(count, size))})


def _row(error: float, trivial: float) -> dict[str, float]:
    return {"error": error, "trivial_error": trivial, "error_ratio": error / max(trivial, 1e-12)}


def _cpu(values: Values) -> Values:
    return {name: value.float().cpu() if value.is_floating_point() else value.cpu() for name, value in values.items()}


def _device(module: torch.nn.Module) -> torch.device:
    return next(module.parameters()).device
