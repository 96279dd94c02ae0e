"""The engine on a real Ray: same bytes whatever happens, and an input harms only itself."""

import contextlib
import fcntl
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image as Pillow
from poison import Mortal, Text

import shard_tools
from pipelines import build
from pipelines.cluster import Room
from pipelines.cluster import cluster as enter_cluster
from pipelines.decoder import Job
from pipelines.inputs.sources import Source
from pipelines.isolation import Isolated
from pipelines.rejects import Rejection
from pipelines.watch import take, tell
from shard_tools.errors import Misuse, Problem
from shard_tools.manifest import read_manifest
from shard_tools.schema import REJECTED
from shard_tools.verify import verify

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    for number in range(12):
        file = folder / f"kind{number % 3}" / f"file {number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(f"line {number} {line} {'x' * number}" for line in range(number % 4 + 1)))
    return folder


def make(inputs: Path, output: Path, **changes: Any):
    arguments = {"modality": Text, "labels": "parent", "val": 0.25, "shard_samples": 5, **changes}
    return build(inputs=[inputs], output=output, **arguments)


def digests(root: Path) -> dict[str, str]:
    """Return the sha256 of every file of a data set but the manifest and the card, which hold its name."""
    files = (
        file for file in sorted(root.rglob("*")) if file.is_file() and file.name not in ("manifest.json", "README.md")
    )
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def same(one: Path, other: Path) -> bool:
    manifests = [read_manifest(root).model_dump(exclude={"name"}) for root in (one, other)]
    return manifests[0] == manifests[1] and digests(one) == digests(other)


def rejected(root: Path) -> dict[str, Rejection]:
    table = pq.read_table(root / "rejected.parquet")
    assert table.schema.equals(REJECTED)
    return {f"{row['source']}:{row['start']:g}": Rejection(**row) for row in table.to_pylist()}


def test_equal_bytes_with_one_and_two_workers_and_twice(texts: Path, tmp_path: Path) -> None:
    report = make(texts, tmp_path / "a", workers=1)
    make(texts, tmp_path / "b", workers=2)
    make(texts, tmp_path / "c", workers=2)
    assert same(tmp_path / "a", tmp_path / "b") and same(tmp_path / "a", tmp_path / "c")
    assert verify(tmp_path / "a") == []
    assert sum(report.samples.values()) == report.built == 30
    assert report.shards == len(list((tmp_path / "a/shards").iterdir())) > 5
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(
        ["README.md", "index", "manifest.json", "plan.parquet", "rejected.parquet", "shards"]
    )


def test_samples_say_where_they_come_from(texts: Path, tmp_path: Path) -> None:
    make(texts, tmp_path / "a")
    manifest = read_manifest(tmp_path / "a")
    assert manifest.classes == ["kind0", "kind1", "kind2"]
    letters = 0
    data = shard_tools.open(tmp_path / "a")
    for sample in data:
        facts = sample["json"]
        line = (texts.parent / facts["source"]).read_text().splitlines()[int(facts["start"])]
        assert sample["txt"] == line
        assert facts["label"] == Path(facts["source"]).parent.name == manifest.classes[sample["cls"]]
        assert facts["group"] == facts["source"]
        assert sample["long.npy"].tolist() == [len(line) > 10]
    for sample in shard_tools.open(tmp_path / "a", split="train"):
        letters += len(sample["txt"])
    assert manifest.statistics["letters"][0] == letters


def test_workers_that_outlive_a_build_serve_the_next(texts: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "texts.tar", "w") as tar:
        tar.add(texts, "texts")
    for output in ("a", "b"):
        assert make(tmp_path / "texts.tar", tmp_path / output).built == 30
    assert same(tmp_path / "a", tmp_path / "b")


def test_as_many_tasks_run_at_a_time_as_there_are_cpus_or_workers(tmp_path: Path) -> None:
    cpus = int(ray.cluster_resources()["CPU"])
    with enter_cluster(None, None, tmp_path) as room:
        assert room == Room(2 * cpus, cpus)
    with enter_cluster(1, None, tmp_path) as room:
        assert room == Room(1, 1)


