"""`pipelines.modality.sniff`: the first bytes of any file."""

from pipelines.modality.sniff import _MAGICS, HEAD_BYTES, sniff, unknown

MODALITIES = ("image", "video", "lidar", "audio", "table")
SEEDS = [bytes([number % 5]) + bytes(offset) + magic + bytes(16) for number, (offset, magic, *_) in enumerate(_MAGICS)]


def check(data: bytes) -> None:
    """Name what it is; a refusal is one line."""
    modality, head = MODALITIES[(data or b"\0")[0] % len(MODALITIES)], data[1:][:HEAD_BYTES]
    assert sniff(head)[0] in ("", *MODALITIES)
    reject = unknown(head, modality)
    assert reject.error.isalpha() and reject.message and "\n" not in reject.message
    reject.message.encode()
