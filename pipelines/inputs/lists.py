"""Lists of inputs: csv, tsv, jsonl and Parquet files with a row an input, read by DuckDB in bounded memory."""

import csv
import glob
import math
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import duckdb

from shard_tools.errors import Misuse, Problem
from shard_tools.schema import ColumnType

from .columns import carried_names, find_roles, merge_types

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = frozenset({*DELIMITERS, ".jsonl", ".ndjson", ".parquet"})
BATCH = 10_000  # rows in memory
MEMORY = "512MB"
HEADER_BYTES = 1 << 20

# The type of a csv value: digits that a number would lose (007, 19 digits) make it text.
CSV_KIND = r"""CASE WHEN {0} IS NULL OR {0} = '' THEN NULL
    WHEN regexp_full_match({0}, '-?(0|[1-9]\d{{0,17}})') THEN 'int64'
    WHEN regexp_full_match({0}, '-?(0|[1-9]\d{{0,15}})(\.\d*)?([eE][+-]?\d{{1,2}})?') THEN 'float64'
    WHEN lower({0}) IN ('true', 'false') THEN 'bool' ELSE 'string' END"""
JSON_KIND = """CASE coalesce(json_type({0}), 'NULL') WHEN 'NULL' THEN NULL WHEN 'BOOLEAN' THEN 'bool'
    WHEN 'DOUBLE' THEN 'float64' WHEN 'BIGINT' THEN 'int64'
    WHEN 'UBIGINT' THEN if(try_cast({0} AS BIGINT) IS NULL, 'string', 'int64') ELSE 'string' END"""
