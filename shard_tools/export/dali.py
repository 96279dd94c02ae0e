"""NVIDIA DALI: `NAME.idx`, a text index a shard, for `fn.readers.webdataset(paths=…, index_paths=…)`.

What DALI's own `wds2idx` writes (version v1.2), from our index instead of the tars: a line a sample, in it the
part, offset, size and member name of each file.
"""

from ..reader import Dataset
from ..storage import Storage
from .base import Format, rows_by_shard


def write(dataset: Dataset, output: Storage) -> list[str]:
    """Write the indexes."""
    parts, names = sorted(dataset.manifest.parts), []
    for shard, rows in rows_by_shard(dataset):
        lines = [f"v1.2 {shard.samples}"]
        for row in rows.to_pylist():
            places = (f"{part} {row[f'{part}.offset']} {row[f'{part}.size']} {row['key']}.{part}" for part in parts)
            lines.append(" ".join(places))
        names.append(f"{shard.name.removesuffix('.tar')}.idx")
        output.write(names[-1], ("\n".join(lines) + "\n").encode())
    return names


FORMAT = Format("NVIDIA DALI: an index a shard, to be given beside it", in_place=False, shards=False, write=write)
