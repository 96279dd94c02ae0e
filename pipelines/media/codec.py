"""The one door through which media files of strangers are opened with FFmpeg."""

import os
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream

from pipelines.modality.base import Reject
from pipelines.modality.sniff import HEAD_BYTES, sniff, unknown

# Playlists (hls, dash, concat, …) are left out: they make FFmpeg open other files and addresses.
DEMUXERS = (
    "mov,mp4,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg,mxf,nut,ivf,yuv4mpegpipe,rm,dv,"
    "wav,w64,aiff,caf,au,flac,mp3,aac,ac3,eac3,dts,amr,ape,wv,tta,tak,mpc,mpc8,nistsphere,loas"
)
MAX_SECONDS = 48 * 3600.0  # a header that promises more lies, or should be cut before it comes here


class Clock:
    """The time stamps of a stream, in seconds from its start. Kept, since PyAV makes a new Fraction at each look."""

    def __init__(self, stream: Stream) -> None:
        self._start = stream.start_time or 0
        self._base = stream.time_base or Fraction(0)
        self._numerator, self._denominator = self._base.numerator, self._base.denominator

    def seconds(self, stamp: int) -> float:
        """Return a time stamp in seconds."""
        return (stamp - self._start) * self._numerator / self._denominator

    def stamp(self, seconds: float) -> int:
        """Return the time stamp at so many seconds."""
        return self._start + (round(seconds / self._base) if self._base else 0)


def open_media(path: str, modality: str) -> InputContainer:
    """Open a media file for reading.

    modality: what it is wanted for, for the message. Raises Reject: Unreadable, Empty, WrongModality, Unsupported,
    UnknownFormat, Corrupt.
    """
    head = read_head(path)
    try:
        return av.open(
            "file:" + os.path.abspath(path),
            metadata_errors="replace",  # some good films carry metadata that is not UTF-8
            options={"format_whitelist": DEMUXERS, "protocol_whitelist": "file"},
        )
    except (FFmpegError, ValueError) as error:
        if sniff(head)[0] not in ("audio", "video"):
            raise unknown(head, modality) from error
        raise Reject("Corrupt", f"the container cannot be read: {reason(error)}") from error


def read_head(path: str) -> bytes:
    """Return a file's first bytes. Raises Reject: Unreadable, Empty."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise Reject("Unreadable", f"cannot be opened: {error.strerror}") from None
    if not head:
        raise Reject("Empty", "the file has no bytes")
    return head


def reason(error: Exception) -> str:
    """Return what an FFmpeg error says, without the path."""
    return (error.strerror or str(error)) if isinstance(error, OSError | FFmpegError) else str(error)


def duration(container: InputContainer, stream: Stream) -> float:
    """Return the length of a stream in seconds: what its header says, else where its last packet ends.

    Raises Reject: Empty where there is none, TooLarge beyond 48 hours.
    """
    length = _header_duration(container, stream) or _last_packet_end(container, stream)
    if length <= 0:
        raise Reject("Empty", f"the {stream.type} stream has no length")
    return bounded(length)


def bounded(length: float) -> float:
    """Return the length of an input in seconds. Raises Reject: TooLarge beyond 48 hours."""
    if length > MAX_SECONDS:
        raise Reject("TooLarge", f"{length / 3600:.0f} hours by its header; at most {MAX_SECONDS / 3600:.0f}")
    return length


def _header_duration(container: InputContainer, stream: Stream) -> float:
    """Return the length in seconds that the stream, its tag (Matroska) or the container states; 0 for none."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    try:
        hours, minutes, rest = map(float, stream.metadata.get("DURATION", "").split(":"))
        return hours * 3600 + minutes * 60 + rest
    except ValueError:
        return (container.duration or 0) / av.time_base


def _last_packet_end(container: InputContainer, stream: Stream) -> float:
    """Return the seconds from the stream's start to the end of its last packet, without decoding; 0 for none."""
    last, clock = 0.0, Clock(stream)
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                last = max(last, clock.seconds(packet.pts + (packet.duration or 0)))
    except FFmpegError:
        pass  # what came before the damage counts
    return last
