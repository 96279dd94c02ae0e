"""The commands of `shard-tools`, one file each: what it is asked and what it prints; the work is done elsewhere."""

from . import cat, export, filter, inspect, ls, merge, reshard, sample, split, stats, verify, view
from .base import Command

COMMANDS: dict[str, Command] = {
    "inspect": inspect.COMMAND,
    "verify": verify.COMMAND,
    "view": view.COMMAND,
    "ls": ls.COMMAND,
    "cat": cat.COMMAND,
    "stats": stats.COMMAND,
    "split": split.COMMAND,
    "merge": merge.COMMAND,
    "filter": filter.COMMAND,
    "reshard": reshard.COMMAND,
    "sample": sample.COMMAND,
    "export": export.COMMAND,
}
