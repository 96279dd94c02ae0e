"""Say what a file is from its first bytes, so that a reject can name it: 'a video (MP4), not an image'."""

from .base import Reject

HEAD_BYTES = 512

# (offset, magic bytes, modality or '' for none of ours, name of the format)
_MAGICS = (
    (0, b"\xff\xd8\xff", "image", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "image", "PNG"),
    (0, b"GIF8", "image", "GIF"),
    (8, b"WEBP", "image", "WebP"),
    (0, b"II*\0", "image", "TIFF"),
    (0, b"MM\0*", "image", "TIFF"),
    (0, b"8BPS", "image", "Photoshop"),
    (0, b"\0\0\0\x0cJXL ", "image", "JPEG XL"),
    (0, b"\xff\x0a", "image", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "image", "JPEG 2000"),
    (4, b"ftypavif", "image", "AVIF"),
    (4, b"ftyphei", "image", "HEIC"),
    (4, b"ftyphev", "image", "HEIC"),
    (4, b"ftypmif1", "image", "HEIF"),
    (0, b"%!PS", "", "PostScript"),
    (0, b"%PDF", "", "PDF"),
    (0, b"<svg", "", "SVG"),
    (4, b"ftypM4A", "audio", "M4A"),
    (4, b"ftyp", "video", "MP4"),
    (4, b"moov", "video", "QuickTime"),
    (0, b"\x1a\x45\xdf\xa3", "video", "Matroska or WebM"),
    (8, b"AVI ", "video", "AVI"),
    (0, b"\0\0\1\xba", "video", "MPEG"),
    (0, b"FLV\1", "video", "FLV"),
    (8, b"WAVE", "audio", "WAV"),
    (0, b"fLaC", "audio", "FLAC"),
    (0, b"OggS", "audio", "Ogg"),
    (0, b"ID3", "audio", "MP3"),
    (0, b"# .PCD", "lidar", "PCD"),
    (0, b"VERSION .7", "lidar", "PCD"),
    (0, b"ply\n", "lidar", "PLY"),
    (0, b"ply\r", "lidar", "PLY"),
    (0, b"PAR1", "table", "Parquet"),
    (0, b"ARROW1", "table", "Arrow"),
    (0, b"PK\x03\x04", "", "ZIP"),
    (0, b"\x1f\x8b", "", "gzip"),
    (257, b"ustar", "", "tar"),
)


def sniff(head: bytes) -> tuple[str, str]:
    """Return (modality, format) for the first HEAD_BYTES of a file; '' where it is none of ours or not known."""
    for offset, magic, modality, name in _MAGICS:
        if head.startswith(magic, offset):
            return modality, name
    return "", ""


def unknown(head: bytes, modality: str) -> Reject:
    """Return the Reject for a file that the decoder of `modality` does not know: what it is instead, if we can tell."""
    if not head:
        return Reject("Empty", "the file has no bytes")
    other, name = sniff(head)
    if other and other != modality:
        return Reject("WrongModality", f"a file of modality {other} ({name}), not of {modality}")
    if name:
        return Reject("Unsupported", f"a {name} file, which the {modality} builder does not read")
    return Reject("UnknownFormat", f"not a file the {modality} builder knows (it starts with {bytes(head[:12])!r})")
