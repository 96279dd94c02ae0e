"""The format itself: bytes of a shard, what comes back, readers of others, damaged samples."""

import contextlib
import io
import os
import pickle
import re
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
import webdataset
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes
from shard_data import PARTS, make_dataset, make_samples

import shard_tools
from shard_tools.errors import Misuse
from shard_tools.manifest import read_manifest, write_card, write_manifest
from shard_tools.schema import Manifest, index_schema
from shard_tools.storage import atomic, remove_leftovers
from shard_tools.tar import END, decode_part, encode_part, member, sample_members, split_name
from shard_tools.verify import verify
from shard_tools.writer import ShardWriter

# Shards made by earlier versions must stay what they are: change this only together with the format's number.
GOLDEN = "5e2ad3aa35452df4a2d5a1ebba05fc6be135d1207f91ade3decd9f19c4a5bfab"
ROW = {"split": "train", "label": "", "group": "g", "shape": [1], "source": "s", "start": 0.0, "end": -1.0}
ENCODED = {
    "x.npy": encode_part("x.npy", np.arange(6, dtype=np.int16).reshape(2, 3)),
    "json": encode_part("json", {"b": 1.5, "a": "é"}),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "made up")


def write(root: Path, name: str = "train-000000") -> ShardWriter:
    writer = ShardWriter(root, name, ["json", "x.npy"])
    for key in ("a-0", "b_1"):
        writer.add(key, ENCODED, {"key": key, **ROW})
    return writer


def test_a_full_disk_and_a_pipe_leave_things_as_they_were(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Misuse, match="a device or pipe"), atomic(tmp_path, "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"), atomic(tmp_path, "file") as file:
            file.write(bytes(1500))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_golden_bytes(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        shard = writer.commit()
    assert shard is not None
    assert (shard.name, shard.samples, shard.bytes) == ("train-000000.tar", 2, 5120)
    assert shard.sha256 == GOLDEN


def test_a_shard_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), write(tmp_path):
        raise RuntimeError
    with ShardWriter(tmp_path, "train-000001", ["json"]) as empty:
        assert empty.commit() is None
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
    killed = write(tmp_path, "train-000002")  # as a killed process leaves it
    killed._tar.file.flush()
    assert list((tmp_path / "shards").iterdir()) == []
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("key", "parts", "row", "says"),
    [
        ("A", {"json": b"", "x.npy": b""}, {"key": "A", **ROW}, "only a-z"),
        ("a.b", {"json": b"", "x.npy": b""}, {"key": "a.b", **ROW}, "only a-z"),
        ("a", {"json": b""}, {"key": "a", **ROW}, "has parts"),
        ("a", {"json": b"", "x.npy": b""}, {"key": "b", **ROW}, "index row"),
        ("a", {"json": b"", "x.npy": b""}, {"key": "a"}, "index row"),
        ("a", {"json": b"", "x.npy": b""}, {"key": "a", **ROW, "label": None}, "index row"),
        ("a", {"json": b"", "x.npy": b""}, {"key": "a", **ROW, "split": "val"}, "one split"),
        ("a" * 100, {"json": b"", "x.npy": b""}, {"key": "a" * 100, **ROW}, "at most 100"),
        ("a-0", {"json": b"", "x.npy": b""}, {"key": "a-0", **ROW}, "twice"),
    ],
)
def test_writer_refuses_what_is_against_the_format(tmp_path: Path, key: str, parts: dict, row: dict, says: str) -> None:
    with write(tmp_path) as writer:
        with pytest.raises(shard_tools.Problem, match=says):
            writer.add(key, parts, row)
        shard = writer.commit()
    assert shard is not None and shard.sha256 == GOLDEN  # a refused sample leaves no trace


def bulk(keys: list[str], **other: list) -> tuple[bytes, pa.RecordBatch]:
    """Return the members of the samples of `write` under some keys, and their rows of the index."""
    pieces, rows = [], []
    for key in keys:
        own, places = sample_members(key, ENCODED, sum(map(len, pieces)))
        pieces += own
        rows.append({"key": key, **ROW, **places})
    columns = pa.RecordBatch.from_pylist(rows, index_schema(["json", "x.npy"], {})).to_pydict()
    return b"".join(pieces), pa.RecordBatch.from_pydict({**columns, **other}, index_schema(["json", "x.npy"], {}))