def test_a_watch_that_is_lost_comes_back() -> None:
    assert take("lost") == {}
    tell("lost", "a.txt", 3.0)
    process = ray.get(ray.get_actor("lost").__ray_call__.remote(lambda _: os.getpid()))
    os.kill(process, signal.SIGKILL)
    while psutil.pid_exists(process):
        time.sleep(0.05)
    tell("lost", "b.txt", 4.0)
    assert take("lost").items() >= {("b.txt", 4.0)}


def test_a_watch_goes_with_the_worker_that_made_it_and_the_next_makes_another() -> None:
    ray.get(ray.remote(max_calls=1)(tell).remote("gone", "a.txt", 3.0))
    for _ in range(600):
        try:
            ray.get_actor("gone")
        except ValueError:
            break
        take("gone")
        time.sleep(0.1)
    else:
        pytest.fail("it stays")
    tell("gone", "b.txt", 4.0)
    assert take("gone") == {"b.txt": 4.0}


def test_a_process_that_is_killed_while_it_starts_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo")
    monkeypatch.setenv("MORTAL", str(tmp_path / "lives"))
    job = Job(pickle.dumps(Mortal(Mortal.Options())), timeout=30, stall=10, memory=2 << 30, rate=None, retries=0)
    for deaths in (2, 3):
        (tmp_path / "lives").write_bytes(bytes(deaths))
        isolated = Isolated(job)
        with contextlib.closing(isolated):
            if deaths == 2:
                (pieces,) = isolated.probe([Source("a.txt", str(tmp_path / "a.txt"))])
                assert len(pieces) == 2
            else:
                with pytest.raises(Problem, match="cannot be started: exit code -9"):
                    list(isolated.probe([Source("a.txt", str(tmp_path / "a.txt"))]))


def test_poison_costs_only_itself(texts: Path, tmp_path: Path) -> None:
    (texts / "kind0/poison.txt").write_text(
        f"fine\nsegfault\nfine too\nrefuse\nbug\nexit\nsegfault-once {tmp_path}/mark\nlast"
    )
    (texts / "kind0/hang.txt").write_text("before\nhang\nafter")
    (texts / "kind1/probe.txt").write_text("probe segfault")
    (texts / "kind1/slow.txt").write_text("probe hang")
    (texts / "kind1/wrong.txt").write_text("probe corrupt")
    (texts / "kind1/empty.txt").write_text("")
    (texts / "kind2/nowhere.txt").symlink_to(tmp_path / "nowhere")
    report = make(texts, tmp_path / "a", timeout=1)
    found = rejected(tmp_path / "a")
    assert {where.removeprefix("texts/"): (reject.stage, reject.error) for where, reject in found.items()} == {
        "kind0/poison.txt:1": ("build", "Crash"),
        "kind0/poison.txt:3": ("build", "Refused"),
        "kind0/poison.txt:4": ("build", "Internal"),
        "kind0/poison.txt:5": ("build", "Crash"),
        "kind0/hang.txt:1": ("build", "Timeout"),
        "kind1/probe.txt:0": ("probe", "Crash"),
        "kind1/slow.txt:0": ("probe", "Timeout"),
        "kind1/wrong.txt:0": ("probe", "Corrupt"),
        "kind1/empty.txt:0": ("probe", "Empty"),
        "kind2/nowhere.txt:0": ("probe", "NotFound"),
    }
    assert "SIGSEGV" in found["texts/kind0/poison.txt:1"].message
    assert "a bug of the builder (poison.py:" in found["texts/kind0/poison.txt:4"].message
    assert found["texts/kind1/wrong.txt:0"].path == str(texts / "kind1/wrong.txt")
    assert sum(report.samples.values()) == 30 + 4 + 2
    assert report.rejected["Crash"]["count"] == 3
    assert verify(tmp_path / "a") == []


