"""Sources and plan: what goes where is a pure function of the inputs."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.modality import Piece
from pipelines.plan import make_plan, plan_table
from pipelines.sources import Source, inputs_digest, list_sources
from shard_tools.errors import Misuse
from shard_tools.schema import KEY, PLAN

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=50)
pieces = st.lists(st.builds(Piece, bytes=st.integers(1, 5000), split=st.sampled_from(["", "", "val"])), max_size=4)


@st.composite
def probed(draw: st.DrawFn) -> list[tuple[Source, list[Piece]]]:
    sources = draw(st.lists(st.lists(names, min_size=1, max_size=3).map("/".join), unique=True, max_size=20))
    group = draw(st.sampled_from(["", "one group"]))
    return [(Source(name, f"/data/{name}", "", group or name, 1), draw(pieces)) for name in sources]


def plan(items: list[tuple[Source, list[Piece]]], **changes: object):
    return make_plan(items, **{"seed": 0, "val": 0.3, "shard_bytes": 8000, "shard_samples": 5, **changes})


@settings(deadline=None)
@given(probed(), st.randoms())
def test_the_plan_does_not_depend_on_the_order_of_the_inputs(items, random) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)
    assert plan(shuffled) == plan(items)


@settings(deadline=None)
@given(probed())
def test_every_piece_has_a_row_and_every_row_a_valid_key_of_its_own(items) -> None:
    rows = plan(items)
    assert len(rows) == sum(len(own) for _, own in items)
    keys = [row.key for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(KEY.fullmatch(key) and len(key) <= 70 for key in keys)
    assert plan_table(rows).schema.equals(PLAN)


@settings(deadline=None)
@given(probed())
def test_shards_keep_their_bounds_and_their_split(items) -> None:
    shards: dict[str, list] = {}
    for row in plan(items):
        shards.setdefault(row.shard, []).append(row)
    for name, rows in shards.items():
        assert {row.split for row in rows} == {name.split("-")[0]}
        assert len(rows) <= 5
        assert len(rows) == 1 or sum(row.bytes for row in rows) <= 8000


@settings(deadline=None)
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


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "clips/b.mp4",
        "clips/run/a.mp4",
        "clips/run/.hidden",
        "clips/.git/x",
        "clips/ünï côde.mp4",
        "clips/notes.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_folder_gives_all_but_hidden_files(tree: Path) -> None:
    sources = list_sources([tree / "clips"], "parent")
    assert [source.source for source in sources] == [
        "clips/b.mp4",
        "clips/notes.md",
        "clips/run/a.mp4",
        "clips/ünï côde.mp4",
    ]
    assert [source.label for source in sources] == ["clips", "clips", "run", "clips"]
    assert all(source.group == source.source for source in sources)


def test_folder_glob_and_file_give_a_file_the_same_name(tree: Path) -> None:
    for item in ("clips", "clips/*.mp4", "clips/**/*", "clips/b.mp4"):
        assert "clips/b.mp4" in [source.source for source in list_sources([tree / item])]


def test_the_order_of_inputs_and_repeated_ones_do_not_matter(tree: Path) -> None:
    both = [tree / "clips", tree / "clips/run", tree / "clips/b.mp4"]
    assert list_sources(both) == list_sources(both[::-1])
    assert len(list_sources(both)) == 4
    assert inputs_digest(list_sources(both)) == inputs_digest(list_sources(both[::-1]))


def test_links_are_followed_but_not_in_circles(tree: Path) -> None:
    (tree / "clips/run/up").symlink_to(tree / "clips")
    (tree / "other").mkdir()
    (tree / "other/c.mp4").write_text("c")
    (tree / "clips/link").symlink_to(tree / "other")
    (tree / "clips/broken.mp4").symlink_to(tree / "nowhere")
    found = [source.source for source in list_sources([tree / "clips"])]
    assert "clips/link/c.mp4" in found and "clips/broken.mp4" in found
    assert len(found) == 6


def test_a_name_that_is_not_utf8_is_escaped(tree: Path) -> None:
    (tree / "clips" / b"\xff.mp4".decode("utf-8", "surrogateescape")).write_text("x")
    assert "clips/\\xff.mp4" in [source.source for source in list_sources([tree / "clips"])]


@pytest.mark.parametrize(
    ("item", "message"),
    [("clisp", "did you mean clips"), ("empty", "no files in this folder"), ("clips/*.avi", "nothing matches")],
)
def test_inputs_that_are_not_there(tree: Path, item: str, message: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(Misuse, match=message):
        list_sources([tree / item])


def test_two_files_of_one_name_are_refused(tree: Path) -> None:
    (tree / "more/clips").mkdir(parents=True)
    (tree / "more/clips/b.mp4").write_text("another")
    with pytest.raises(Misuse, match=r"both be called clips/b.mp4"):
        list_sources([tree / "clips", tree / "more/clips"])