@pytest.mark.parametrize("groups", [["cdef"], ["c", "def"], ["cd", "", "ef"], ["cde", "f"]])
def test_bytes_do_not_depend_on_how_many_samples_come_at_once(tmp_path: Path, groups: list[str]) -> None:
    with write(tmp_path / "one") as one, write(tmp_path / "bulk") as other:
        for key in "cdefg":
            one.add(key, ENCODED, {"key": key, **ROW})
        for keys in groups:
            other.append(*bulk(list(keys)))
        other.add("g", ENCODED, {"key": "g", **ROW})
        assert one.commit() == other.commit()
    indexes = [(tmp_path / name / "index" / "train-000000.parquet").read_bytes() for name in ("one", "bulk")]
    assert indexes[0] == indexes[1]


@pytest.mark.parametrize(
    ("keys", "other", "says"),
    [
        (["c", "c"], {}, "c comes twice"),
        (["c", "b_1"], {}, "b_1 comes twice"),
        (["c", "d"], {"split": ["train", "val"]}, "one split"),
        (["c", "d"], {"label": ["", None]}, "no empty cells"),
    ],
)
def test_writer_refuses_many_samples_for_one_that_is_wrong(
    tmp_path: Path, keys: list[str], other: dict, says: str
) -> None:
    with write(tmp_path) as writer:
        with pytest.raises(shard_tools.Problem, match=says):
            writer.append(*bulk(keys, **other))
        shard = writer.commit()
    assert shard is not None and shard.sha256 == GOLDEN


@given(arrays(scalar_dtypes(), array_shapes(min_dims=0, min_side=0)))
def test_arrays_come_back(array: np.ndarray) -> None:
    back = decode_part("x.npy", encode_part("x.npy", array))
    assert back.dtype == array.dtype and back.shape == array.shape and back.tobytes() == array.tobytes()
    assert back.flags.writeable


values = st.one_of(st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
documents = st.dictionaries(
    st.text(), st.one_of(values, st.lists(values, min_size=2), st.dictionaries(st.text(), values))
)


@given(documents.filter(lambda value: "\ud800" not in str(value)))
def test_json_comes_back(value: dict) -> None:
    assert decode_part("json", encode_part("json", value)) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("json", {"a": None}),
        ("json", {"a": {"b": [1]}}),
        ("x.npy", np.array([None])),
        ("x.npy", {}),
        ("jpg", np.zeros(1)),
    ],
)
def test_what_readers_choke_on_is_refused(name: str, value: object) -> None:
    with pytest.raises(shard_tools.Problem, match=r"json|x\.npy|jpg"):
        encode_part(name, value)


def test_parts_decode_by_their_suffix() -> None:
    table = pa.table({"a": [1.0, None]})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    assert decode_part("arrow", sink.getvalue()).equals(table)
    assert decode_part("cls", b"7") == 7
    assert decode_part("txt", "é".encode()) == "é"
    assert decode_part("jpg", b"\xff") == b"\xff"
    assert decode_part("x.npy", b"") is None


@given(st.sampled_from(["x.npy", "json", "cls", "txt", "arrow"]), st.binary(max_size=200), st.integers(0, 200))
def test_damage_is_a_value_error(name: str, noise: bytes, at: int) -> None:
    good = encode_part("x.npy", np.zeros(3))
    for data in (noise, good[:at] + noise + good[at + len(noise) :]):
        with contextlib.suppress(ValueError):
            decode_part(name, data)


def test_pickles_are_never_loaded() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError):
        decode_part("x.npy", stream.getvalue())


