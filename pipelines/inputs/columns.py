"""What lists and tars say of an input beside the file itself: columns, their roles, names, types and values."""

import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from shard_tools.arguments import nearest
from shard_tools.errors import Misuse
from shard_tools.schema import ColumnType

ROLES = {  # what we call a column → the names it is found by, the first that is there; case does not count
    "path": (
        *("path", "file", "file_path", "filepath", "file_name", "filename", "url", "uri"),
        *(f"{kind}{what}" for kind in ("image", "video", "audio") for what in ("_path", "_file", "_url", "")),
    ),
    "label": ("label", "class"),
    "caption": ("caption", "text"),
    "group": ("group",),
    "start": ("start", "start_time"),
    "end": ("end", "end_time"),
}
MISSING: dict[ColumnType, Any] = {"string": "", "int64": -1, "float64": -1.0, "bool": False}
# By us: in the part json, in the index, or in a condition of shard-tools.
TAKEN = frozenset({"source", "key", "split", "shape", "shard", *ROLES} - {"path"})
CLASH = "given_"  # goes before the name of a column that is taken

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Return text as valid Unicode on one line: stray bytes of a file name and control characters become escapes."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def check_roles(column_names: Mapping[str, str]) -> None:
    """Raise Misuse where a column is asked for that we have no use for."""
    for role in column_names:
        if role not in ROLES:
            raise Misuse(f"column {role}={column_names[role]}: no such role{nearest(role, ROLES)}; {', '.join(ROLES)}")


def find_roles(
    names: Collection[str], column_names: Mapping[str, str], where: str, wanted: Collection[str] = tuple(ROLES)
) -> dict[str, str]:
    """Return which of a list's columns has which role: ours → theirs.

    column_names: what the user said, ours → theirs; others are found by ROLES. Raises Misuse for a column that is not
    there.
    """
    folded = {name.lower(): name for name in reversed(list(names))}
    roles = {}
    for role in wanted:
        if theirs := column_names.get(role):
            if theirs not in names:
                raise Misuse(f"{where}: no column {theirs!r}{nearest(theirs, names)}; it has {', '.join(names)}")
            roles[role] = theirs
        elif found := [folded[name] for name in ROLES[role] if name in folded]:
            roles[role] = next((name for name in found if name not in column_names.values()), found[0])
    return roles


def carried_names(names: Iterable[str], reserved: Collection[str], where: str) -> dict[str, str]:
    """Return what the other columns of a list are called in a data set: theirs → ours.

    A name is brought to a-z, 0-9 and _; one that is taken (by TAKEN or `reserved`, the modality's own facts) gets
    'given_' before it. Raises Misuse where two would have one name.
    """
    ours: dict[str, str] = {}
    for number, theirs in enumerate(names):
        plain = unicodedata.normalize("NFKD", theirs).encode("ascii", "ignore").decode().lower()
        name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or f"column_{number}"
        name = name if name[0].isalpha() else f"column_{name}"
        name = CLASH + name if name in TAKEN or name in reserved else name
        if name in ours.values() or name in reserved:
            raise Misuse(f"{where}: the column {theirs!r} would be called {name}, as another is; rename one")
        ours[theirs] = name
    return ours


def merge_types(types: Iterable[ColumnType]) -> ColumnType:
    """Return the one type that holds the values of all: integers go into floats, anything into text."""
    distinct = set(types)
    if len(distinct) == 1:
        return distinct.pop()
    return "float64" if distinct == {"int64", "float64"} else "string"


def type_of(value: object) -> ColumnType | None:
    """Return the type of a scalar of JSON, None for lists and objects; null might be anything, so it is text."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if -(2**63) <= value < 2**63 else "string"
    if isinstance(value, float):
        return "float64"
    return "string" if value is None or isinstance(value, str) else None


def encode(values: Mapping[str, Any], types: Mapping[str, ColumnType]) -> str:
    """Return a JSON object with every column of `types`, sorted; '' where there are none.

    Values that are absent, null, not finite or of another type than their column's are '', -1, -1.0 or False.
    """
    if not types:
        return ""
    row = {name: _convert(values.get(name), kind) for name, kind in types.items()}
    return json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def decode(text: str) -> dict[str, Any]:
    """Return what `encode` was given; {} for what it cannot have written."""
    try:
        values = json.loads(text or "{}")
    except ValueError:
        return {}
    return {name: value for name, value in values.items() if type_of(value)} if isinstance(values, dict) else {}


def _convert(value: Any, kind: ColumnType) -> Any:
    found = type_of(value)
    if value is None or found is None:
        return MISSING[kind]
    if kind == "string":
        text = value if isinstance(value, str) else json.dumps(value)
        return text.encode("utf-8", "backslashreplace").decode()
    if kind == "float64" and found in ("int64", "float64"):
        return float(value) if math.isfinite(value) else MISSING[kind]
    return value if kind == found else MISSING[kind]
