"""Held-out errors: in value space, beside a trivial predictor worked out here again, from nothing that is hidden."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from nano import equal, make_network, make_packs
from test_mmmask_model import scramble

import shard_tools
from mmmask.batch import TokenBatch
from mmmask.data.stream import Packs
from mmmask.training.held_out import masked_errors, reconstruct, spread


@pytest.fixture(scope="module")
def packs(built: dict[str, Path]) -> Packs:
    return make_packs(built, train=False)


def results_of(packs: Packs, name: str, count: int) -> list[dict[str, Any]]:
    places = spread(len(packs.sources[name]), count)
    return reconstruct(make_network(packs).model.eval(), packs, name, places)


def test_every_modality_has_its_row(packs: Packs) -> None:
    model = make_network(packs).model
    rows = masked_errors(model, packs, 2)["modalities"]
    assert list(rows) == list(packs.modalities) and model.training
    for row in rows.values():
        assert row["samples"] == 2
        assert np.isclose(row["error"], sum(part["error"] for part in row["parts"].values()))
        assert np.isclose(row["error_ratio"], row["error"] / row["trivial_error"])
        assert all(np.isfinite([part["error"], part["trivial_error"]]).all() for part in row["parts"].values())
    assert masked_errors(model, packs, 2)["modalities"] == rows, "the same masks every time"


def test_trivial_error_of_images_is_that_of_the_mean_visible_patch(packs: Packs) -> None:
    told = masked_errors(make_network(packs).model, packs, 3)["modalities"]["image"]["trivial_error"]
    squares, seen = 0.0, 0
    for result in results_of(packs, "image", 3):
        patches = result["view"].values["patch"].numpy() / 255
        plan = result["plan"]
        visible, hidden = patches[plan.context], patches[plan.query]
        assert len(visible) + len(hidden) == 16 and len(hidden) == 12
        squares += ((hidden - visible.mean(0)) ** 2).sum()
        seen += hidden.size
    assert np.isclose(told, squares / seen, rtol=1e-5)


def test_trivial_error_of_tables_is_that_of_the_training_columns(built: dict[str, Path]) -> None:
    packs = make_packs({"table": built["table"]}, "modalities.table.view.rows=48", train=False)
    told = masked_errors(make_network(packs).model, packs, 4)["modalities"]["table"]
    data = shard_tools.open(built["table"], "val")
    squares: list[float] = []
    wrong: list[bool] = []
    for result in results_of(packs, "table", 4):
        sample = data.get(result["key"].rsplit(": ", 1)[1])
        facts = data.manifest.statistics["tables"][sample["json"]["table"]]["columns"]
        columns = {column["name"]: column for column in facts}
        names = result["view"].canvas["names"]
        for query in result["plan"].query:
            column = columns[names[query % len(names)]]
            value = sample["arrow"][column["name"]][int(query) // len(names)].as_py()
            if column["kind"] == "category":
                wrong.append(value != column["categories"][int(np.argmax(column["counts"]))])
            elif column["kind"] == "number":
                squares.append(min(abs(value - column["mean"]) / max(column["std"], 1e-9), 8) ** 2)
    assert len(squares) > 50 and len(wrong) > 20
    assert np.isclose(told["parts"]["numbers"]["trivial_error"], np.mean(squares), rtol=1e-4)
    assert np.isclose(told["parts"]["categories"]["trivial_error"], np.mean(wrong), rtol=1e-6)


def test_trivial_answer_of_sweeps_is_the_mean_of_the_visible_voxels(packs: Packs) -> None:
    for result in results_of(packs, "lidar", 2):
        values, context = result["view"].values, result["plan"].context
        cells = values["cells"].numpy()[context]
        points = values["points"].numpy()[context][values["valid"].numpy()[context]][:, :3]
        assert np.allclose(result["trivial"]["cells"], cells.mean(0))
        assert np.allclose(result["trivial"]["points"], points.mean(0), atol=1e-5)


class Scrambled(Packs):
    """Packs whose hidden tokens hold something else."""

    def pack(self, *arguments: Any, **more: Any) -> TokenBatch:
        """Return the pack after its queries' truth is changed."""
        pack = super().pack(*arguments, **more)
        for name, span in pack.spans.items():
            scramble(pack, name, span.query)
        return pack


def test_guesses_use_nothing_that_is_hidden(built: dict[str, Path]) -> None:
    normalised = [f"modalities.{name}.view.target=normalised" for name in ("image", "video", "audio")]
    packs = make_packs(built, *normalised, train=False)
    others = Scrambled(packs.config, packs.sources, packs.modalities, train=False)
    for name in packs.modalities:
        for honest, other in zip(results_of(packs, name, 3), results_of(others, name, 3), strict=True):
            assert equal(honest["guess"], other["guess"]) and equal(honest["trivial"], other["trivial"]), name
            assert not equal(honest["truth"], other["truth"])


def test_missing_cells_are_neither_read_nor_asked(packs: Packs, built: dict[str, Path]) -> None:
    data, missing = shard_tools.open(built["table"], "val"), 0
    for result in results_of(packs, "table", 4):
        block: pa.Table = data.get(result["key"].rsplit(": ", 1)[1])["arrow"]
        names, plan = result["view"].canvas["names"], result["plan"]
        used = set(plan.context.tolist()) | set(plan.query.tolist())
        for token in range(len(result["view"])):
            known = block[names[token % len(names)]][token // len(names)].is_valid
            assert (token in used) == known
            missing += not known
    assert missing, "the sample tables have missing cells"


def test_samples_are_spread_over_the_split() -> None:
    assert spread(10, 5) == [0, 2, 4, 6, 8] and spread(3, 9) == [0, 1, 2] and spread(0, 4) == []
    assert torch.tensor(spread(1000, 64)).diff().max() <= 16
