"""Where the scenes of a video begin, found from its key frames.

Two frames are of different scenes when their colour histograms differ much: Zhang, Kankanhalli and Smoliar, "Automatic
partitioning of full-motion video", Multimedia Systems 1993. Key frames alone are compared. An encoder that looks for
changes of scene sets a key frame at each, earlier than at its regular distance: that is the place. Otherwise it lies
somewhere between the two, and only there are all frames decoded, to find it.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from .clips import SCALING
from .codec import Clock
from .frames import Video, open_video

WIDTH, HEIGHT = 64, 36  # of the pictures that are compared
LEVELS = 8  # of red, green and blue that are told apart
CHANGE = 0.3  # share of the pixels whose colour must go for the scene to be another
MIN_DISTANCE = 0.5  # seconds between the key frames that are decoded: some videos have no other frames
LONGEST = 30.0  # seconds that are decoded to find a change
REGULAR = 0.9  # of the longest distance of two key frames: what is shorter was cut short by the encoder


def scene_starts(path: str) -> list[float]:
    """Return the seconds at which another scene begins, ascending; without the beginning of the video.

    Cuts are found, fades and dissolves seldom, and not a scene that comes and goes between two key frames of another.
    Raises Reject.
    """
    keys = list(_key_frames(path))
    regular = REGULAR * max((later[0] - earlier[0] for earlier, later in pairwise(keys)), default=0)
    starts: list[float] = []
    if not keys:
        return starts
    with Video(path) as video:
        for (begin, before), (end, after) in pairwise(keys):
            if _difference(before, after) > CHANGE:
                starts += [end] if end - begin < regular else _changes(video, begin, end)
        length = video.seconds()
        return [start for start in [*starts, *_changes(video, keys[-1][0], length)] if start < length]


def _key_frames(path: str) -> Iterator[tuple[float, np.ndarray]]:
    """Yield second and histogram of the key frames."""
    container, stream = open_video(path)
    stream.codec_context.skip_frame = "NONKEY"
    histogram, clock, last = _Histogram(), Clock(stream), -MIN_DISTANCE
    with container:
        for packet in container.demux(stream):
            if packet.size and not (packet.is_keyframe and packet.pts is not None):
                continue
            if packet.pts is not None and clock.seconds(packet.pts) < last + MIN_DISTANCE:
                continue
            try:
                frames = packet.decode()
            except FFmpegError:
                continue
            for frame in frames:
                if isinstance(frame, VideoFrame) and frame.pts is not None:
                    last = clock.seconds(frame.pts)
                    yield last, histogram(frame)


def _changes(video: Video, begin: float, end: float) -> list[float]:
    """Return the seconds, behind `begin` and at most at `end`, of frames that differ much from the one before.

    Not looked at are stretches longer than LONGEST: `end` stands for what is in them.
    """
    if end - begin > LONGEST:
        return [end]
    rate = float(video.source.rate)
    times = [*(begin + number / rate for number in range(int((end - begin) * rate - 0.5) + 1)), end]
    seen = map(_Histogram(), video.frames(times))
    return [
        time
        for time, (before, after) in zip(times[1:], pairwise(seen), strict=False)
        if _difference(before, after) > CHANGE
    ]


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share 0..1 of the pixels that would have to change to turn one histogram into the other."""
    return float(np.abs(one - other).sum()) / (2 * WIDTH * HEIGHT)


class _Histogram:
    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """Return how many pixels of a frame made small have each colour, int64 [LEVELS**3]."""
        small = self._reformatter.reformat(frame, WIDTH, HEIGHT, "rgb24", interpolation=SCALING, threads=1)
        levels = small.to_ndarray().astype(np.int64) * LEVELS >> 8
        return np.bincount((levels @ [LEVELS**2, LEVELS, 1]).ravel(), minlength=LEVELS**3)