@given(st.from_regex(r"[a-z0-9_-]{1,30}", fullmatch=True), st.binary(max_size=2000))
def test_members_are_what_tarfile_reads(key: str, data: bytes) -> None:
    packed = member(f"{key}.x.npy", data) + END
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as tar:
        (info,) = tar.getmembers()
        assert (info.name, info.mtime, info.uid, info.gid, info.mode, info.uname) == (
            f"{key}.x.npy",
            0,
            0,
            0,
            0o644,
            "",
        )
        assert tar.extractfile(info).read() == data  # type: ignore[union-attr]
    assert split_name(info.name) == (key, "x.npy")


def test_random_access(root: Path) -> None:
    wanted = make_samples()
    data = shard_tools.open(root)
    assert len(data) == len(wanted) == 12 and data.bounds.tolist() == [0, 4, 8, 12]
    for position in np.random.default_rng(0).permutation(len(data)):
        key, _, sample, _ = wanted[position]
        found = data[position]
        assert found["__key__"] == key == data.keys[position] == data.row(position)["key"]
        assert found["jpg"] == sample["jpg"] and found["json"] == sample["json"] and found["cls"] == int(sample["cls"])
        np.testing.assert_array_equal(found["saliency.npy"], sample["saliency.npy"])
        assert found["note.txt"] is None  # nothing to say
        assert data.get(key)["json"] == found["json"]
    assert [sample["__key__"] for sample in data] == [key for key, *_ in wanted]
    assert data[-1]["__key__"] == wanted[-1][0]
    with pytest.raises(IndexError):
        data[len(data)]
    with pytest.raises(KeyError):
        data.get("nobody")


