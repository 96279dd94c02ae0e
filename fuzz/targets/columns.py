"""`pipelines.inputs.columns`: names and values that lists and tars bring. Input: JSON, an object of any columns."""

import json

from pipelines.inputs.columns import carried_names, decode, encode, find_roles, printable, type_of
from shard_tools.errors import Misuse

SEEDS = [
    b'{"path": "a", "Url": 1, "label": true, "X y": null, "1": 1e400, "\\ud800": "\\ud800\\u0000", "n": [1]}',
    b'{"start": 18446744073709551616, "end": -0.0, "a-b": NaN, "key": "\\u202e"}',
    "a\tü".encode(),
]


def check(data: bytes) -> None:
    """Name, type and store the columns; any text becomes one line of Unicode."""
    text = printable(data.decode("utf-8", "surrogateescape"))
    assert "\n" not in text and "\0" not in text
    text.encode()
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(values, dict):
        return
    types = {name: kind for name, value in values.items() if (kind := type_of(value))}
    try:
        find_roles(list(values), {}, "list")
        ours = carried_names(types, ("width",), "list")
    except Misuse:
        return
    assert len(set(ours.values())) == len(types)
    stored = encode({ours[name]: values[name] for name in types}, {ours[name]: types[name] for name in types})
    stored.encode()
    assert decode(stored).keys() == set(ours.values())
