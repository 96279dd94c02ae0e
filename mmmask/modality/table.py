"""Tables: a token a cell, attention inside a row, numbers and categories."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from shard_tools import Manifest

from ..batch import MaskPlan, Values, View
from .base import Adapter, Modality, Options

CLIP = 8.0  # deviations; beyond lie errors of entry and heavy tails that would own the loss


class TableOptions(Options):
    """How tables become tokens."""

    rows: int = Field(64, gt=0, description="rows of a block that a view reads")


class Table(Modality):
    """Cells of known value; missing ones are neither context nor target (ReMasker).

    values: `column` int [n], of the run's list of columns; `number` float [n], standardised, 0 for categories;
    `category` int [n], in the run's list of categories, −1 for numbers and missing cells.
    """

    name = "table"
    height = 2.6
    Options = TableOptions

    @staticmethod
    def describe(manifests: Sequence[Manifest]) -> dict[str, Any]:
        """Return the columns of all tables: {'columns': [{table, name, kind, mean, std, categories, mode}, …]}."""
        columns: dict[tuple[str, str], dict[str, Any]] = {}
        for manifest in manifests:
            for table, facts in manifest.statistics["tables"].items():
                for column in facts["columns"]:
                    columns.setdefault((table, column["name"]), {"table": table, **_column(column)})
        return {"columns": [column for column in columns.values() if column["kind"] != "text"]}

    def __init__(self, options: Any, spec: dict[str, Any]) -> None:
        super().__init__(options, spec)
        sizes = [len(column["categories"]) for column in spec["columns"]]
        self.first = np.cumsum([0, *sizes])  # of each column's categories in the run's list

    def view(self, sample: dict[str, Any], rng: np.random.Generator, train: bool) -> View:
        """Read some rows of the block; each row is a segment of as many cells as the table has usable columns."""
        block: pa.Table = sample["arrow"]
        table = sample["json"]["table"]
        ids = [i for i, c in enumerate(self.spec["columns"]) if c["table"] == table and c["name"] in block.column_names]
        if not ids:
            raise ValueError(f"table {table} has no column that this run knows")
        rows = min(self.options.rows, block.num_rows)
        start = int(rng.integers(block.num_rows - rows + 1)) if train else 0
        cells = [self._cells(i, block.column(self.spec["columns"][i]["name"]).slice(start, rows)) for i in ids]
        number, category, known = (np.stack(part, 1).reshape(-1) for part in zip(*cells, strict=True))
        column = np.tile(np.array(ids), rows)
        # The row says nothing by itself (blocks are shuffled) and is a segment already: only the column is a place.
        positions = np.zeros((len(column), 3), np.float32)
        positions[:, 2] = np.tile(np.arange(len(ids)), rows)
        return View(
            values={
                "column": torch.from_numpy(column),
                "number": torch.from_numpy(number),
                "category": torch.from_numpy(category),
            },
            positions=torch.from_numpy(positions),
            extent=torch.ones(len(column), 3),
            segments=np.full(rows, len(ids)),
            readable=known,
            askable=known,
            canvas={"rows": rows, "names": [self.spec["columns"][i]["name"] for i in ids]},
        )

    def _cells(self, index: int, values: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (standardised number, category, known) of one column's cells; an unseen category is not known."""
        column = self.spec["columns"][index]
        number, category = np.zeros(len(values), np.float32), np.full(len(values), -1)
        if column["kind"] == "category":
            lookup = {name: self.first[index] + i for i, name in enumerate(column["categories"])}
            category = np.array([lookup.get(value, -1) for value in values.to_pylist()])
            return number, category, category >= 0
        time = pa.types.is_timestamp(values.type)
        raw = (values.cast(pa.int64()) if time else values).cast(pa.float64(), safe=False).to_numpy()
        raw = raw / 1e6 if time else raw  # microseconds as stored, seconds in the statistics
        known = np.isfinite(raw)
        number[known] = np.clip((raw[known] - column["mean"]) / column["std"], -CLIP, CLIP)
        return number, category, known

    def nothing(self) -> Values:
        """Return no cells."""
        integer = torch.zeros(0, dtype=torch.int64)
        return {"column": integer, "number": torch.zeros(0), "category": integer}

    def adapter(self, dim: int, width: int) -> "TableAdapter":
        """Return a tokenizer and head over the run's columns and categories."""
        return TableAdapter(self.spec["columns"], self.first, dim, width)

    def draw(self, axes: Sequence[Any], view: View, plan: MaskPlan, truth: Values, guess: Values) -> None:
        """Show cells as a heat map, numbers by deviation, categories by rank: the input, what was read, the filled."""
        shown = truth["number"].clone()
        is_category = truth["category"] >= 0
        local = truth["category"] - torch.from_numpy(self.first)[truth["column"]]
        shown[is_category] = _rank(local[is_category])
        shown[~torch.from_numpy(view.readable)] = torch.nan
        query = torch.from_numpy(plan.query)
        masked, filled = shown.clone(), shown.clone()
        masked[query] = torch.nan
        asked_category = is_category[query]
        answer = guess["number"].clone()
        first = torch.from_numpy(self.first)[truth["column"][query]]
        answer[asked_category] = _rank((guess["category"].argmax(1) - first)[asked_category])
        filled[query] = answer.to(filled.dtype)
        for ax, cells in zip(axes, (shown, masked, filled), strict=True):
            heat = cells.unflatten(0, (view.canvas["rows"], -1))
            ax.imshow(heat, aspect="auto", cmap="coolwarm", vmin=-2.5, vmax=2.5, interpolation="nearest")
            ax.set(xticks=[], yticks=[], facecolor="0.25")


