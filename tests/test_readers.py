"""The five data sets, read sample for sample by the tools people already have."""

import io
import json
import tarfile
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import webdataset as wds
from conftest import MODALITIES
from retold import make_absent

import shard_tools

PAYLOAD = {"image": "jpg", "video": "mp4", "lidar": "points.npy", "audio": "mel.npy", "table": "arrow"}


@pytest.fixture(params=MODALITIES)
def data(request: pytest.FixtureRequest, built: dict[str, Path]) -> tuple[str, shard_tools.Dataset]:
    return request.param, shard_tools.open(built[request.param])


def test_random_positions_give_what_a_walk_gives(data: tuple[str, shard_tools.Dataset]) -> None:
    _, ds = data
    walked = {sample["__key__"]: sample for sample in ds}
    assert len(walked) == len(ds) > 3
    for place in np.random.default_rng(0).permutation(len(ds)):
        sample = ds[int(place)]
        assert_equal(sample, walked[sample["__key__"]])
        assert_equal(sample, ds.get(sample["__key__"]))


def test_tarfile_finds_the_same_bytes_at_the_indexed_places(data: tuple[str, shard_tools.Dataset]) -> None:
    _, ds = data
    place = 0
    for shard in ds.shards:
        path = Path(ds.root) / "shards" / shard.name
        raw = path.read_bytes()
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        for _ in range(shard.samples):
            row = ds.row(place)
            for part, value in ds.raw(place).items():
                assert members[f"{row['key']}.{part}"] == value
                assert raw[row[f"{part}.offset"] :][: row[f"{part}.size"]] == value
            place += 1
        assert len(members) == shard.samples * len(ds.manifest.parts)


def test_webdataset_decodes_the_same(data: tuple[str, shard_tools.Dataset]) -> None:
    modality, ds = data
    urls = [str(Path(ds.root) / "shards" / shard.name) for shard in ds.shards]
    seen = 0
    for theirs, ours in zip(wds.WebDataset(urls, shardshuffle=False).decode(), ds, strict=True):
        assert theirs["__key__"] == ours["__key__"]
        assert theirs["json"] == ours["json"]
        for part, value in ours.items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(theirs[part], value)
        if modality in ("image", "video"):
            assert theirs[PAYLOAD[modality]] == ours[PAYLOAD[modality]]
        if "cls" in ours:
            assert theirs["cls"] == ours["cls"]
        seen += 1
    assert seen == len(ds)


def test_absent_samples_are_left_out_by_their_empty_payload(built: dict[str, Path], tmp_path: Path) -> None:
    keys = shard_tools.open(built["image"], "train").keys
    root = make_absent(built["image"], tmp_path / "gapped", {keys[0], keys[3]})
    ds = shard_tools.open(root, "train")
    assert {part for part, value in ds[3].items() if value is None} == {"jpg", "saliency.npy", "regions.npy"}
    urls = [f"{root}/shards/{shard.name}" for shard in ds.shards]
    there = wds.WebDataset(urls, shardshuffle=False).select(lambda sample: sample["jpg"]).decode()
    assert [sample["__key__"] for sample in there] == [key for key in keys if key not in (keys[0], keys[3])]


def test_hugging_face_loads_it(
    data: tuple[str, shard_tools.Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    modality, ds = data
    loaded = datasets.load_dataset(ds.root, cache_dir=str(tmp_path))
    names = {"train": "train", "validation": "val"}
    assert {names[name]: split.num_rows for name, split in loaded.items()} == ds.manifest.splits
    for name, split in loaded.items():
        ours = shard_tools.open(ds.root, split=names[name])
        if modality in ("image", "video"):  # the bytes as stored: decoding clips would need torchcodec
            kind = datasets.Image if modality == "image" else datasets.Video
            split = split.cast_column(PAYLOAD[modality], kind(decode=False))
        for theirs, sample in zip(split, ours, strict=True):
            assert theirs["__key__"] == sample["__key__"]
            assert theirs["json"] == sample["json"]
            for part, value in sample.items():
                if isinstance(value, np.ndarray):
                    np.testing.assert_array_equal(np.array(theirs[part], value.dtype), value)
            payload = theirs[PAYLOAD[modality]]
            if modality in ("image", "video"):
                assert payload["bytes"] == sample[PAYLOAD[modality]]
            if modality == "table":
                assert pa.ipc.open_stream(io.BytesIO(payload)).read_all() == sample["arrow"]


def test_ray_data_reads_the_folder(data: tuple[str, shard_tools.Dataset], cluster: None) -> None:
    import ray

    modality, ds = data
    rows = {
        row["__key__"]: row
        for row in ray.data.read_webdataset(f"{ds.root}/shards", decoder=modality != "video").take_all()
    }
    assert len(rows) == len(ds)
    for sample in ds:
        theirs = rows[sample["__key__"]]
        as_read = json.loads(theirs["json"]) if isinstance(theirs["json"], bytes) else theirs["json"]
        assert as_read == sample["json"]
        for part, value in sample.items():
            if isinstance(value, np.ndarray):
                told = np.load(io.BytesIO(theirs[part])) if isinstance(theirs[part], bytes) else theirs[part]
                np.testing.assert_array_equal(told, value)


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_torch_loads_it_in_workers(built: dict[str, Path], start: str) -> None:
    from torch.utils.data import ConcatDataset, DataLoader

    every = [shard_tools.open(built[name]) for name in MODALITIES]
    walked = [sample for ds in every for sample in ds]  # opens the files, which a fork must not share
    loader = DataLoader(
        ConcatDataset(every), batch_size=7, num_workers=2, collate_fn=list, multiprocessing_context=start
    )
    loaded = [sample for batch in loader for sample in batch]
    assert len(loaded) == len(walked)
    for theirs, ours in zip(loaded, walked, strict=True):
        assert_equal(theirs, ours)


def test_duckdb_finds_the_bytes_by_the_index(data: tuple[str, shard_tools.Dataset]) -> None:
    modality, ds = data
    index, payload = f"{ds.root}/index/*.parquet", PAYLOAD[modality]
    counts = duckdb.sql(f"SELECT split, count(*) FROM '{index}' GROUP BY split").fetchall()
    assert dict(counts) == ds.manifest.splits
    rows = duckdb.sql(
        f"""SELECT key, parse_filename(filename, true), "{payload}.offset", "{payload}.size"
        FROM read_parquet('{index}', filename=true) WHERE "{payload}.size" > 0"""
    ).fetchall()
    assert len(rows) == len(ds)
    for key, shard, offset, size in rows:
        with open(f"{ds.root}/shards/{shard}.tar", "rb") as tar:
            tar.seek(offset)
            assert tar.read(size) == ds.raw(ds.find(key))[payload]


def assert_equal(a: dict, b: dict) -> None:
    """Assert that two samples are the same, arrays and tables included."""
    assert a.keys() == b.keys()
    for part, value in a.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, b[part])
        else:
            assert value == b[part], part
