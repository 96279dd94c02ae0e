"""Inputs and plan: what goes where is a pure function of what there is."""

import itertools
import re
import tempfile
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.inputs.sorted import Inputs
from pipelines.inputs.sources import Source
from pipelines.modality import Piece, Reject
from pipelines.ordered import write_rows
from pipelines.plan import PROBED, Plan, Row, probed_rows, to_rows, within, write_plan
from shard_tools.errors import Misuse
from shard_tools.schema import KEY, PLAN

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=50)
pieces = st.lists(st.builds(Piece, bytes=st.integers(1, 5000), split=st.sampled_from(["", "", "val"])), max_size=4)


@st.composite
def probed(draw: st.DrawFn) -> list[tuple[Source, list[Piece]]]:
    sources = draw(st.lists(st.lists(names, min_size=1, max_size=3).map("/".join), unique=True, max_size=20))
    group = draw(st.sampled_from(["", "one group"]))
    return [(Source(name, f"/data/{name}", "", group or name, 1), draw(pieces)) for name in sources]


def plan(items: list, *, seed: int = 0, val: float = 0.3, by_group: bool = False, segments: int = 1) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        files = [scratch / f"{number}.parquet" for number in range(segments)]
        for number, file in enumerate(files):
            rows = probed_rows(items[number::segments], seed=seed, val=val, by_group=by_group)
            write_rows(file, rows, PROBED)
        out = scratch / "plan.parquet"
        write_plan(out, files, scratch, shard_bytes=8000, shard_samples=5, keep=by_group)
        made = Plan(out)
        made.publish(scratch / "public.parquet")
        public = pq.read_table(scratch / "public.parquet")
        rows = [row for shard in made.shards for row in to_rows(made.rows(shard))]
    assert public.schema.equals(PLAN) and public["key"].to_pylist() == [row.key for row in rows]
    assert made.samples == len(rows) and made.bytes == sum(row.bytes for row in rows)
    return rows


few = settings(max_examples=10)


@few
@given(probed(), st.randoms())
def test_the_plan_does_not_depend_on_the_order_of_the_inputs(items, random) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)
    assert plan(shuffled, segments=3) == plan(items)