def test_an_input_that_does_nothing_but_harm_is_given_up(texts: Path, tmp_path: Path) -> None:
    (texts / "kind0/mixed.txt").write_text("segfault\nsegfault\nfine\nexit\nexit\nfine")
    (texts / "kind0/poison.txt").write_text("fine\n" + "segfault\n" * 3 + "fine\nsegfault\nfine")
    for workers in (1, 2):
        make(texts, tmp_path / str(workers), workers=workers, shard_samples=50)
    found = {where.removeprefix("texts/kind0/"): reject for where, reject in rejected(tmp_path / "1").items()}
    assert set(found) == {f"mixed.txt:{n}" for n in (0, 1, 3, 4)} | {f"poison.txt:{n}" for n in range(1, 7)}
    untried = {where for where, reject in found.items() if reject.message.startswith("not tried")}
    assert untried == {f"poison.txt:{n}" for n in (4, 5, 6)}
    assert {reject.error for reject in found.values()} == {"Crash"}
    assert same(tmp_path / "1", tmp_path / "2")


def test_memory_is_bounded_and_reported(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text(f"good\nfill {3 << 30}\nfill {100 << 20}\ngood")
    report = make(tmp_path / "in", tmp_path / "out", memory=1 << 30)
    (reject,) = rejected(tmp_path / "out").values()
    assert (reject.start, reject.error) == (1.0, "TooLarge") and "--memory" in reject.message
    assert 50 << 20 < report.peak_memory < 1 << 30
    assert f"{report.peak_memory / 1e9:.2f} GB" in str(report)


def test_what_is_turned_away_leaves_the_memory(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/good.txt").write_text("good")
    for number in range(20):
        (tmp_path / f"in/{number}.txt").write_text(f"hold {200 << 20}")
    report = make(tmp_path / "in", tmp_path / "out")
    assert report.rejected["Refused"]["count"] == 20
    assert report.peak_memory < 700 << 20


def test_an_input_that_stands_is_named(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("good\nsleep 30\ngood")  # two times two seconds, for the watch to come up in
    make(tmp_path / "in", tmp_path / "out", timeout=2)
    assert any("in/a.txt has taken" in record.getMessage() for record in caplog.records)


def test_a_shard_of_rejects_alone_leaves_a_gap(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("good\n" * 5 + "refuse\n" * 5 + "good\n" * 2)
    make(tmp_path / "in", tmp_path / "out", val=0.0)
    manifest = read_manifest(tmp_path / "out")
    assert manifest.gaps == ["train-000001"] and manifest.rejected == 5
    assert [shard.name for shard in manifest.shards] == ["train-000000.tar", "train-000002.tar"]
    assert verify(tmp_path / "out") == []


def test_all_rejected_is_a_failure_that_leaves_the_rejects(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("refuse\nrefuse")
    with pytest.raises(Problem, match=r"every input was rejected: Refused 2 \(in/a.txt: as it was told\)"):
        make(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rejected.parquet"]
    assert list(rejected(tmp_path / "out")) == ["in/a.txt:0", "in/a.txt:1"]


def test_too_many_rejects_stop_the_build_and_a_higher_limit_goes_on(texts: Path, tmp_path: Path) -> None:
    (texts / "kind0/bad.txt").write_text("refuse\n" * 3)
    for limit in ("2", "5%"):
        with pytest.raises(Problem, match=f"more than --max-rejected {limit}: Refused 3"):
            make(texts, tmp_path / "a", max_rejected=limit)
    assert not (tmp_path / "a/manifest.json").exists()
    make(texts, tmp_path / "a", max_rejected="3")
    make(texts, tmp_path / "b", max_rejected="50%")
    assert same(tmp_path / "a", tmp_path / "b")


def test_a_finished_build_is_left_alone_and_another_refused(texts: Path, tmp_path: Path) -> None:
    make(texts, tmp_path / "a")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "a").rglob("*")}
    assert make(texts, tmp_path / "a").built == 0
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "a").rglob("*")}
    with pytest.raises(Misuse, match=r"another data set: seed 0 there, 1 here\. .*--overwrite"):
        make(texts, tmp_path / "a", seed=1)
    (texts / "kind0/new.txt").write_text("new")
    with pytest.raises(Misuse, match=r"inputs.files 12 there, 13 here"):
        make(texts, tmp_path / "a")
    make(texts, tmp_path / "a", overwrite=True)
    make(texts, tmp_path / "b")
    assert same(tmp_path / "a", tmp_path / "b")


def test_a_folder_that_is_not_ours_is_refused(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(Misuse, match="holds no data set of ours"):
            make(texts, tmp_path / "mine", overwrite=overwrite)
    with pytest.raises(Misuse, match="is a file"):
        make(texts, tmp_path / "mine/thesis.tex")
    with pytest.raises(Misuse, match="bytes at least"):
        make(texts, tmp_path / "out", memory=1)
    with pytest.raises(Problem, match="File name too long"):
        make(texts, tmp_path / ("n" * 300))


def test_what_is_read_and_what_is_written_lie_apart(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(texts)
    monkeypatch.chdir(texts)
    for inputs, output in (
        (texts, texts / "out"),
        (tmp_path / "link", texts / "out"),
        (texts, tmp_path / "link/out"),
        ("..", "out"),
        (texts / "*", texts / "out"),
        (texts / "**", texts / "out"),
    ):
        with pytest.raises(Misuse, match="lies inside --input"):
            make(inputs, output)
    make("kind0/*.txt", "kind0/out", val=0.0)
    for inputs, output, onto in (
        ("kind0/out/rejected.parquet", "kind0/out", None),
        ("kind0/out/shards/*.tar", "kind0/out", None),
        (texts, "kind0/out", "kind0/out"),
        (texts, "kind0/out/more", "kind0/out"),
    ):
        with pytest.raises(Misuse, match=r"lies in --(output|onto) "):
            make(inputs, output, onto=onto, overwrite=True)
    assert verify("kind0/out") == []


def test_a_build_that_was_ended_while_it_removed_an_old_one_leaves_nothing_of_it(texts: Path, tmp_path: Path) -> None:
    make(texts, tmp_path / "a")
    (tmp_path / "a/manifest.json").unlink()
    (tmp_path / "a/.build").mkdir()
    make(texts, tmp_path / "a", shard_samples=50)
    make(texts, tmp_path / "b", shard_samples=50)
    assert same(tmp_path / "a", tmp_path / "b")


def test_a_finished_set_without_a_shard_is_not_taken_for_whole(texts: Path, tmp_path: Path) -> None:
    make(texts, tmp_path / "a")
    shard = next((tmp_path / "a/shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(Problem, match=rf"1 of its shards are not there as they were written \({shard.name}\)"):
        make(texts, tmp_path / "a")
    make(texts, tmp_path / "a", overwrite=True)
    assert verify(tmp_path / "a") == []


def test_the_same_asked_for_in_other_words_is_the_same(texts: Path, tmp_path: Path) -> None:
    make(texts, f"file://{tmp_path}/a", val=0)
    assert make(texts, tmp_path / "a", val=0.0).built == 0


def test_rejects_of_any_name_are_built_later(tmp_path: Path) -> None:
    odd = tmp_path / "in" / os.fsdecode(b"caf\xe9.txt")
    odd.parent.mkdir()
    odd.write_text("refuse")
    (tmp_path / "in/good.txt").write_text("good")
    make(tmp_path / "in", tmp_path / "a")
    odd.write_text("accepted")
    assert make(tmp_path / "a/rejected.parquet", tmp_path / "b").built == 1


def test_a_row_without_a_path_and_group_is_a_reject_alone(texts: Path, tmp_path: Path) -> None:
    (texts / "list.csv").write_text("path,group,time\nkind0/file 0.txt,t1,0.5\n,t2,1.5\n,,2.5\n")
    make(texts / "list.csv", tmp_path / "a", group=".", val=0.0)
    planned = pq.read_table(tmp_path / "a/plan.parquet").to_pylist()
    assert {row["group"] for row in planned} == {"t1", "t2"} and len(planned) == 2
    assert [where.rsplit("/")[-1] for where in rejected(tmp_path / "a")] == ["list.csv#row-2:0", "list.csv#row-3:0"]


def test_the_second_of_two_builders_is_refused(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "out/.build").mkdir(parents=True)
    with (tmp_path / "out/.build/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Misuse, match="another shard-build is writing here"):
            make(texts, tmp_path / "out")


KILLED = """
import signal
import sys
from poison import Text
from pipelines import build
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell inherits it as ignored
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line does
    build(modality=Text, inputs=[sys.argv[1]], output=sys.argv[2], labels="parent", val=0.25, shard_samples=5,
          options={"pause": 0.25}, workers=1)
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_build_goes_on_and_gives_the_same_bytes(texts: Path, tmp_path: Path, stop: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    driver = subprocess.Popen(
        [sys.executable, "-c", KILLED, texts, tmp_path / "a"],
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    while not (committed := list((tmp_path / "a/.build").glob("*-0*.json"))) and driver.poll() is None:
        time.sleep(0.05)
    os.kill(driver.pid, stop)
    _, said = driver.communicate()
    assert driver.returncode != 0
    if stop is not signal.SIGKILL:
        assert b"interrupted; the same command goes on" in said and b"***" not in said
    assert committed and not (tmp_path / "a/manifest.json").exists()
    first = tmp_path / "a/shards" / committed[0].with_suffix(".tar").name
    before = first.stat().st_mtime_ns
    if stop is signal.SIGINT:  # what is not there as it was written is built again
        first.unlink()
    elif stop is signal.SIGTERM:
        (tmp_path / "a/index" / committed[0].with_suffix(".parquet").name).unlink()
    report = make(texts, tmp_path / "a", options={"pause": 0.25})
    assert 0 < report.built < 30 or stop is not signal.SIGKILL
    assert (first.stat().st_mtime_ns == before) == (stop is signal.SIGKILL)
    make(texts, tmp_path / "b", options={"pause": 0.25})
    assert same(tmp_path / "a", tmp_path / "b")


def test_writers_commit_nothing_once_another_build_has_begun(texts: Path, tmp_path: Path) -> None:
    plan, state = tmp_path / "a/.build/plan.parquet", tmp_path / "a/.build/state.json"

    def begin_another() -> None:
        while not plan.exists():
            time.sleep(0.01)
        state.write_text(json.dumps({**json.loads(state.read_text()), "run": "of another"}))

    thread = threading.Thread(target=begin_another, daemon=True)
    thread.start()
    with pytest.raises(Problem, match="another build was begun here"):
        make(texts, tmp_path / "a", options={"pause": 0.2})
    thread.join()
    assert not list(tmp_path.glob("a/shards/*.tar"))
    make(texts, tmp_path / "a", options={"pause": 0.2})
    make(texts, tmp_path / "b", options={"pause": 0.2}, workers=2)
    assert same(tmp_path / "a", tmp_path / "b")


def test_an_unfinished_build_refuses_another_config(texts: Path, tmp_path: Path) -> None:
    (texts / "kind0/bad.txt").write_text("refuse")
    with pytest.raises(Problem):
        make(texts, tmp_path / "a", max_rejected="0")
    with pytest.raises(Misuse, match=r"unfinished build of another kind: val 0.25 there, 0.5 here"):
        make(texts, tmp_path / "a", val=0.5)
    make(texts, tmp_path / "a", val=0.5, overwrite=True)
    assert json.loads((tmp_path / "a/manifest.json").read_text())["build"]["config"]["val"] == 0.5


def test_an_unfinished_build_refuses_inputs_that_are_not_as_they_were(texts: Path, tmp_path: Path) -> None:
    bad = texts / "kind0/bad.txt"
    bad.write_text("refuse")
    with pytest.raises(Problem):
        make(texts, tmp_path / "a", max_rejected="0")
    bad.write_text("accept")  # of the same size
    (texts / "kind0/new.txt").write_text("new")
    (texts / "kind1/file 1.txt").unlink()
    (texts / "kind1/file 4.txt").unlink()
    with pytest.raises(Misuse) as caught:
        make(texts, tmp_path / "a", max_rejected="0")
    assert str(caught.value) == (
        f"{tmp_path}/a: holds an unfinished build of another kind: inputs: 1 changed (texts/kind0/bad.txt), 2 gone "
        "(texts/kind1/file 1.txt, …), 1 new (texts/kind0/new.txt). Give another --output, or --overwrite to build anew"
    )
    make(texts, tmp_path / "a", overwrite=True)
    assert not (tmp_path / "a/.build").exists() and verify(tmp_path / "a") == []


@pytest.mark.parametrize("damaged", ["plan.parquet", "probe/000000.parquet"])
def test_a_damaged_file_of_an_unfinished_build_is_said_in_one_line(texts: Path, tmp_path: Path, damaged: str) -> None:
    (texts / "kind0/bad.txt").write_text("refuse")
    with pytest.raises(Problem):
        make(texts, tmp_path / "a", max_rejected="0")
    (tmp_path / "a/.build/probe/.nfs0001").write_bytes(b"")
    file = tmp_path / "a/.build" / damaged
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(Problem, match="or --overwrite starts anew"):
        make(texts, tmp_path / "a")
    make(texts, tmp_path / "a", overwrite=True)
    assert verify(tmp_path / "a") == []


@dataclass
class Asked:
    """Requests to a server. times: when they came, in seconds. open: not answered yet. most: open at a time."""

    times: list[float] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    most: int = 0


@contextlib.contextmanager
def served(texts: Path, file: Path) -> Iterator[Asked]:
    """Serve the texts on loopback, each after a while, and write a list of their URLs."""
    asked = Asked()

    class Web(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.times.append(time.monotonic())
            asked.open.add(id(self))
            asked.most = max(asked.most, len(asked.open))
            time.sleep(0.05)
            asked.open.discard(id(self))
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Web, directory=texts)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        urls = [f"{host}/{quote(str(path.relative_to(texts)))}" for path in texts.rglob("*.txt")]
        file.write_text("\n".join(["url", *urls]))
        yield asked
        server.shutdown()


def test_workers_share_the_rate_of_requests(texts: Path, tmp_path: Path) -> None:
    with served(texts, tmp_path / "list.csv") as asked:
        report = make(tmp_path / "list.csv", tmp_path / "a", rate=10.0, workers=2)
    assert report.built == 30 and len(asked.times) >= 12
    # Each worker's requests are a fifth of a second apart, and one of the two made at least half of them.
    assert max(asked.times) - min(asked.times) >= (len(asked.times) / 2 - 1) / 5 * 0.95


def test_an_input_from_afar_that_crashes_costs_itself_only(texts: Path, tmp_path: Path) -> None:
    (texts / "kind1/file 1.txt").write_text("well\nsegfault\nwell")
    with served(texts, tmp_path / "list.csv") as asked:
        report = make(tmp_path / "list.csv", tmp_path / "a", workers=1)
    (reject,) = rejected(tmp_path / "a").values()
    assert (reject.error, reject.start, report.built) == ("Crash", 1.0, 30)
    assert asked.most > 1  # by one process: it fetches ahead
    assert [sample["txt"] for sample in shard_tools.open(tmp_path / "a")].count("well") == 2


def test_images_give_equal_bytes_with_one_and_two_workers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number, suffix in enumerate(["jpg", "png", "webp", "gif", "tiff", "bmp"] * 3):
        file = tmp_path / "photos" / f"{number}.{suffix}"
        file.parent.mkdir(exist_ok=True)
        coarse = Pillow.fromarray(rng.integers(0, 255, (8, 12, 3), np.uint8))
        coarse.resize((300 + 20 * number, 290)).save(file)
    (tmp_path / "photos/notes.txt").write_text("not a picture")
    for output, workers in (("a", 1), ("b", 2)):
        make(tmp_path / "photos", tmp_path / output, modality="image", labels="none", workers=workers)
    assert same(tmp_path / "a", tmp_path / "b")
    assert verify(tmp_path / "a") == []
    assert [reject.error for reject in rejected(tmp_path / "a").values()] == ["UnknownFormat"]
    mean = np.mean(read_manifest(tmp_path / "a").statistics["mean"])
    assert 0.4 < mean < 0.6
