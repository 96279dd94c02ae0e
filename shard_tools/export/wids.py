"""wids: `wids-SPLIT.json`, a list of shards with their lengths, for random access by `wids.ShardListDataset`.

Part of the webdataset package before its version 1.0. https://github.com/webdataset/webdataset/blob/v0.2.111/wids
"""

import json

from ..reader import Dataset
from ..storage import Storage
from .base import Format, shards_url


def write(dataset: Dataset, output: Storage) -> list[str]:
    """Write a list a split."""
    folder, names = shards_url(dataset, output), []
    for split in dataset.manifest.splits:
        shards = [shard for shard in dataset.shards if shard.split == split]
        index = {
            "__kind__": "wids-shard-index-v1",
            "wids_version": 1,
            "name": f"{dataset.manifest.name}-{split}",
            "shardlist": [
                {"url": f"{folder}/{shard.name}", "nsamples": shard.samples, "filesize": shard.bytes}
                for shard in shards
            ],
        }
        if shards:
            names.append(f"wids-{split}.json")
            output.write(names[-1], (json.dumps(index, indent=1) + "\n").encode())
    return names


FORMAT = Format("wids: a list of shards a split, for random access", in_place=True, shards=False, write=write)
