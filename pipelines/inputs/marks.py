"""What was known of the inputs when a build was begun: a build that goes on must find them as they were."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.ordered import query, rows_of

from .sorted import Inputs

SCHEMA = pa.schema([("source", pa.string()), ("start", pa.float64()), ("end", pa.float64()), ("mark", pa.uint64())])
FILE = "marks.parquet"

MARKED = """
    SELECT source, start, "end", md5_number_lower(
        concat_ws(chr(0), label, "group", bytes, caption, columns, stamp)) AS mark
    FROM {inputs}
"""
DIFFERENT = """
    SELECT CASE WHEN before.mark IS NULL THEN 'new' WHEN after.mark IS NULL THEN 'gone' ELSE 'changed' END AS what,
        count(*) AS inputs, min(coalesce(before.source, after.source)) AS first
    FROM {before} AS before FULL JOIN {after} AS after USING (source, start, "end")
    WHERE before.mark IS DISTINCT FROM after.mark GROUP BY what ORDER BY what
"""


def write_marks(inputs: Inputs, scratch: Path) -> Path:
    """Return a Parquet file in the folder `scratch` with a mark an input: equal while what is known of it is equal."""
    file = scratch / FILE
    with query(scratch, MARKED, inputs=inputs.file) as batches, pq.ParquetWriter(file, SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch.cast(SCHEMA))
    return file


def difference(before: Path, after: Path, scratch: Path) -> str:
    """Return in words how inputs differ by their marks: '1 changed (photos/a.jpg), 2 new (photos/b.jpg, …)'; or ''."""
    with query(scratch, DIFFERENT, before=before, after=after) as batches:
        return ", ".join(
            f"{row['inputs']:,} {row['what']} ({row['first']}{', …' if row['inputs'] > 1 else ''})"
            for row in rows_of(batches)
        )