class TableAdapter(Adapter):
    """Column embedding + value: a number scales a direction of its column, a category has a vector of its own."""

    def __init__(self, columns: list[dict[str, Any]], first: np.ndarray, dim: int, width: int) -> None:
        super().__init__()
        total = max(int(first[-1]), 1)
        self.column = nn.Embedding(len(columns), dim)
        self.direction = nn.Embedding(len(columns), dim)
        self.category = nn.Embedding(total, dim)
        self.asked = nn.Embedding(len(columns), width)
        self.answer = nn.Embedding(len(columns), width)
        self.bias = nn.Embedding(len(columns), 1)
        self.logits = nn.Linear(width, total)
        for embedding in (self.column, self.direction, self.category, self.asked, self.answer):
            nn.init.normal_(embedding.weight, std=0.5)
        nn.init.zeros_(self.bias.weight)
        owner = np.repeat(np.arange(len(columns)), np.diff(first))
        mode = [int(first[i]) + int(c["mode"]) if c["categories"] else -1 for i, c in enumerate(columns)]
        self.register_buffer("owner", torch.from_numpy(owner if len(owner) else np.array([-1])), persistent=False)
        self.register_buffer("mode", torch.tensor(mode), persistent=False)

    def tokenize(self, values: Values) -> Float[Tensor, "n d"]:
        """Embed a cell's value; where it stands is `place`'s."""
        number = values["number"].float()[:, None] * self.direction(values["column"])
        is_category = (values["category"] >= 0)[:, None]
        return torch.where(is_category, self.category(values["category"].clamp(min=0)), number)

    def place(self, values: Values) -> Float[Tensor, "n d"]:
        """Embed the column."""
        return self.column(values["column"])

    def ask(self, values: Values) -> Float[Tensor, "n w"]:
        """Embed the column for the decoder."""
        return self.asked(values["column"])

    def predict(self, decoded: Float[Tensor, "q w"], values: Values) -> Values:
        """Return a number, and logits over the categories of the query's own column."""
        column = values["column"]
        number = (decoded * self.answer(column)).sum(1) / decoded.shape[1] ** 0.5 + self.bias(column)[:, 0]
        logits = self.logits(decoded).float().masked_fill(self.owner != column[:, None], -1e9)
        return {"number": number.float(), "category": logits}

    def loss(self, predictions: Values, values: Values) -> Float[Tensor, " q"]:
        """Return squared error of numbers, cross-entropy of categories."""
        squared = (predictions["number"] - values["number"].float()).square()
        entropy = F.cross_entropy(predictions["category"], values["category"].clamp(min=0), reduction="none")
        return torch.where(values["category"] >= 0, entropy, squared)

    def decode(self, predictions: Values) -> Values:
        """Return standardised numbers and category probabilities."""
        return {"number": predictions["number"], "category": predictions["category"].softmax(1)}

    def truth(self, values: Values) -> Values:
        """Return standardised numbers and categories as integers, with the column of each."""
        return {name: values[name] for name in ("number", "category", "column")}

    def trivial(self, context: Values, values: Values) -> Values:
        """Return the column's training mean (0, standardised) or mode."""
        mode = self.mode[values["column"]].clamp(min=0)
        return {"number": torch.zeros_like(values["number"]), "category": F.one_hot(mode, len(self.owner)).float()}

    def errors(self, guess: Values, truth: Values) -> dict[str, Float[Tensor, " q"]]:
        """Return squared error of numbers in deviations, and 1 for each wrong category, 0 for a right one."""
        is_category = truth["category"] >= 0
        squared = (guess["number"] - truth["number"]).square().masked_fill(is_category, torch.nan)
        wrong = (guess["category"].argmax(1) != truth["category"]).float().masked_fill(~is_category, torch.nan)
        return {"numbers": squared, "categories": wrong}


def _column(column: dict[str, Any]) -> dict[str, Any]:
    """Return what the trainer needs of a manifest's column."""
    counts = column.get("counts") or []
    return {
        "name": column["name"],
        "kind": column["kind"],
        "mean": column.get("mean", 0.0),
        "std": max(column.get("std", 1.0), 1e-9),
        "categories": column.get("categories") or [],
        "mode": int(np.argmax(counts)) if counts else 0,
    }


def _rank(index: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Spread category ranks over −2..2 for the heat map."""
    return (index.float() % 5) - 2