KINDS: dict[str, ColumnType] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"), "int64"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "float64"),
    "BOOLEAN": "bool",
}
NESTED = re.compile(r"\]$|^(STRUCT|MAP|UNION)\(")
SQL_TYPE = {"string": "VARCHAR", "int64": "BIGINT", "float64": "DOUBLE", "bool": "BOOLEAN"}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a list. path: as it stands there, '' for none. values: of the carried columns, None where empty."""

    number: int  # from 1
    path: str
    label: str = ""
    caption: str = ""
    group: str = ""
    start: float = 0.0
    end: float = -1.0
    values: dict[str, Any] = field(default_factory=dict)


class List:
    """A list of inputs.

    roles: 'path', 'label', 'caption', 'group', 'start', 'end' → the list's column. columns: the carried ones, name →
    type; types are those of a Parquet file's schema, and exact (of all values) for csv and jsonl.
    """

    def __init__(
        self, path: str, *, name: str, column_names: Mapping[str, str], reserved: Collection[str], suffix: str
    ) -> None:
        """path: local. name: for messages. Raises Misuse for a list without paths, Problem for a damaged one."""
        self.name = name
        self._path = path
        self._suffix = suffix
        self._empty: set[str] = set()  # columns without any value
        self._nested: set[str] = set()  # columns of lists and objects, which become JSON
        with self._database() as database:
            theirs = self._types(database)
        self.roles = find_roles(list(theirs), column_names, name)
        if "path" not in self.roles:
            raise Misuse(
                f"{name}: no column of paths or URLs; it has {', '.join(theirs) or 'none'}; "
                "name it: --column path=NAME (found by themselves: path, file, file_name, url, image, …)"
            )
        for role in ("start", "end"):
            if (column := self.roles.get(role)) and theirs[column] not in ("int64", "float64"):
                if column not in self._empty:
                    raise Misuse(f"{name}: column {column} ({role}) holds {theirs[column]}, not seconds or rows")
                del self.roles[role]
        roles = set(self.roles.values())
        others = [column for column, kind in theirs.items() if kind and column not in roles]
        self._carried = carried_names(others, reserved, name)
        self.columns: dict[str, ColumnType] = {
            ours: theirs[column] or "string" for column, ours in self._carried.items()
        }

    def rows(self) -> Iterator[Row]:
        """Yield the rows, a batch of them in memory. Raises Problem for a damaged list."""
        fields = {f"role {role}": self._cast(column, "float64" if role in ("start", "end") else "string")
                  for role, column in self.roles.items()}  # fmt: skip
        fields |= {ours: self._cast(theirs, self.columns[ours]) for theirs, ours in self._carried.items()}
        select = ", ".join(f"{cast} AS {_quoted(name)}" for name, cast in fields.items())
        number = 0
        with self._database() as database:
            query = f"SELECT {select} FROM {self._table}"
            for batch in database.sql(query, params=[self._pattern]).to_arrow_reader(BATCH):
                for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    yield self._row(number, values)

    def _row(self, number: int, values: tuple[Any, ...]) -> Row:
        told = dict(zip(self.roles, values, strict=False))
        return Row(
            number,
            told["path"] or "",
            told.get("label") or "",
            told.get("caption") or "",
            told.get("group") or "",
            *range_of(told.get("start"), told.get("end")),
            dict(zip(self._carried.values(), values[len(self.roles) :], strict=True)),
        )

    @contextmanager
    def _database(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a DuckDB that may read this file and nothing else; what it says of a damaged list becomes a Problem."""
        config: dict[str, Any] = {"threads": 1, "memory_limit": MEMORY, "autoinstall_known_extensions": False}
        with duckdb.connect(config=config) as database:
            try:
                database.execute("SET enable_progress_bar = false")  # it would go to stdout
                database.execute("SET allowed_paths = $paths", {"paths": [self._path, self._pattern]})
                database.execute("SET enable_external_access = false")
                yield database
            except (duckdb.Error, OSError, UnicodeDecodeError, csv.Error) as error:
                lines = [line.strip() for line in str(error).replace(self._path, self.name).splitlines()]
                said = "; ".join(line for line in lines[:3] if line and "Possible" not in line)
                raise Problem(f"{self.name}: cannot be read as {self._suffix[1:]}: {said}") from None

    @property
    def _pattern(self) -> str:
        return glob.escape(self._path)  # DuckDB would expand it

    @cached_property
    def _table(self) -> str:
        """The table function that reads the file, its path still to be given."""
        if self._suffix == ".parquet":
            return "read_parquet(?)"
        if self._suffix in DELIMITERS:
            columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in self._header())
            return (
                f"read_csv(?, auto_detect = false, header = true, columns = {{{columns}}}, "
                f"delim = {_text(DELIMITERS[self._suffix])}, quote = '\"', escape = '\"', comment = '')"
            )
        return "read_json(?, format = 'newline_delimited', records = true, maximum_depth = 1, sample_size = -1)"

    def _header(self) -> list[str]:
        with open(self._path, encoding="utf-8-sig", newline="") as file:
            lines = iter(lambda: file.readline(HEADER_BYTES), "")
            names = next(csv.reader(lines, delimiter=DELIMITERS[self._suffix]), [])
        if not any(names):
            raise Misuse(f"{self.name}: no header line with the names of the columns")
        names = [name or f"column_{number}" for number, name in enumerate(names)]  # pandas leaves its index unnamed
        folded = [name.lower() for name in names]
        if twice := [name for name in names if folded.count(name.lower()) > 1]:
            raise Misuse(f"{self.name}: two columns are called {twice[0]!r} and {twice[1]!r}")
        return names

    def _types(self, database: duckdb.DuckDBPyConnection) -> dict[str, ColumnType | None]:
        """Return the type of every column; None for bytes, which are not carried."""
        described = database.execute(f"DESCRIBE SELECT * FROM {self._table}", [self._pattern]).fetchall()
        types = {name: type_ for name, type_, *_ in described}
        if self._suffix == ".parquet":
            self._nested = {name for name, type_ in types.items() if NESTED.search(type_)}
            return {name: _kind(type_) for name, type_ in types.items()}
        kind = CSV_KIND if self._suffix in DELIMITERS else JSON_KIND
        kinds = ", ".join(f"list(DISTINCT {kind.format(_quoted(name))})" for name in types)
        found = database.execute(f"SELECT {kinds} FROM {self._table}", [self._pattern]).fetchone() or ()
        kinds_of = {name: {kind for kind in own or () if kind} for name, own in zip(types, found, strict=True)}
        self._empty = {name for name, own in kinds_of.items() if not own}
        return {name: merge_types(own) for name, own in kinds_of.items()}

    def _cast(self, column: str, kind: ColumnType) -> str:
        name = _quoted(column)
        if self._suffix in (".jsonl", ".ndjson"):  # the text of a string, the JSON of anything else
            name = f"({name} ->> '$')"
        elif column in self._nested:
            name = f"to_json({name})"
        elif self._suffix in DELIMITERS and kind != "string":
            name = f"nullif({name}, '')"
        return f"CAST({name} AS {SQL_TYPE[kind]})"


def range_of(start: float | None, end: float | None) -> tuple[float, float]:
    """Return the range that two cells of a list ask for: 0 and -1 where one is empty, negative, NaN or infinite."""
    known = [value if value is not None and 0 <= value < math.inf else None for value in (start, end)]
    return known[0] or 0.0, -1.0 if known[1] is None else known[1]


def _kind(sql_type: str) -> ColumnType | None:
    if "BLOB" in sql_type:
        return None
    return "float64" if sql_type.startswith("DECIMAL") else KINDS.get(sql_type, "string")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
