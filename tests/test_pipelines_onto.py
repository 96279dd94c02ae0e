"""Data sets that zip: the same instants, the sound of films, overlays. On a real Ray."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from poison import Text
from test_pipelines_engine import rejected, same

import shard_tools
from pipelines import build
from shard_tools.errors import Misuse, Problem
from shard_tools.manifest import read_manifest
from shard_tools.verify import verify

pytestmark = pytest.mark.usefixtures("cluster")

INSTANT = r"(\d+)\.txt$"


def make(output: Path, *inputs: Path, **changes: Any):
    return build(**{"modality": Text, "inputs": inputs, "output": output, "shard_samples": 4, "val": 0.3, **changes})


def write(folder: Path, instants: range, text: str = "line") -> Path:
    folder.mkdir()
    for instant in instants:
        (folder / f"{instant:02d}.txt").write_text(f"{text} {instant}")
    return folder


def test_sets_of_the_same_instants_zip_though_built_apart_and_one_input_is_bad(tmp_path: Path) -> None:
    front, back = write(tmp_path / "front", range(18), "front"), write(tmp_path / "back", range(18), "back, and longer")
    (back / "07.txt").write_text("refuse")
    (back / "11.txt").write_text("")
    make(tmp_path / "a", front, group=INSTANT)
    make(tmp_path / "b", back, group=INSTANT)
    assert {name: found.error for name, found in rejected(tmp_path / "b").items()} == {
        "back/07.txt:0": "Refused",
        "back/11.txt:0": "Empty",
    }
    assert verify(tmp_path / "a") == verify(tmp_path / "b") == []
    both = shard_tools.open({"front": tmp_path / "a", "back": tmp_path / "b"})
    assert len(both) == 18
    for sample in both:
        instant = sample["front.json"]["group"]
        assert sample["front.txt"] == f"front {int(instant)}"
        assert sample["back.json"]["group"] == instant
        if instant in ("07", "11"):
            assert sample["back.txt"] is None and sample["back.long.npy"] is None
            assert sample["back.json"]["length"] == -1
        else:
            assert sample["back.txt"] == f"back, and longer {int(instant)}"


def test_onto_a_set_with_more_instants_what_is_missing_is_absent(tmp_path: Path) -> None:
    make(tmp_path / "a", write(tmp_path / "front", range(12)), group=INSTANT)
    inputs = write(tmp_path / "back", range(8, 15), "other")
    report = make(tmp_path / "b", inputs, group=INSTANT, onto=tmp_path / "a")
    make(tmp_path / "c", inputs, group=INSTANT, onto=tmp_path / "a", workers=1)
    assert same(tmp_path / "b", tmp_path / "c")
    assert report.rejected["Unmatched"]["count"] == 3
    assert set(rejected(tmp_path / "b")) == {f"back/{instant}.txt:0" for instant in (12, 13, 14)}
    zipped = shard_tools.open({"a": tmp_path / "a", "b": tmp_path / "b"})
    there = {sample["a.json"]["group"]: sample["b.txt"] for sample in zipped}
    assert there == {f"{n:02d}": f"other {n}" if n >= 8 else None for n in range(12)}
    assert verify(tmp_path / "b") == []


def test_absent_samples_have_the_columns_of_lists_empty(tmp_path: Path) -> None:
    texts = write(tmp_path / "texts", range(6))
    make(tmp_path / "a", texts, group=INSTANT)
    listed = ["path,group,time,lens", "01.txt,01,0.5,wide", *(f",{number:02d},{number}.5,wide" for number in (2, 3))]
    (texts / "list.csv").write_text("\n".join(listed))
    make(tmp_path / "b", texts / "list.csv", group=".", onto=tmp_path / "a")
    found = {sample["json"]["group"]: sample["json"] for sample in shard_tools.open(tmp_path / "b")}
    assert len(found) == 6 and verify(tmp_path / "b") == []
    assert (found["01"]["time"], found["01"]["lens"]) == (0.5, "wide")
    assert (found["05"]["time"], found["05"]["lens"]) == (-1.0, "")


def test_an_overlay_has_new_layers_alone_and_zips_with_its_base(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(9):
        coarse = Pillow.fromarray(rng.integers(0, 255, (8, 12, 3), np.uint8))
        coarse.resize((320, 280)).save(tmp_path / f"photos/{number}.jpg")
    common = {"modality": "image", "val": 0.3}
    make(tmp_path / "base", tmp_path / "photos", layers=["regions"], **common)
    assert list(read_manifest(tmp_path / "base").layers) == ["regions"]
    overlay = tmp_path / "overlay"
    for _ in range(2):  # the second finds it done
        report = make(overlay, layers=["saliency"], onto=tmp_path / "base", **common)
    assert report.built == 0
    assert verify(overlay) == []
    assert list(read_manifest(overlay).parts) == ["saliency.npy"]
    both = shard_tools.open([tmp_path / "base", overlay])
    assert set(both.manifest.layers) == {"regions", "saliency"}
    for sample in both:
        assert sample["saliency.npy"].shape == sample["regions.npy"].shape
        assert sample["saliency.npy"].any() and sample["jpg"]


def test_an_overlay_of_a_damaged_sample_still_zips_and_one_of_a_lost_shard_stops(tmp_path: Path) -> None:
    base = make(tmp_path / "base", write(tmp_path / "texts", range(6)), layers=[], val=0.0)
    shard = tmp_path / "base/shards/train-000000.tar"
    row = shard_tools.open(tmp_path / "base").index.slice(1, 1).to_pylist()[0]
    with shard.open("r+b") as tar:
        tar.seek(row["txt.offset"])
        tar.write(b"\0" * row["txt.size"])
    report = make(tmp_path / "overlay", onto=base.output, layers=["long"])
    assert report.rejected["Corrupt"]["count"] == 1
    both = shard_tools.open([tmp_path / "base", tmp_path / "overlay"])
    assert [sample["long.npy"] is None for sample in both] == [number == 1 for number in range(6)]
    shard.unlink()
    with pytest.raises(Problem, match=r"train-000000.tar: no such file; once this is put right, the same command"):
        make(tmp_path / "other", onto=base.output, layers=["long"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ["regions"]}, "it has the layer regions already"),
        ({"layers": ["salience"]}, "no such layer .did you mean saliency"),
        ({"layers": []}, "an overlay needs --layers"),
        ({"modality": "audio"}, "a data set of image, not of audio"),
        ({"onto": None}, "no inputs: give --input"),
        ({"onto": "nowhere"}, "no data set here"),
    ],
)
def test_an_overlay_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "photos").mkdir()
    Pillow.new("RGB", (40, 40)).save(tmp_path / "photos/a.jpg")
    make(tmp_path / "base", tmp_path / "photos", modality="image", layers=["regions"], val=0.0)
    with pytest.raises(Misuse, match=message):
        make(tmp_path / "new", **{"modality": "image", "onto": tmp_path / "base", **changes})
    assert not (tmp_path / "new").exists()


def test_the_sound_of_films_follows_their_clips(samples: Path, tmp_path: Path) -> None:
    report = make(tmp_path / "films", samples / "video", modality="video", companions=["audio"], shard_samples=None)
    assert [companion.output for companion in report.companions] == [f"{tmp_path / 'films'}-audio"]
    clips, sounds = shard_tools.open(tmp_path / "films"), shard_tools.open(tmp_path / "films-audio")
    assert clips.keys == sounds.keys
    for clip, sound in zip(clips, sounds, strict=True):
        for fact in ("source", "start", "end"):
            assert clip["json"][fact] == sound["json"][fact]
        if sound["mel.npy"] is not None:
            assert abs(len(sound["mel.npy"]) - 100 * (clip["json"]["end"] - clip["json"]["start"])) < 10


@pytest.mark.real
def test_six_cameras_and_a_lidar_of_one_drive_are_one_set(real_data: Path, tmp_path: Path) -> None:
    cameras = sorted(folder.name for folder in (real_data / "image/pandaset_002").iterdir() if folder.is_dir())
    for camera in cameras:
        listed = tmp_path / f"{camera}.csv"
        files = sorted((real_data / "image/pandaset_002" / camera).glob("*.jpg"))
        rows = [f'{file},{1.5e9 + int(file.stem) / 10},"[1970.0, 970.0]"' for file in files]
        listed.write_text("path,time,calibration\n" + "\n".join(rows))
        make(tmp_path / camera, listed, modality="image", group=r"(\d+)\.jpg$")
    make(tmp_path / "lidar", real_data / "lidar/pandaset_002", modality="lidar", group=r"(\d+)\.bin$")
    drive = shard_tools.open({name: tmp_path / name for name in [*cameras, "lidar"]})
    assert len(cameras) == 6 and len(drive) == 3
    for sample in drive:
        instants = {sample[f"{name}.json"]["group"] for name in [*cameras, "lidar"]}
        assert len(instants) == 1
        for camera in cameras:
            assert sample[f"{camera}.json"]["time"] == 1.5e9 + int(min(instants)) / 10
            assert sample[f"{camera}.json"]["calibration"] == "[1970.0, 970.0]"
            assert camera in sample[f"{camera}.json"]["source"]
        assert len(sample["coords.npy"]) > 10_000


def test_rejects_are_built_later(tmp_path: Path) -> None:
    folder = write(tmp_path / "texts", range(6))
    (folder / "00.txt").write_text("good\nrefuse")
    make(tmp_path / "a", folder, labels="parent")
    (folder / "00.txt").write_text("good\nbetter")
    make(tmp_path / "b", tmp_path / "a" / "rejected.parquet", val=0.0)
    (sample,) = shard_tools.open(tmp_path / "b")
    assert sample["txt"] == "better" and sample["json"]["source"].startswith("texts/00.txt")
    assert sample["json"]["label"] == "texts"
