"""Videos: any common container and codec → short H.264 clips at the rate training reads, with motion and saliency."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter
from pydantic import Field

from pipelines.clips import SCALING, Scaler, decode_clip, encode_clip, luma, payload_size
from pipelines.codec import duration
from pipelines.frames import Video as Source
from pipelines.frames import frame_rate, open_video
from pipelines.layers import motion, saliency
from pipelines.layers.pool import cell_means
from pipelines.statistics import mean_std, moments
from shard_tools.schema import Part

from . import base
from .base import Modality, Piece, Reject, Sample

CELL = motion.CELL
MIN_FRAMES = 2  # motion takes two
STATISTICS_STRIDE = 8  # frames, and pixels of both axes, from one that is counted to the next
SUFFIXES = frozenset([
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".vob", ".ts", ".mts",
    ".m2ts", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".ogm", ".mxf", ".y4m",
])  # fmt: skip


class Options(base.Options):
    """What a user may choose about videos."""

    size: int = Field(256, ge=16, le=4096, description="shorter side in pixels; smaller videos are not enlarged")
    fps: float = Field(8.0, ge=0.1, le=240, description="frames a second; slower videos keep their own rate")
    frames: int = Field(64, ge=2, le=4096, description="frames of a clip; the last clip of a video may be shorter")


class Video(Modality[Options]):
    """The builder of videos."""

    name = "video"
    suffixes = SUFFIXES
    Options = Options
    layers = {  # noqa: RUF012 - as the base class declares
        "motion": motion.SPEC,
        "motion_valid": motion.VALID_SPEC,
        "saliency": saliency.SPEC.model_copy(update={"cell": [1, CELL, CELL]}),
    }
    parts = {  # noqa: RUF012
        "mp4": Part(description="H.264 High, yuv420p, GOP 16, no B-frames, one reference, even sides", unit="pixel"),
        "json": Part(
            description="source, label, group, start, end, width, height, frames, fps, source_width, source_height, "
            "source_fps, source_codec, rotation"
        ),
    }

    def probe(self, path: str) -> list[Piece]:
        """Return the clips of a video, from its header. Raises Reject.

        Clips follow each other without a gap. A rest shorter than an eighth of a clip is left out, unless it is all.
        """
        container, stream = open_video(path)
        with container:
            seconds, rate = duration(container, stream), self._rate(frame_rate(stream))
            width, height = payload_size(stream.codec_context.width, stream.codec_context.height, self.options.size)
        total = round(seconds * rate)
        if total < MIN_FRAMES:
            raise Reject("TooShort", f"{seconds:.2f} s; a clip takes {MIN_FRAMES} frames, {float(rate):g} a second")
        starts = range(0, total, self.options.frames)
        lengths = [min(self.options.frames, total - start) for start in starts]
        if len(lengths) > 1 and lengths[-1] < max(self.options.frames // 8, MIN_FRAMES):
            lengths.pop()
        return [
            Piece(float(start / rate), float((start + length) / rate), _expected_bytes(length, width, height))
            for start, length in zip(starts, lengths, strict=False)
        ]

    def build(self, path: str, pieces: Sequence[Piece]) -> Iterator[Sample | Reject]:
        """Yield a clip, or why there is none, for each piece. Raises Reject."""
        video = Source(path)
        for piece in pieces:
            try:
                yield self._clip(video, piece)
            except Reject as reject:
                yield reject

    def statistics(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Return {'mean': [3], 'std': [3]} of pixels 0..1."""
        return mean_std(summary)

    def _rate(self, source: Fraction) -> Fraction:
        """Return the clips' frames a second."""
        return min(Fraction(self.options.fps), source).limit_denominator(1001)

    def _clip(self, video: Source, piece: Piece) -> Sample:
        source, rate = video.source, self._rate(video.source.rate)
        width, height = payload_size(source.width, source.height, self.options.size)
        times = [float(piece.start + number / rate) for number in range(round((piece.end - piece.start) * rate))]
        frames = list(map(Scaler(width, height), video.frames(times)))
        if len(frames) < MIN_FRAMES:
            raise Reject("Empty", f"{len(frames)} frames from second {piece.start:g}, though the header promises more")
        clip = encode_clip(frames, width, height, rate)
        layers, summary = _look(clip)
        return Sample(
            parts={
                "mp4": clip,
                "json": {
                    "width": width,
                    "height": height,
                    "frames": len(frames),
                    "fps": float(rate),
                    "source_width": source.width,
                    "source_height": source.height,
                    "source_fps": float(source.rate),
                    "source_codec": source.codec,
                    "rotation": source.rotation,
                },
                **layers,
            },
            shape=layers["saliency.npy"].shape,
            summary=summary,
        )


def _look(clip: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the layer parts [T,h,w] (motion [2,T,h,w]) of a clip and its pixel statistics, as a reader will see it."""
    motions, valids, saliencies, pixels = [], [], [], []
    to_rgb = VideoReformatter()
    for number, (frame, vectors) in enumerate(decode_clip(clip)):
        height, width = -(-frame.height // CELL), -(-frame.width // CELL)
        moved, valid = motion.motion(vectors, height, width)
        motions.append(moved)
        valids.append(valid)
        saliencies.append(saliency.saliency(cell_means(luma(frame), (CELL, CELL))[..., None]))
        if number % STATISTICS_STRIDE == 0:
            rgb: np.ndarray = to_rgb.reformat(frame, format="rgb24", interpolation=SCALING, threads=1).to_ndarray()
            first = STATISTICS_STRIDE // 2
            pixels.append(rgb[first::STATISTICS_STRIDE, first::STATISTICS_STRIDE].reshape(-1, 3))
    layers = {
        "motion.npy": np.stack(motions, axis=1),
        "motion_valid.npy": np.stack(valids),
        "saliency.npy": np.stack(saliencies),
    }
    return layers, moments(np.concatenate(pixels) / 255)


def _expected_bytes(frames: int, width: int, height: int) -> int:
    """Return what a sample of so many frames will weigh, about: the clip, four bytes a lattice cell and the headers."""
    return frames * (width * height // 32 + 4 * -(-width // CELL) * -(-height // CELL)) + 4096
