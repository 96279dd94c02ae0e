"""What a build tells when it ends."""

from dataclasses import asdict, dataclass, field
from typing import Any

from shard_tools.words import say_bytes, say_count


@dataclass(frozen=True, slots=True)
class Report:
    """A finished build.

    samples: of each split. rejected: see `rejects.reasons`. built: samples made in this run; the others stood
    already. seconds: of all this run; build_seconds: without listing, starting Ray and probing. peak_memory: bytes that
    a decoding process took at most. companions: the data sets built onto this one.
    """

    output: str
    samples: dict[str, int]
    shards: int
    bytes: int
    rejected: dict[str, Any]
    built: int
    seconds: float
    build_seconds: float
    peak_memory: int = 0
    companions: "list[Report]" = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Samples built a second."""
        return self.built / self.build_seconds if self.built else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {**asdict(self), "samples_per_second": self.rate}

    def __str__(self) -> str:
        total = sum(self.samples.values())
        splits = ", ".join(f"{split} {count:,}" for split, count in self.samples.items())
        counts = f"{say_count(total, 'sample')} ({splits}) in {say_count(self.shards, 'shard')}"
        lines = [f"{self.output}: {counts}, {say_bytes(self.bytes)}"]
        if self.built:
            speed = f"{self.build_seconds:.1f} s, {self.rate:,.1f} a second"
            lines.append(f"built {self.built:,} in {speed}; {self.seconds:.1f} s in all")
            lines.append(f"a worker took at most {self.peak_memory / 1e9:.2f} GB of memory")
        else:
            lines.append("already built, nothing to do")
        if self.rejected:
            count = sum(reason["count"] for reason in self.rejected.values())
            lines.append(f"rejected {count:,} (all in rejected.parquet):")
            for error, reason in self.rejected.items():
                lines += [f"  {error} {reason['count']:,}", *(f"    {example}" for example in reason["examples"])]
        return "\n".join([*lines, *map(str, self.companions)])
