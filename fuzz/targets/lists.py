"""`pipelines.inputs.lists`: lists of inputs. The first byte says which kind."""

import math

from fuzz.files import told, write
from pipelines.inputs.columns import encode
from pipelines.inputs.lists import List
from shard_tools.errors import Problem

NAMES = ("a.csv", "a.tsv", "a.jsonl")
SHARE = 0.02
SEEDS = [
    b'\0path,label,caption,n,f,b\na.jpg,x,"one, ""two""",007,1e999,true\nb.jpg,,,-1,.5,\n',
    b"\1url\tstart\tend\thttp\nhttp://x/a.mp4\t0\t1.5\t\n\t\t\t9\n",
    b'\2{"file": "a", "n": 1, "o": {"a": [1]}, "s": "\\ud83e\\udd80"}\n{"file": null, "n": 18446744073709551615}\n',
]


def check(data: bytes) -> None:
    """Read every row; its range is of numbers, and its columns can be stored."""
    name = NAMES[(data or b"\0")[0] % len(NAMES)]
    path = write(f"lists/{name}", data[1:])
    try:
        listed = List(path, name=name, column_names={}, reserved=("width",), suffix=name[1:])
        for row in listed.rows():
            assert not math.isnan(row.start) and not math.isnan(row.end)
            assert row.values.keys() == listed.columns.keys()
            encode(row.values, listed.columns).encode()
    except Problem as problem:
        told(problem)
