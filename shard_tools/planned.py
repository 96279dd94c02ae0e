"""Do plan, index and rejects of a data set agree? Plan and index stand in the same order, so they are merged as they
are read, a shard at a time: ten million samples need no more memory than their hashes.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .errors import Problem
from .index import read_shard_index
from .keys import Hashes, hash_text, repeated_texts
from .scan import scan_parquet
from .schema import PLAN, REJECTED, Manifest, Shard
from .storage import Storage

SAME = ["source", "start", "end", "split", "group", "label"]  # what plan and index must agree on
ORIGIN = ["source", "start", "end"]
LIMIT = 20  # findings of one kind, of one shard


def check_plan(storage: Storage, manifest: Manifest, indexes: Iterable[tuple[Shard, pa.Table | None]]) -> Iterator[str]:
    """Yield where plan, index and rejects disagree, and keys that come twice.

    indexes: the index of every shard in the order of the manifest, None for one that is not readable.
    Raises Problem where plan.parquet or rejected.parquet is missing, not readable or of other columns.
    """
    planned = _Planned(storage, manifest)
    for shard, index in indexes:
        yield from planned.shard(shard, index)
    yield from planned.end()


class _Planned:
    """Checks the index of one shard after the other, in the order of the manifest, against the plan."""

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        self._storage, self._manifest = storage, manifest
        self._ranks = {shard.name.removesuffix(".tar"): rank for rank, shard in enumerate(manifest.shards)}
        self._refused = Hashes()
        self._rejected = 0
        for rows in scan_parquet(storage, "rejected.parquet", REJECTED, ORIGIN):
            self._refused.add(_origin(rows))
            self._rejected += len(rows)
        self._plan_keys, self._index_keys = Hashes(), Hashes()
        self._groups = _by_shard(scan_parquet(storage, "plan.parquet", PLAN, PLAN.names))
        self._next = self._read()

    def shard(self, shard: Shard, index: pa.Table | None) -> Iterator[str]:
        """Yield where the index of a shard and the plan differ. index: None where it is not readable."""
        name = shard.name.removesuffix(".tar")
        yield from self._before(self._ranks[name])
        if index is not None:
            self._index_keys.add(index["key"])
        if self._next is None or self._next[0] != name:
            if index is not None and len(index):
                yield f"{shard.name}: not in plan.parquet where it would stand"
            return
        plan, self._next = self._next[1], self._read()
        if index is not None:
            yield from few(self._compare(plan, index), shard.name)

    def end(self) -> Iterator[str]:
        """Yield what is wrong with the rest of the plan, the number of rejects, and keys that come twice."""
        if self._rejected != self._manifest.rejected:
            yield f"rejected.parquet: {self._rejected} rows, the manifest says {self._manifest.rejected}"
        yield from self._before(len(self._ranks))
        plan = (rows["key"] for rows in scan_parquet(self._storage, "plan.parquet", PLAN, ["key"]))
        for key in repeated_texts(self._plan_keys.repeated(), plan, LIMIT):
            yield f"plan.parquet: a key comes twice: {key}"
        for key in repeated_texts(self._index_keys.repeated(), self._indexed_keys(), LIMIT):
            yield f"sample {key}: its key comes twice in the data set"

    def _before(self, rank: int) -> Iterator[str]:
        """Yield what is wrong with the shards of the plan before the manifest's shard of this rank."""
        while self._next is not None and self._ranks.get(self._next[0], -1) < rank:
            name, plan = self._next
            if name in self._ranks:
                yield f"plan.parquet: the rows of {name} do not stand together, in the order of the shards"
            elif name not in self._manifest.gaps:
                yield f"plan.parquet: {name} is neither a shard nor a gap of the manifest"
            else:
                yield from few(self._lost(plan), name)
            self._next = self._read()

    def _read(self) -> tuple[str, pa.Table] | None:
        """Return the next shard of the plan with its rows; None at the end."""
        group = next(self._groups, None)
        if group:
            self._plan_keys.add(group[1]["key"])
        return group

    def _compare(self, plan: pa.Table, index: pa.Table) -> Iterator[str]:
        """Yield where the rows of a shard in plan and index differ."""
        found = pc.index_in(index["key"], value_set=plan["key"].combine_chunks())
        for key in index["key"].filter(pc.is_null(found)).to_pylist():
            yield f"sample {key}: not in plan.parquet"
        known = index.filter(pc.is_valid(found))
        places = pc.drop_null(found).to_numpy()
        there = plan.take(pa.array(places))
        differs = {name: pc.fill_null(pc.not_equal(known[name], there[name]), True).to_numpy() for name in SAME}
        for row in np.flatnonzero(np.any(list(differs.values()), axis=0)).tolist():
            wrong = [name for name in SAME if differs[name][row]]
            yield f"sample {known['key'][row]}: index and plan.parquet differ in {', '.join(wrong)}"
        if (np.diff(places) <= 0).any():
            yield "its samples stand in another order than in plan.parquet"
        missing = np.ones(len(plan), bool)
        missing[places] = False
        yield from self._lost(plan.filter(pa.array(missing)))

    def _lost(self, plan: pa.Table) -> Iterator[str]:
        """Yield rows of the plan that are in no shard, unless they were rejected."""
        if not len(plan):
            return
        hashes, refused = hash_text(_origin(plan)), self._refused.sorted()
        place = np.searchsorted(refused, hashes)
        lost = place == len(refused)
        lost[~lost] = refused[place[~lost]] != hashes[~lost]
        for row in plan.filter(pa.array(lost)).select(["key", "source"]).to_pylist():
            yield f"sample {row['key']}: planned from {row['source']}, but neither in a shard nor rejected"

    def _indexed_keys(self) -> Iterator[pa.ChunkedArray]:
        for shard in self._manifest.shards:
            try:
                yield read_shard_index(self._storage, self._manifest, shard)["key"]
            except Problem:  # reported where the shard was checked
                continue


def few(findings: Iterable[str], where: str) -> Iterator[str]:
    """Yield the first findings, and that there are more: a data set may be wrong in every sample."""
    for number, finding in enumerate(findings):
        if number == LIMIT:
            yield f"{where}: and more of the kind"
            return
        yield finding


def _by_shard(tables: Iterable[pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    """Yield (shard, its rows) where the rows of a shard stand together."""
    name = ""
    blocks: list[pa.Table] = []
    for table in tables:
        encoded = table["shard"].combine_chunks().dictionary_encode()
        codes = encoded.indices.to_numpy()
        bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
        for start, end in pairwise(bounds):
            shard = encoded.dictionary[int(codes[start])].as_py()
            if blocks and shard != name:
                yield name, pa.concat_tables(blocks)
                blocks = []
            name = shard
            blocks.append(table.slice(start, end - start))
    if blocks:
        yield name, pa.concat_tables(blocks)


def _origin(table: pa.Table) -> pa.ChunkedArray:
    """Return source and range of each row as one text."""
    numbers = (table[name].cast(pa.string()) for name in ("start", "end"))
    return pc.binary_join_element_wise(table["source"], *numbers, "\n")
