"""Numbers and names as people read them."""


def say_bytes(count: float) -> str:
    """Return a number of bytes for people: '4.2 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def say_count(count: int, noun: str) -> str:
    """Return a number of things: '1 shard', '1,200 shards'."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """Return a text on one line without control characters: file names of others must not steer a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def say_number(value: float, unit: str = "") -> str:
    """Return a number with its unit, four digits of it; bytes as kB and MB."""
    if unit == "byte":
        return say_bytes(value)
    text = f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"
    return f"{text} {unit}".rstrip()
