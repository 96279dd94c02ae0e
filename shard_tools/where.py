"""Choose samples by a condition of SQL over the columns of the index: label = 'cat' AND "jpg.size" > 20000.

DuckDB evaluates it. A condition may come from anywhere: it is parsed as one expression and reaches no file.
"""

import functools
import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from .arguments import nearest
from .errors import Misuse
from .schema import Manifest, Shard, index_schema

if TYPE_CHECKING:
    import duckdb

SHARD, ROW = "shard", "__row__"
SAFE: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "threads": "1",
}


@functools.cache
def connect() -> "duckdb.DuckDBPyConnection":
    """Return a DuckDB that reaches no file and no network, and lets no statement change that."""
    import duckdb  # half of a command's start-up, so only where it is needed

    connection = duckdb.connect(config=SAFE)
    connection.execute("SET lock_configuration = true")
    return connection


class Condition:
    """A condition over the rows of an index. Columns: those of `schema.index_schema`, and the name of the shard."""

    def __init__(self, expression: str, manifest: Manifest) -> None:
        """Raises Misuse for what is no condition, or names no column."""
        self._expression = expression
        schema = index_schema(list(manifest.parts), manifest.columns)
        self._columns = [*schema.names, SHARD]
        self._rows(schema.empty_table(), "")

    def rows(self, table: pa.Table, shard: Shard) -> np.ndarray:
        """Return the rows of a shard's index that fulfil the condition, int64, ascending. Raises Misuse."""
        return self._rows(table, shard.name.removesuffix(".tar"))

    def _rows(self, table: pa.Table, shard: str) -> np.ndarray:
        if SHARD not in table.column_names:
            table = table.append_column(SHARD, pa.array([shard] * len(table), pa.string()))
        table = table.append_column(ROW, pa.array(np.arange(len(table))))
        import duckdb

        try:
            found = connect().from_arrow(table).filter(self._expression).project(ROW).fetchnumpy()[ROW]
        except duckdb.Error as error:
            raise Misuse(f"--where {self._expression}: {self._explain(str(error))}") from None
        return np.sort(np.asarray(found, np.int64))

    def _explain(self, message: str) -> str:
        """Return one line of a message of DuckDB, with the nearest column for one that is not there."""
        if unknown := re.search(r'Referenced (?:column|table) "([^"]*)" not found', message):
            name = unknown[1]
            dotted = [column for column in self._columns if column.startswith(f"{name}.")]
            if dotted:  # jpg.size is a column of a table jpg to SQL
                return f'no column {name}; a name with a dot stands in double quotes, like "{dotted[-1]}"'
            known = f"there is {', '.join(self._columns)}; a text stands in single quotes"
            return f"no column {name}{nearest(name, self._columns)}; {known}"
        return " ".join(message.split("\n\n")[0].split())
