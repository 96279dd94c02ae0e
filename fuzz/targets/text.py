"""Separated values and JSON Lines, from probe to samples: what we do around DuckDB. The first byte says which."""

from fuzz.files import write
from fuzz.tables import check_table

NAMES = ("a.csv", "a.tsv", "a.jsonl")
SHARE = 0.02
SEEDS = [
    b'\0a,b,c\n1,x,2020-01-01\n2,"y\n""z",2020-01-02\n?,NA,\n',
    b"\0;1;2\n0;1,5;x\n1;2,5;y\n",
    b"\1a\tb\n\tu\n1\t2\n3\t4\n5\t6\n",
    b"\0" + "ä,b\n1,ß\n".encode("utf-16"),
    b"\0a,b\n1,\xfc\n2,x\n",
    b'\2{"a": 1, "b": [1, {"c": null}]}\n{"a": "x"}\n',
]


def check(data: bytes) -> None:
    """Probe and build."""
    check_table(write(f"text/{NAMES[(data or b'0')[0] % len(NAMES)]}", data[1:]))
