"""JSON Lines: an object a line, its fields the columns; what is nested becomes text."""

import re
from collections.abc import Sequence
from typing import Any, Self

import pyarrow as pa
from typing_extensions import override

from pipelines.modality.base import Reject

from .source import RANGE_BYTES, WHOLE_BYTES, Range
from .text import Text, literal, quoted

DESCRIBED = 8  # ranges at once
NUMERIC = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*")


class JsonLines(Text):
    """A file of JSON Lines. types: of the columns in DuckDB's words, where the file is read whole; otherwise none."""

    suffixes = (".jsonl", ".ndjson")

    def __init__(self, path: str, names: list[str], types: list[str], kinds: str) -> None:
        super().__init__(path)
        self.names, self.types, self.kinds = names, types, kinds

    @override
    @classmethod
    def open(cls, path: str, head: bytes, header: str) -> Self:
        if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            raise Reject("WrongModality", "its lines are not JSON objects")
        file = cls(path, [], [], "")
        if file.size <= WHOLE_BYTES:
            types = file._describe([])
            return cls(path, list(types), list(types.values()), "s" * len(types))
        kinds: dict[str, str] = {}
        ranges = file.ranges()
        for first in range(0, len(ranges), DESCRIBED):
            for name, type_ in file._describe(ranges[first : first + DESCRIBED]).items():
                kinds[name] = _both(kinds.get(name, ""), _kind(type_))
        return cls(path, list(kinds), [], "".join(kind or "s" for kind in kinds.values()))

    @override
    @classmethod
    def reopen(cls, path: str, recipe: Any) -> Self:
        return cls(path, *recipe)

    @override
    @property
    def recipe(self) -> Any:
        return [self.names, self.types, self.kinds]

    @override
    @property
    def columns(self) -> pa.Schema:
        if not self.types:
            return super().columns
        values = ", ".join(self.value(column, []) for column in range(len(self.names)))
        sample = self.connection.sql(f"SELECT {values} FROM {self.table(self.path, [])}").limit(0)
        return pa.schema(list(zip(self.names, sample.to_arrow_table().schema.types, strict=True)))

    @override
    def ranges(self) -> list[Range]:
        found, start, end = [], 0, 0
        with open(self.path, "rb") as file:
            while block := file.read(RANGE_BYTES):
                if (last := block.rfind(b"\n")) >= 0:
                    found.append(Range(start, end + last + 1 - start))
                    start = end + last + 1
                end += len(block)
        return [*found, Range(start, end - start)] if end > start else found

    @override
    def table(self, path: str, ranges: Sequence[Range]) -> str:
        read = f"read_json({literal(path)}, format='newline_delimited', "
        if not ranges:
            return f"{read}sample_size=-1)"
        types = ["DOUBLE" if kind == "n" else "VARCHAR" for kind in self.kinds]
        columns = [f"{quoted(name)}: '{type_}'" for name, type_ in zip(self.names, types, strict=True)]
        return f"{read}columns={{{', '.join(columns)}}})"

    @override
    def value(self, column: int, ranges: Sequence[Range]) -> str:
        name = quoted(self.names[column])
        if ranges:
            return f"TRY_CAST({name} AS TIMESTAMP)" if self.kinds[column] == "t" else name
        # A column of mixed types comes as JSON; ->> takes the quotes off its texts.
        return f"{name} ->> '$'" if self.types[column] == "JSON" else name

    @override
    def is_wrong(self, column: int, ranges: Sequence[Range]) -> str:
        return f"{self.value(column, ranges)} IS NULL AND {quoted(self.names[column])} IS NOT NULL"

    def _describe(self, ranges: Sequence[Range]) -> dict[str, str]:
        """Return the names and types of the fields of some ranges, without any of the file, in DuckDB's words."""
        with self._file(ranges) as path:
            found = self.connection.execute(f"DESCRIBE FROM {self.table(path, [])}").fetchall()
        return {name: type_ for name, type_, *_ in found}


def _kind(type_: str) -> str:
    """Return the kind of a column of a type; '' where it had no value."""
    if type_ == '"NULL"':
        return ""
    return "n" if NUMERIC.fullmatch(type_) else "t" if type_ in ("DATE", "TIMESTAMP") else "s"


def _both(one: str, other: str) -> str:
    return one if one == other or not other else other if not one else "s"
