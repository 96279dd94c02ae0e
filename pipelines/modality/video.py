"""Videos: any common container and codec → short H.264 clips at the rate training reads, with motion and saliency."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain, count, islice, pairwise
from typing import Any, Literal

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from pydantic import Field

from pipelines.layers import motion, saliency
from pipelines.layers.pool import shrink_plane
from pipelines.media.clips import X264, Sampler, Scaler, decode_clip, encode_clip, payload_size
from pipelines.media.codec import duration, reason
from pipelines.media.frames import Video as Frames
from pipelines.media.frames import frame_rate, open_video, pixel_aspect, square
from pipelines.media.scenes import scene_starts
from pipelines.statistics import mean_std
from pipelines.sums import moments
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
    stride: float | None = Field(
        None, ge=0.01, description="seconds from the start of a clip to that of the next (the length of a clip)"
    )
    cut: Literal["fixed", "scene"] = Field("fixed", description="scene: clips do not straddle a change of scene")


class Video(Modality[Options]):
    """The builder of videos."""

    name = "video"
    suffixes = SUFFIXES
    Options = Options
    facts = {  # noqa: RUF012 - as the base class declares
        "width": -1,
        "height": -1,
        "frames": -1,
        "fps": -1.0,
        "source_width": -1,
        "source_height": -1,
        "source_fps": -1.0,
        "source_codec": "",
        "source_pixel_aspect": -1.0,
        "source_transfer": "",
        "rotation": -1,
    }
    layers = {  # noqa: RUF012
        "motion": motion.SPEC,
        "motion_valid": motion.VALID_SPEC,
        "saliency": saliency.SPEC.model_copy(update={"cell": [1, CELL, CELL]}),
    }
    parts = {  # noqa: RUF012
        "mp4": Part(
            description=f"H.264 High (x264 {X264['preset']}, crf {X264['crf']}), yuv420p, GOP 16, no B-frames, one "
            "reference, even sides",
            unit="pixel",
        ),
        "json": Part(description="source, label, group, start, end, " + ", ".join(facts)),
    }

    def probe(self, path: str) -> list[Piece]:
        """Return the clips of a video, from its header; with `cut` scene from its key frames, too. Raises Reject.

        Clips follow each other at the stride. A rest shorter than an eighth of a clip is left out, unless it is all.
        """
        container, stream = open_video(path)
        with container:
            seconds, rate = duration(container, stream), self._rate(frame_rate(stream))
            context = stream.codec_context
            shown = square(context.width, context.height, pixel_aspect(stream))
        changes = scene_starts(path) if self.options.cut == "scene" else []
        scenes = list(pairwise([0.0, *changes, seconds]))
        shortest = max(self.options.frames // 8, MIN_FRAMES)
        clips = [clip for begin, end in scenes for clip in self._clips(begin, end, rate, shortest)]
        if not clips:
            clips = [clip for begin, end in scenes for clip in self._clips(begin, end, rate, MIN_FRAMES)]
        if not clips:
            raise Reject("TooShort", f"{seconds:.2f} s; a clip takes {MIN_FRAMES} frames, {float(rate):g} a second")
        width, height = payload_size(*shown, self.options.size)
        return [
            Piece(float(start), float(start + length / rate), _expected_bytes(length, width, height))
            for start, length in clips
        ]

    def build(self, path: str, pieces: Sequence[Piece]) -> Iterator[Sample | Reject]:
        """Yield a clip, or why there is none, for each piece, whatever its seconds. Raises Reject."""
        with Frames(path) as video:
            shown = square(video.source.width, video.source.height, video.source.aspect)
            scaler = Scaler(*payload_size(*shown, self.options.size), video.source.rotation)
            for piece in pieces:
                try:
                    yield self._sample(video, scaler, piece)
                except Reject as reject:
                    yield reject

    def look(self, parts: Mapping[str, bytes]) -> dict[str, np.ndarray]:
        """Return the layers [T,h,w] (motion [2,T,h,w]) of a stored clip, before it is deblocked. Raises Reject."""
        if not self.layers:
            return {}
        vectors, reduced = [], []
        width = height = 0
        try:
            for frame, moved in decode_clip(parts["mp4"]):
                vectors.append(moved)
                height, width = -(-frame.height // CELL), -(-frame.width // CELL)
                if "saliency" in self.layers:
                    reduced.append(_reduce_luma(frame))
        except (FFmpegError, ValueError) as error:
            raise Reject("Corrupt", f"the clip cannot be decoded: {reason(error)}") from error
        if not vectors:
            raise Reject("Corrupt", "not one frame of the clip can be decoded")
        layers = {}
        if self.layers.keys() & {"motion", "motion_valid"}:
            layers["motion"], layers["motion_valid"] = motion.motion(vectors, height, width)
        if "saliency" in self.layers:
            layers["saliency"] = saliency.saliency(np.stack(reduced)[..., None])
        return {name: layers[name] for name in self.layers}

    def statistics(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Return {'mean': [3], 'std': [3]} of pixels 0..1."""
        return mean_std(summary)

    def _rate(self, source: Fraction) -> Fraction:
        """Return the clips' frames a second. Raises Reject."""
        if not (rate := min(Fraction(self.options.fps), source).limit_denominator(1001)):
            raise Reject("Corrupt", "its header states less than a frame in a thousand seconds")
        return rate

    def _clips(self, begin: float, end: float, rate: Fraction, shortest: int) -> Iterator[tuple[Fraction, int]]:
        """Yield the start and the frames of the clips of a scene; none has fewer frames than `shortest`."""
        length = self.options.frames
        stride = length / rate if self.options.stride is None else Fraction(self.options.stride).limit_denominator(1000)
        total = round((end - begin) * rate)
        for number in count():
            offset = number * stride
            rest = total - round(offset * rate)
            seen_whole = number and rest <= length - round(stride * rate)  # the clip before has it all
            if rest < shortest or seen_whole:
                return
            yield Fraction(begin) + offset, min(length, rest)

    def _sample(self, video: Frames, scaler: Scaler, piece: Piece) -> Sample:
        source, rate = video.source, self._rate(video.source.rate)
        end = piece.end if piece.end >= 0 else video.seconds()
        times = [float(piece.start + number / rate) for number in range(round((end - piece.start) * rate))]
        frames = map(scaler, video.frames(times))
        if len(first := list(islice(frames, MIN_FRAMES))) < MIN_FRAMES:
            raise Reject("Empty", f"{len(first)} frames from second {piece.start:g}, though the header promises more")
        seen = _Seen()
        clip = encode_clip(seen(chain(first, frames)), scaler.width, scaler.height, rate)
        layers = self.look({"mp4": clip})
        return Sample(
            parts={
                "mp4": clip,
                "json": {
                    "width": scaler.width,
                    "height": scaler.height,
                    "frames": seen.count,
                    "fps": float(rate),
                    "source_width": source.width,
                    "source_height": source.height,
                    "source_fps": float(source.rate),
                    "source_codec": source.codec,
                    "source_pixel_aspect": source.aspect,
                    "source_transfer": source.transfer,
                    "rotation": source.rotation,
                },
                **{f"{name}.npy": layer for name, layer in layers.items()},
            },
            shape=(seen.count, -(-scaler.height // CELL), -(-scaler.width // CELL)),
            summary=moments(np.concatenate(seen.pixels), 255),
        )


class _Seen:
    """Counts frames on their way into a clip and keeps a few of their pixels, for the statistics."""

    def __init__(self) -> None:
        self.count = 0
        self.pixels: list[np.ndarray] = []
        self._sample = Sampler(STATISTICS_STRIDE)

    def __call__(self, frames: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        for frame in frames:
            if self.count % STATISTICS_STRIDE == 0:
                self.pixels.append(self._sample(frame))
            self.count += 1
            yield frame


def _reduce_luma(frame: VideoFrame) -> np.ndarray:
    """Return the Y plane of a 4:2:0 frame at a pixel a lattice cell, uint8 [h, w]: the means of the cells."""
    plane = frame.planes[0]
    lines = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return shrink_plane(lines, plane.width, CELL)


def _expected_bytes(frames: int, width: int, height: int) -> int:
    """Return what a sample of so many frames will weigh, about: the clip, four bytes a lattice cell and the headers."""
    return frames * (width * height // 32 + 4 * -(-width // CELL) * -(-height // CELL)) + 4096
