"""What the targets of tables share."""

from pipelines.modality import Reject
from pipelines.modality.table import Options, Table

TABLE = Table(Options())
BLOCKS = 4  # that are built of each


def check_table(path: str) -> None:
    """Probe and build: a table is refused in one line, or has rows and gives every block that it promised."""
    try:
        pieces = TABLE.probe(path)
        results = list(TABLE.build(path, pieces[:BLOCKS]))
    except Reject as reject:
        assert reject.message and "\n" not in reject.message and reject.error.isalpha()
        return
    assert pieces and len(results) == len(pieces[:BLOCKS])