@few
@given(probed())
def test_every_piece_has_a_row_and_every_row_a_valid_key_of_its_own(items) -> None:
    rows = plan(items)
    assert len(rows) == sum(len(own) for _, own in items)
    keys = [row.key for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(KEY.fullmatch(key) and len(key) <= 70 for key in keys)


@few
@given(probed())
def test_shards_keep_their_bounds_and_their_split(items) -> None:
    shards: dict[str, list] = {}
    for row in plan(items):
        shards.setdefault(row.shard, []).append(row)
    for name, rows in shards.items():
        assert {row.split for row in rows} == {name.split("-")[0]}
        assert len(rows) <= 5
        assert len(rows) == 1 or sum(row.bytes for row in rows) <= 8000


@few
@given(probed())
def test_pieces_of_an_input_stand_together_in_order(items) -> None:
    rows = [row for row in plan(items) if row.split == "train"]
    sources = [row.source for row in rows]
    assert all(sources[n] == sources[n - 1] or sources[n] not in sources[:n] for n in range(1, len(sources)))
    numbered = [row.key for row in rows if re.search(r"-\d{4}$", row.key)]
    assert all(a < b for a, b in pairwise(numbered) if a[:-5] == b[:-5])


def test_the_split_takes_about_its_share_and_keeps_groups_together() -> None:
    items = [(Source(f"s/{n}", f"/s/{n}", "", f"g{n // 4}", 1), [Piece()]) for n in range(4000)]
    rows = plan(items, val=0.2)
    groups = {split: {row.group for row in rows if row.split == split} for split in ("train", "val")}
    assert not groups["train"] & groups["val"]
    assert 0.15 < len(groups["val"]) / 1000 < 0.25
    assert groups["val"] != {row.group for row in plan(items, val=0.2, seed=1) if row.split == "val"}


def test_equal_hashes_make_longer_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.plan.HASH_LENGTH", 1)  # 16 hashes for 17 files of one name: two share one
    rows = plan([(Source(f"{n}/a", f"/{n}/a", "", f"{n}", 1), [Piece()]) for n in range(17)])
    assert len({row.key for row in rows}) == 17


def test_a_group_gives_key_and_shard_whatever_else_there_is() -> None:
    cameras = [(Source(f"front/{n}.jpg", f"/f/{n}", "", f"{n}", 1), [Piece(bytes=n + 1)]) for n in range(23)]
    sweeps = [(Source(f"top/{n}.bin", f"/t/{n}", "", f"{n}", 9), [Piece(bytes=5000)]) for n in range(23)]
    sweeps[7] = (sweeps[7][0], Reject("Corrupt", "as it was told"))
    one, other = plan(cameras, by_group=True), plan(sweeps, by_group=True)
    assert [(row.key, row.shard, row.split, row.group) for row in one] == [
        (row.key, row.shard, row.split, row.group) for row in other
    ]
    assert [row.group for row in other if not row.path] == ["7"]


def test_a_range_of_an_input_is_cut_like_the_whole() -> None:
    whole = [Piece(0, 8, 800), Piece(8, 16, 800), Piece(16, 20, 400)]
    assert within(whole, 0, -1) == whole
    assert within(whole, 2.5, 6) == [Piece(2.5, 6, 350)]
    assert [(p.start, p.end) for p in within(whole, 1, 18)] == [(1, 9), (9, 17), (17, 18)]
    assert [(p.start, p.end) for p in within(whole, 1, 17.5)] == [(1, 9), (9, 17)]
    assert [(p.start, p.end) for p in within(whole, 15, 99)] == [(15, 20)]
    scenes = [Piece(0, 8, 800), Piece(8, 11, 300), Piece(11, 19, 800)]
    assert within(scenes, 4, 15) == [Piece(4, 8, 400), Piece(8, 11, 300), Piece(11, 15, 400)]
    strides = [Piece(0, 8, 800), Piece(10, 18, 800), Piece(20, 28, 800)]
    assert within(strides, 10, 20.5) == [Piece(10, 18, 800)]
    assert within(strides, 7.5, 9) == [Piece(7.5, 8, 50)]
    assert within(strides, 8.5, 9) == [Piece(8.5, 9, 50)]
    blocks = [Piece(0, 256, 2560, "train", "@0"), Piece(256, 300, 440, "val", "@0")]
    assert within(blocks, 1, 2) == [Piece(1, 2, 10, "train", "@0")]
    assert within(blocks, 250, -1) == [Piece(250, 256, 60, "train", "@0"), blocks[1]]
    for pieces, start, end in ((whole, 20, -1), (whole, 5, 5), ([Piece()], 1, 2)):
        with pytest.raises(Reject):
            within(pieces, start, end)


def test_inputs_are_sorted_and_each_counts_once(tmp_path: Path) -> None:
    listed = [
        Source("b/2.jpg", "/b/2.jpg", group="b/2.jpg", bytes=5),
        Source("a/\udcff".encode("utf-8", "backslashreplace").decode(), "/a/\udcff", group="x", bytes=7),
        Source("2.jpg", "/b/2.jpg", group="2.jpg", bytes=5),
        Source("b/2.jpg", "/b/2.jpg", group="b/2.jpg", start=1.0, end=2.0, bytes=5),
    ]
    inputs = Inputs.sort(listed, tmp_path)
    again = Inputs.sort(listed[::-1], tmp_path)
    assert inputs == again and inputs.count == 3 and inputs.bytes == 17
    found = [source for batch in inputs.batches(2) for source in batch]
    assert [source.source for source in found] == ["2.jpg", "a/\\udcff", "b/2.jpg"]
    assert found[1].path == "/a/\udcff"
    assert Inputs.sort(listed[:1], tmp_path).sha256 != inputs.sha256


def test_an_input_that_lists_tell_of_differently_is_the_same_whichever_comes_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = [Source("a.jpg", "/a.jpg", group=group, bytes=size) for group, size in (("zzz", 5), ("aaa", 5), ("aaa", 6))]
    found = [Inputs.sort(order, tmp_path) for order in itertools.permutations(told)]
    assert len({inputs.sha256 for inputs in found}) == 1 and found[0].count == 1
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 6 and said[0].startswith("1 of the inputs come twice with other labels") and "a.jpg" in said[0]
    caplog.clear()
    assert Inputs.sort([told[0], told[0]], tmp_path).count == 1 and not caplog.records


def test_what_comes_twice_by_name_counts_once_on_the_web_and_in_a_tar(tmp_path: Path) -> None:
    twice = [Source("h/a.jpg", f"{kind}://h/a.jpg", group="g") for kind in ("http", "https")]
    twice += [Source("0.tar/b.jpg", "/x/0.tar", group="g", offset=offset) for offset in (512, 2048)]
    inputs = Inputs.sort(twice, tmp_path)
    assert [(source.path, source.offset) for (source,) in inputs.batches(1)] == [
        ("/x/0.tar", 512),
        ("http://h/a.jpg", -1),
    ]


@pytest.mark.parametrize(
    ("name", "places", "offset"),
    [
        ("clips/b.mp4", ("/clips/b.mp4", "/more/clips/b.mp4"), -1),
        ("photos/a.jpg", ("s3://one/photos/a.jpg", "s3://two/photos/a.jpg"), -1),
        ("laion/0.tar/a.jpg", ("/run1/laion/0.tar", "/run2/laion/0.tar"), 512),
    ],
)
def test_two_places_of_one_name_are_refused(tmp_path: Path, name: str, places: tuple[str, str], offset: int) -> None:
    same = [Source(name, path, group="g", offset=offset) for path in places]
    with pytest.raises(Misuse, match=f"both be called {name}: {places[0]} and {places[1]}"):
        Inputs.sort(same, tmp_path)


def test_no_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="no inputs"):
        Inputs.sort([], tmp_path)
