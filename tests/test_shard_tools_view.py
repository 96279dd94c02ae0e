"""The page of `view`: self-contained, complete, and safe whatever files and labels are called."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from shard_data import make_dataset, make_one, make_samples

from shard_tools import Misuse
from shard_tools.schema import Layer, Part
from shard_tools.view import view


class Page(HTMLParser):
    """What a browser sees: tags with their attributes, text, and what the scripts hold."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts = "", [""]
        self.feed(path.read_text("utf-8"))
        self.drawn = json.loads(next(script for script in self.scripts if script.startswith("[")))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def array(drawn: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(drawn["data"]), drawn["dtype"]).reshape(drawn["shape"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("view") / "d")


def test_samples_are_spread_over_the_split(root: Path, tmp_path: Path) -> None:
    assert view(root, 4, "train", tmp_path / "page.html") == 4
    page = Page(tmp_path / "page.html")
    keys = [sample[0] for sample in make_samples()]
    assert list(dict.fromkeys(re.findall(r"cat_\d-\d{10}", page.text))) == [keys[0], keys[2], keys[5], keys[7]]
    for place, image, drawn in zip([0, 2, 5, 7], page.named("img"), page.drawn, strict=True):
        parts = make_samples()[place][2]
        assert image["src"] == "data:image/jpeg;base64," + base64.b64encode(parts["jpg"]).decode()
        np.testing.assert_array_equal(array(drawn["layers"]["saliency"]), parts["saliency.npy"])
    assert "train 8 · val 4" in page.text and "1 turned away" in page.text


def test_names_of_files_and_labels_are_text(root: Path, tmp_path: Path) -> None:
    view(root, 12, None, tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert len(page.named("script")) == 2 and not page.named("b") and not page.named("i")
    assert "in/<script>0.png" in page.text and "<b>cats</b>" in page.text and "<i>made up</i>" in page.text
    assert page.drawn[0]["facts"]["source"] == "in/<script>0.png"


def test_nothing_is_loaded_and_no_other_script_runs(root: Path, tmp_path: Path) -> None:
    view(root, 2, None, tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    policy = next(tag["content"] for tag in page.named("meta") if tag.get("http-equiv") == "Content-Security-Policy")
    script = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert policy is not None and f"script-src 'sha256-{script}'" in policy and "default-src 'none'" in policy
    assert not page.named("link")
    assert all((tag.get("src") or "data:").startswith("data:") for _, tag in page.tags)
    assert not any(name.startswith("on") for _, tag in page.tags for name in tag)


def test_a_corrupt_sample_is_shown_as_such(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "d")
    tar = root / "shards/train-000000.tar"
    tar.write_bytes(bytes(512) + tar.read_bytes()[512:])
    assert view(root, 12, None, tmp_path / "page.html") == 12
    page = Page(tmp_path / "page.html")
    assert len(page.named("img")) == 11 and "no header of this member" in page.text


def test_points_come_in_metres_and_flags_by_point(tmp_path: Path) -> None:
    points = np.array([[0, 10, 20, 5], [100, 10, 20, 5], [200, 10, 20, 5]], np.uint16)
    root = make_one(
        tmp_path / "d",
        "lidar",
        {"points.npy": points, "count.npy": np.array([2, 1], np.uint16), "ground.npy": np.array([1, 0], np.uint8)},
        {"ground": Layer(kind="flag", cell=[1], dtype="uint8", algorithm="x")},
        [2],
        points=Part(description="p", scale=[0.01, 0.01, 0.01, 1.0], offset=[-1.0, 0.0, 0.0, 0.0]),
    )
    view(root, 1, None, tmp_path / "page.html")
    (drawn,) = Page(tmp_path / "page.html").drawn
    np.testing.assert_allclose(
        array(drawn["arrays"]["points"]), [[-1, 0.1, 0.2], [0, 0.1, 0.2], [1, 0.1, 0.2]], atol=1e-6
    )
    assert array(drawn["layers"]["ground"]).tolist() == [1, 1, 0]


def test_sounds(tmp_path: Path) -> None:
    mel = np.linspace(-4, 4, 8 * 128).reshape(8, 128).astype(np.float16)
    layer = Layer(kind="scalar", cell=[4, 16], dtype="uint8", algorithm="x")
    parts = {"mel.npy": mel, "energy.npy": np.ones((2, 8), np.uint8)}
    view(make_one(tmp_path / "d", "audio", parts, {"energy": layer}, [2, 8]), 1, None, tmp_path / "page.html")
    (drawn,) = Page(tmp_path / "page.html").drawn
    np.testing.assert_array_equal(array(drawn["arrays"]["mel"]), mel.astype(np.float32))
    assert drawn["layers"]["energy"]["shape"] == [2, 8]


def test_captions_and_absent_samples_are_told(tmp_path: Path) -> None:
    view(make_one(tmp_path / "d", "image", {"txt": b"a <b>red</b> door"}, {}, [0]), 1, None, tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert "a <b>red</b> door" in page.text and "none: an absent sample" in page.text and not page.named("b")


def test_tables_mark_what_is_missing(tmp_path: Path) -> None:
    table = pa.table({"<u>n</u>": [1.0, None, 3.0] * 9, "c": ["<u>x</u>", None, "y"] * 9})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    view(make_one(tmp_path / "d", "table", {"arrow": sink.getvalue()}, {}, [27, 2]), 1, None, tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    cells = page.named("td")
    assert len(cells) == 12 * 2 and sum(cell.get("class") == "missing" for cell in cells) == 8
    assert cells[0]["class"] == "low" and cells[4]["class"] == "high" and cells[4]["style"] == "--z:1.0"
    assert "<u>x</u>" in page.text and "<u>n</u>" in page.text and not page.named("u")
    assert "The first 12 of 27 rows" in page.text


@pytest.mark.parametrize("out", ["missing/page.html", "."])
def test_a_page_that_cannot_be_written(root: Path, tmp_path: Path, out: str) -> None:
    with pytest.raises(Misuse, match="--out"):
        view(root, 1, None, tmp_path / out)
