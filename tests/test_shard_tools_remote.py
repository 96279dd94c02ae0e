"""Data sets in object stores and on a web server: written whole, read at random, one line for what is refused."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from shard_data import make_dataset, make_samples
from stores import free_port, wait_for

import shard_tools
from shard_tools.manifest import read_manifest, write_manifest
from shard_tools.storage import AtomicFile, Storage, atomic, remove_leftovers
from shard_tools.verify import verify
from shard_tools.writer import ShardWriter

MIB = 1 << 20


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "near")


@pytest.fixture(scope="module")
def far(store: str) -> str:
    return make_dataset(f"{store}/some/where")


@pytest.fixture(scope="module")
def web(near: Path) -> Iterator[str]:
    """The same data set behind Python's own web server, which knows no ranges."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "-b", "127.0.0.1", "-d", str(near.parent)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port, server)
        yield f"http://127.0.0.1:{port}/near"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module", params=["s3", "gcs", "web"])
def place(request: pytest.FixtureRequest) -> str:
    """The same data set in each of the places."""
    url = request.getfixturevalue(request.param)
    return url if request.param == "web" else make_dataset(f"{url}/some/where")


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_bytes_are_those_of_a_local_data_set(near: Path, far: str) -> None:
    storage, there = Storage(far), Storage(far).fs
    assert {path.split("where/")[1]: there.cat_file(path) for path in there.find(far)} == files(near)
    assert all(storage.read(name) == data and storage.size(name) == len(data) for name, data in files(near).items())


def test_random_access_and_iteration(near: Path, place: str) -> None:
    here, data = shard_tools.open(near), shard_tools.open(place)
    assert data.manifest == here.manifest and data.keys == here.keys
    for position in (7, 0, 11, 3, 4):
        assert data.raw(position) == here.raw(position)
    wanted = [sample["jpg"] for _, _, sample, _ in make_samples()]
    assert [sample["jpg"] for sample in data] == wanted
    assert [sample["jpg"] for sample in shard_tools.open(data.root, "val")] == wanted[8:]


def read(data: shard_tools.Dataset, position: int) -> dict[str, bytes]:
    return data.raw(position)


def test_reads_in_threads_and_after_a_fork(near: Path, place: str) -> None:
    data = shard_tools.open(place)
    wanted = [shard_tools.open(near).raw(position) for position in range(len(data))]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(data.raw, range(len(data)))) == wanted

    def child(number: int) -> None:  # inherits the open data set, as a loader's worker does
        found = [data.raw(position) == wanted[position] for position in range(number, len(data), 2)]
        os._exit(0 if all(found) else 1)

    children = [multiprocessing.get_context("fork").Process(target=child, args=(number,)) for number in range(2)]
    for process in children:
        process.start()
    for process in children:
        process.join(60)
    assert [process.exitcode for process in children] == [0, 0]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # pickled: opens it again
        assert pool.submit(read, data, 5).result(60) == wanted[5]


