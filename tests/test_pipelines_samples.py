"""How samples come out of the process that decodes, and what a shard makes of them."""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from poison import Text

import shard_tools
from pipelines.decoder import Job
from pipelines.isolation import Isolated
from pipelines.modality import Piece, Reject, Sample
from pipelines.plan import Row
from pipelines.samples import Encoder, Layout, Samples
from pipelines.spool import Spool
from pipelines.statistics import merged, whole
from shard_tools.schema import Shard
from shard_tools.tar import END
from shard_tools.writer import ShardWriter

LAYOUT = Layout(["cls", "json", "txt"], {"room": "string"}, {"cat": 0, "dog": 1}, {"length": -1})


def row(number: int, path: str = "a.txt", split: str = "train") -> Row:
    return Row(
        source="a.txt", path=path, offset=-1, size=-1, start=float(number), end=number + 1.0, bytes=100, split=split,
        group="g", label="dog", caption=f"caption {number}", columns='{"room":"é"}', place="", key=f"a-{number}",
        shard="train-000000",
    )  # fmt: skip


def sample(number: int) -> Sample:
    return Sample({"json": {"length": number}}, (number,), {"lengths": whole([number / 3])})


def written(root: Path, spool: Spool, gathered: Sequence[Samples], layout: Layout = LAYOUT) -> Shard | None:
    with ShardWriter(root, "train-000000", layout.parts, layout.columns) as writer:
        for samples in gathered:
            writer.append(spool.view().data[samples.place : samples.place + samples.size], samples.rows)
        return writer.commit()


def test_what_is_taken_together_leaves_no_trace(tmp_path: Path) -> None:
    found = []
    for case, ends in enumerate([(6,), (1, 6), (2, 2, 5, 6), (1, 2, 3, 4, 5, 6)]):
        spool = Spool()
        encoder, gathered = Encoder(spool, LAYOUT), []
        for number in range(7):
            gathered += [encoder.take() for _ in range(ends.count(number))]
            encoder.add(sample(number), row(number))
        gathered.append(encoder.take())
        shard = written(tmp_path / str(case), spool, gathered)
        index = (tmp_path / str(case) / "index/train-000000.parquet").read_bytes()
        found.append((shard, index, merged(samples.summary for samples in gathered)))
    assert all(one == found[0] for one in found)


def test_samples_get_what_the_engine_knows() -> None:
    spool = Spool()
    encoder = Encoder(spool, LAYOUT)
    encoder.add(sample(1), row(1))
    encoder.add(encoder.absent, row(2, split="val"))
    encoder.add(Sample({**sample(3).parts, "txt": b"own words"}, (3,)), row(3))
    samples = encoder.take()
    data = bytes(spool.view())
    texts, documents, classes = (
        [data[one[f"{part}.offset"] :][: one[f"{part}.size"]].decode() for one in samples.rows.to_pylist()]
        for part in ("txt", "json", "cls")
    )  # fmt: skip
    assert texts == ["caption 1", "caption 2", "own words"]
    assert '"length":1' in documents[0] and '"length":-1' in documents[1] and '"room":"é"' in documents[1]
    assert classes == ["1", "1", "1"]
    assert samples.rows["shape"].to_pylist() == [[1], [0], [3]]
    assert samples.summary == {"lengths": whole([1 / 3])}
    assert not len(encoder.take().rows)


def test_a_sample_of_other_parts_is_refused_and_leaves_no_trace() -> None:
    spool = Spool()
    encoder = Encoder(spool, LAYOUT)
    encoder.add(sample(0), row(0))
    end = spool.end
    for parts in ({}, {"json": {}, "x": b""}, {"json": {"none": None}}):
        with pytest.raises(shard_tools.Problem):
            encoder.add(Sample(parts, (1,)), row(1))
    samples = encoder.take()
    assert (spool.end, samples.size, samples.rows["key"].to_pylist()) == (end, end, ["a-0"])


class Unruly(Text):
    """Its summaries do not add up."""

    def build(self, path: str, pieces: Sequence[Piece]) -> Iterator[Sample | Reject]:
        for number, one in enumerate(super().build(path, pieces)):
            assert isinstance(one, Sample)
            one.summary = {"letters": [1] * number}
            yield one


def isolated(kind: type[Text], *, keep: bool = False) -> Isolated:
    made = kind(kind.Options())
    job = Job(pickle.dumps(made), timeout=5, stall=10, memory=2 << 30, rate=None, retries=0, keep=keep)
    return Isolated(job)


TEXT = Layout(["json", "long.npy", "txt"], {}, {}, {"length": -1})


def test_samples_that_do_not_go_together_stop_the_build(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\nthree")
    rows = [row(number, str(tmp_path / "a.txt"))._replace(columns="") for number in range(3)]
    with closing(isolated(Unruly)) as process, pytest.raises(shard_tools.Problem, match="text do not go together"):
        list(process.build(rows, TEXT))


def test_the_dead_leave_absent_samples_in_their_places(tmp_path: Path) -> None:
    lines = ["one", "segfault", "three", "refuse", "exit", "exit", "seven"]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    rows = [row(number, str(tmp_path / "a.txt"))._replace(columns="") for number in range(len(lines))]
    rows.insert(3, row(9, "")._replace(columns=""))
    with closing(isolated(Text, keep=True)) as process:
        rejects = list(process.build(rows, TEXT))
        assert [reject.error if reject else "" for reject in rejects] == [
            "", "Crash", "", "", "Refused", "Crash", "Crash", "",
        ]  # fmt: skip
        shard = written(tmp_path / "kept", process.spool, process.samples, TEXT)
        assert shard is not None and shard.samples == len(rows)
    data = (tmp_path / "kept/shards/train-000000.tar").read_bytes()
    assert data.endswith(END)
    found = [(one["key"], data[one["txt.offset"] :][: one["txt.size"]].decode()) for one in index_of(tmp_path / "kept")]
    assert found == [
        ("a-0", "one"), ("a-1", "caption 1"), ("a-2", "three"), ("a-9", "caption 9"), ("a-3", "caption 3"),
        ("a-4", "caption 4"), ("a-5", "caption 5"), ("a-6", "seven"),
    ]  # fmt: skip


@pytest.mark.parametrize("keep", [False, True])
def test_what_is_worked_out_later_costs_its_own_sample_alone(tmp_path: Path, keep: bool) -> None:
    lines = [f"line {number}" for number in range(40)]
    lines[3], lines[20], lines[34], lines[38] = "later segfault", "later bug", "later corrupt", "later hang"
    (tmp_path / "a.txt").write_text("\n".join(lines))
    rows = [row(number, str(tmp_path / "a.txt"))._replace(columns="") for number in range(len(lines))]
    with closing(isolated(Text, keep=keep)) as process:
        rejects = list(process.build(rows, TEXT))
        assert {number: reject.error for number, reject in enumerate(rejects) if reject} == {
            3: "Crash", 20: "Internal", 34: "Corrupt", 38: "Timeout",
        }  # fmt: skip
        keys = [one["key"] for samples in process.samples for one in samples.rows.to_pylist()]
    assert keys == [row.key for row, reject in zip(rows, rejects, strict=True) if keep or not reject]


def index_of(root: Path) -> list[dict]:
    return pq.read_table(root / "index/train-000000.parquet").to_pylist()