def test_splits(root: Path) -> None:
    train, val = (shard_tools.open(root, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (8, 4)
    assert set(train.index["split"].to_pylist()) == {"train"}
    with pytest.raises(shard_tools.Misuse, match="did you mean train"):
        shard_tools.open(root, "trian")


def test_copies_open_their_own_files(root: Path) -> None:
    data = shard_tools.open(root, "train")
    first = data.raw(0)
    copy = pickle.loads(pickle.dumps(data))
    assert copy.raw(0) == first and copy.split == "train"


def test_remote(root: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(root), "/far", recursive=True)
    far, near = shard_tools.open("memory://far", "val"), shard_tools.open(root, "val")
    assert far.manifest == near.manifest
    assert [far.raw(position) for position in range(4)] == [near.raw(position) for position in range(4)]
    assert verify("memory://far") == []


@pytest.mark.parametrize("url", ["nonsense://x", "memory://nowhere"])
def test_a_url_without_a_data_set(url: str) -> None:
    with pytest.raises(shard_tools.Misuse, match=url):
        shard_tools.open(url)


def test_tarfile_reads_the_same(root: Path) -> None:
    data = shard_tools.open(root)
    found: dict[str, dict[str, bytes]] = {}
    for shard in data.shards:
        with tarfile.open(root / "shards" / shard.name) as tar:
            for info in tar:
                key, part = split_name(info.name)
                found.setdefault(key, {})[part] = tar.extractfile(info).read()  # type: ignore[union-attr]
    assert list(found) == data.keys
    assert all(found[key] == data.raw(position) for position, key in enumerate(data.keys))


def test_webdataset_reads_the_same(root: Path) -> None:
    data = shard_tools.open(root)
    urls = [str(root / "shards" / shard.name) for shard in data.shards]
    others = list(webdataset.WebDataset(urls, shardshuffle=False).decode("l8", handler=webdataset.reraise_exception))
    assert [other["__key__"] for other in others] == data.keys
    for mine, other in zip(data, others, strict=True):
        assert mine["json"] == other["json"] and mine["cls"] == other["cls"]
        np.testing.assert_array_equal(mine["saliency.npy"], other["saliency.npy"])
        assert other["jpg"].shape == (16, 24) and other["jpg"].std() > 0


def test_hugging_face_reads_the_same(root: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    other = datasets.load_dataset(str(root), cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in other.items()} == {"train": 8, "validation": 4}
    for mine, row in zip(shard_tools.open(root, "train"), other["train"], strict=True):
        assert (mine["__key__"], mine["json"], mine["cls"]) == (row["__key__"], row["json"], row["cls"])
        assert mine["saliency.npy"].tolist() == row["saliency.npy"]
        assert row["jpg"].size == (24, 16)


def test_hugging_face_sees_that_a_data_set_was_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    loaded = []
    for number in range(2):
        root = make_dataset(tmp_path / str(number) / "photos")
        if number:
            manifest = read_manifest(root)
            with ShardWriter(root, "train-000000", list(PARTS)) as writer:
                for key, _, parts, row in make_samples()[1:4]:
                    writer.add(key, {name: encode_part(name, part) for name, part in parts.items()}, row)
                manifest.shards[0] = writer.commit()
            write_card(root, manifest)
        monkeypatch.chdir(root.parent)
        loaded.append(datasets.load_dataset("photos", split="train", cache_dir=str(tmp_path / "cache")))
    assert [len(rows) for rows in loaded] == [8, 7]


def test_the_card_names_splits_and_parts(root: Path) -> None:
    text = (root / "README.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["configs"][0]["data_files"] == [
        {"split": "train", "path": "shards/train-*.tar"},
        {"split": "validation", "path": "shards/val-*.tar"},
    ]
    assert all(f"`{part}`" in text for part in PARTS)
    prose = re.sub(r"^---\n.*?^---\n|^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "\\<b\\>cats" in prose and not re.search(r"(?<!\\)[<|]b", prose)  # names come from files and folders


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda tar: tar.unlink(), "not readable"),
        (lambda tar: tar.write_bytes(tar.read_bytes()[:700]), "ends at byte"),
        (lambda tar: tar.write_bytes(b""), "ends at byte"),
        (lambda tar: tar.write_bytes(bytes(512) + tar.read_bytes()[512:]), "no header of this member"),
        (lambda tar: tar.write_bytes(tar.read_bytes()[512:]), "no header of this member|ends at byte"),
        (lambda tar: tar.write_bytes(tar.read_bytes().replace(b"NUMPY", b"NUMPI")), "magic"),
    ],
)
def test_corrupt_samples_are_named(tmp_path: Path, damage: object, says: str) -> None:
    root = make_dataset(tmp_path / "d")
    damage(root / "shards" / "train-000000.tar")  # type: ignore[operator]
    data = shard_tools.open(root)
    with pytest.raises(shard_tools.CorruptSample, match=says) as caught:
        for position in range(4):
            data[position]
    assert caught.value.shard == "train-000000.tar" and caught.value.key in data.keys and caught.value.part in PARTS
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert data[4]["__key__"]  # the next shard is whole


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (None, shard_tools.Misuse, "no data set here"),
        ("{", shard_tools.Problem, "broken JSON"),
        ("[]", shard_tools.Misuse, "not the manifest"),
        ('{"format": 2, "shards": []}', shard_tools.Problem, "format 2; this version reads format 1"),
        ('{"format": 1, "shards": []}', shard_tools.Problem, "name: Field required"),
    ],
)
def test_a_manifest_that_is_not_ours(tmp_path: Path, text: str | None, error: type, says: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(error, match=says) as caught:
        shard_tools.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "d")
    manifest = read_manifest(root)
    away = manifest.shards[0].model_copy(update={"name": "../../secret.tar"})
    write_manifest(root, manifest.model_copy(update={"shards": [away]}))
    with pytest.raises(shard_tools.Problem, match="not a file name"):
        shard_tools.open(root)


def test_manifest_comes_back(root: Path) -> None:
    manifest = read_manifest(root)
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert shard_tools.open(root).manifest.layers["saliency"].decode(np.array([4], np.uint8)).tolist() == [1.0]


def test_reads_without_torch_ray_and_decoders(root: Path) -> None:
    program = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {{"torch", "ray", "av", "decord", "open3d", "PIL", "pipelines", "mmmask"}}:
            raise ImportError(name)
sys.meta_path.insert(0, Block())
import shard_tools, shard_tools.cli
data = shard_tools.open({str(root)!r})
print(sum(int(sample["saliency.npy"].sum()) for sample in data))
from shard_tools.verify import verify
assert verify({str(root)!r}) == []
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == sum(int(sample["saliency.npy"].sum()) for *_, sample, _ in make_samples())