def test_from_front_to_back_a_request_brings_many_samples(
    near: Path, far: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []
    span = Storage.span

    def counted(storage: Storage, *place: Any) -> bytes:
        requests.append(place)
        return span(storage, *place)

    data = shard_tools.open({"a": far, "b": near})
    monkeypatch.setattr(Storage, "span", counted)
    assert [sample["a.jpg"] for sample in data] == [sample["jpg"] for sample in shard_tools.open(near)]
    assert len(requests) == len(data.shards) < len(data)
    requests.clear()
    monkeypatch.setattr("shard_tools.storage.WINDOW", 1)
    assert len(list(shard_tools.open(far))) == len(requests) == len(data)


def test_verify_finds_nothing(place: str) -> None:
    assert verify(place) == []


def test_damage_far_away(store: str) -> None:
    root = make_dataset(f"{store}/damaged")
    storage = Storage(root)
    storage.write("shards/train-000000.tar", storage.read("shards/train-000000.tar")[:700])
    storage.remove("shards/val-000000.tar")
    data = shard_tools.open(root)
    with pytest.raises(shard_tools.CorruptSample, match="ends at byte"):
        data[0]
    with pytest.raises(shard_tools.CorruptSample, match=r"not readable: .*shards/val-000000\.tar: no such file"):
        data[8]
    assert data[4]["__key__"]
    findings = verify(root)
    assert any("train-000000.tar" in line for line in findings) and any("val-000000.tar" in line for line in findings)


def test_storage(store: str, tmp_path: Path) -> None:
    storage = Storage(f"{store}/plain")
    assert storage.names("a") == [] and not storage.exists("a/b")
    storage.write("a/b", b"old")
    storage.write("a/b", b"news")
    assert (storage.read("a/b"), storage.size("a/b"), storage.blob("a/b")[1:3]) == (b"news", 4, b"ew")
    (tmp_path / "file").write_bytes(b"put")
    storage.put(tmp_path / "file", "a/c")
    assert storage.names("a") == ["b", "c"] and storage.read("a/c") == b"put" == (tmp_path / "file").read_bytes()
    storage.remove("a/b")
    storage.remove("a/b")
    assert storage.names("a") == ["c"] and not storage.exists("a/b")
    storage.remove_tree("a")
    storage.remove_tree("a")
    assert not storage.exists("a")
    storage.fs.touch(f"{storage.root}/shards/")  # a folder as the consoles of object stores make one
    storage.write("shards/x.tar", b"")
    assert storage.names("shards") == ["x.tar"]
    remove_leftovers(storage.root)


def test_local_storage_does_the_same(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "root")
    (tmp_path / "file").write_bytes(b"put")
    storage.put(tmp_path / "file", "a/c")
    storage.write("a/b", b"news")
    assert storage.names("a") == ["b", "c"] and storage.size("a/b") == 4 and storage.read("a/c") == b"put"
    storage.remove("a/b")
    storage.remove("a/b")
    storage.remove_tree("a")
    storage.remove_tree("a")
    assert list((tmp_path / "root").rglob("*")) == []


def test_others_see_a_new_file_at_once(store: str) -> None:
    root = f"{store}/fresh"
    reader = Storage(root)
    for number in range(3):
        assert reader.names("state") == [f"{old}.json" for old in range(number)]
        program = f"from shard_tools.storage import Storage; Storage({root!r}).write('state/{number}.json', b'x')"
        subprocess.run([sys.executable, "-c", program], check=True)


def test_a_file_appears_whole_or_not_at_all(store: str) -> None:
    root = f"{store}/atomic"
    storage = Storage(root)
    storage.write("kept", b"old")
    with pytest.raises(RuntimeError), atomic(root, "kept") as file:
        file.write(b"half")
        raise RuntimeError
    with ShardWriter(root, "train-000000", ["x"]) as writer:
        row = {"split": "train", "label": "", "group": "g", "shape": [1], "source": "s", "start": 0.0, "end": -1.0}
        writer.add("a", {"x": b"data"}, {"key": "a", **row})
    target = AtomicFile(root, "kept")
    target.file.write(b"never committed")
    target.abort()
    assert storage.fs.find(root) == [f"{root.partition('://')[2]}/kept"]
    assert storage.read("kept") == b"old"


def test_where_an_upload_shows_early_a_rename_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage("memory://odd")
    storage.write("a", b"old")
    seen: list[list[str]] = []
    put = type(storage.fs).put_file

    def broken(self: object, *paths: str, **options: object) -> None:
        put(self, *paths, **options)
        seen.append(storage.names("shards"))
        raise ConnectionResetError("the line is cut")

    monkeypatch.setattr(type(storage.fs), "put_file", broken)
    with pytest.raises(OSError, match=r"memory://odd/shards/x\.tar: the line is cut"):
        storage.write("shards/x.tar", b"half")
    assert seen == [[]] and storage.names("shards") == [] and storage.names("") == ["a", "shards"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("name", ["new", "kept"])
def test_a_kill_in_mid_upload_leaves_no_object(s3: str, tmp_path: Path, name: str) -> None:
    botocore = pytest.importorskip("botocore.session")
    client = botocore.get_session().create_client("s3")
    storage = Storage(f"{s3}/killed-{name}")
    storage.write("kept", b"old")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(400 * MIB)  # sent as a multipart upload
    program = (
        f"from shard_tools.storage import Storage; Storage({storage.root!r}).put({str(tmp_path / 'large')!r}, {name!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        bucket = s3.removeprefix("s3://")
        while not any(
            f"killed-{name}/" in upload["Key"]
            for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        ):
            assert process.poll() is None, "the upload was over before it was seen"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert storage.names("") == ["kept"] and storage.read("kept") == b"old"


def test_a_web_server_is_read_only(web: str) -> None:
    storage = Storage(web)
    for attempt in (
        lambda: storage.write("x", b""),
        lambda: storage.put(__file__, "x"),
        lambda: storage.remove("x"),
        lambda: storage.remove_tree("shards"),
        lambda: ShardWriter(web, "train-000000", ["x"]),
        lambda: write_manifest(web, read_manifest(web)),
    ):
        with pytest.raises(shard_tools.Misuse, match="nothing can be written to a web server"):
            attempt()  # type: ignore[no-untyped-call]


def one_line(function: Callable[[], object], kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        function()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def elsewhere(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Lets a test change the environment that tells where S3 is."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    yield monkeypatch
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_bucket_that_is_not_there(s3: str) -> None:
    storage = Storage("s3://nobody-has-it/x")
    assert "s3://nobody-has-it/x/a: The specified bucket" in one_line(
        lambda: storage.write("a", b""), FileNotFoundError
    )
    assert "no data set here" in one_line(lambda: shard_tools.open(storage.root), shard_tools.Misuse)
    assert "bucket name" in one_line(lambda: Storage("s3://Not_A_Name!/x").write("a", b""), OSError)


def test_no_credentials(elsewhere: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere.delenv("AWS_ACCESS_KEY_ID")
    elsewhere.delenv("AWS_SECRET_ACCESS_KEY")
    elsewhere.setenv("HOME", str(tmp_path))
    storage = Storage("s3://bucket/x")
    assert "s3://bucket/x/a: Unable to locate credentials" in one_line(lambda: storage.read("a"), OSError)
    assert "s3://bucket/x/a: Unable to locate credentials" in one_line(lambda: storage.write("a", b""), OSError)
    assert "Unable to locate credentials" in one_line(lambda: shard_tools.open("s3://bucket/x"), shard_tools.Problem)


def test_nobody_listens(elsewhere: pytest.MonkeyPatch) -> None:
    elsewhere.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    says = one_line(lambda: Storage("s3://bucket/x").write("a", b""), OSError)
    assert "s3://bucket/x/a: Could not connect to the endpoint" in says
    url = f"http://127.0.0.1:{free_port()}/x"
    assert "Connect call failed" in one_line(lambda: shard_tools.open(url), shard_tools.Problem)
    assert "Cannot connect to host" in one_line(lambda: Storage(url).size("a"), OSError)


def test_forbidden(s3: str) -> None:
    far = make_dataset(f"{s3}/forbidden")

    def refuse_after(count: str) -> None:  # moto: how many requests are answered before it looks at who asks
        url, kind = f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(url, count.encode(), kind)).close()

    data = shard_tools.open(far)
    refuse_after("0")
    try:
        storage = Storage(far)
        says = one_line(lambda: storage.write("a", b""), PermissionError)
        assert f"{far}/a: " in says
        one_line(lambda: storage.read("manifest.json"), PermissionError)
        assert "not readable" in one_line(lambda: shard_tools.open(far), shard_tools.Problem)
        caught = one_line(lambda: data.raw(0), shard_tools.Problem)  # not a CorruptSample: the sample may be well
        assert "shards/train-000000.tar" in caught and "sample" not in caught
    finally:
        refuse_after("inf")
    assert json.loads(Storage(far).read("manifest.json"))["format"] == 1


def test_a_shard_that_the_web_server_lost(near: Path, web: str) -> None:
    data = shard_tools.open(web)
    shard = near / "shards" / "val-000000.tar"
    shard.rename(near / "away")
    try:
        with pytest.raises(shard_tools.CorruptSample, match="not readable"):
            data[8]
    finally:
        (near / "away").rename(shard)
    assert data[8]["__key__"]
