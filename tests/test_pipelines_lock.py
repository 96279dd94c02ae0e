"""One builder an output where there are no file locks: on an object store, here in memory."""

import threading
import time
from collections.abc import Iterator

import fsspec
import pytest

from pipelines import lock
from shard_tools.errors import Misuse, Problem
from shard_tools.storage import Storage

NAME = ".build/lock"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "DEAD", 0.5)
    yield Storage("memory://lock/data")
    fsspec.filesystem("memory").rm("/lock", recursive=True)


def test_of_builders_that_start_at_once_one_goes_on(store: Storage) -> None:
    held, refused, done = [], [], threading.Event()

    def build() -> None:
        try:
            with lock.hold(store, NAME) as check:
                held.append(check)
                done.wait()
        except Misuse as misuse:
            refused.append(str(misuse))

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    for check in held:
        check()
    assert len(held) == 1 and refused == ["memory://lock/data: another shard-build is writing here"] * 3
    done.set()
    for thread in threads:
        thread.join()
    store.write("other", b"")
    assert not store.exists(NAME)


def test_a_builder_that_was_taken_for_dead_stops_and_leaves_the_lock(store: Storage) -> None:
    with lock.hold(store, NAME) as check:
        check()
        store.write(NAME, b'{"owner": "another", "beat": 0}')
        time.sleep(0.5)
        with pytest.raises(Problem, match="another shard-build is writing here: it took this one for dead"):
            check()
    assert b"another" in store.read(NAME)
