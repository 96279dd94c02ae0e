"""FFmpeg's filters on frames."""

from fractions import Fraction

from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

TICK = Fraction(1, 1000)  # time stamps pass through as they are


class Filter:
    """Filters, one after the other, that make one frame of one: yuv420p, of one size.

    Any format would do, were it not that for one that a filter does not take FFmpeg puts a scaler of its own before it,
    whose bytes depend on the processor.
    """

    def __init__(self, width: int, height: int, *steps: tuple[str, str]) -> None:
        """steps: name and arguments of each filter, in FFmpeg's words."""
        self._size, self._steps = (width, height), steps
        self._graph: Graph | None = None

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """Return what becomes of a frame: itself without filters. Raises FFmpegError."""
        if not self._steps:
            return frame
        self._graph = self._graph or self._make(*self._size)
        self._graph.push(frame)
        made = self._graph.pull()
        assert isinstance(made, VideoFrame)
        return made

    def _make(self, width: int, height: int) -> Graph:
        graph = Graph()
        graph.threads = 1
        last = graph.add_buffer(width=width, height=height, format=VideoFormat("yuv420p"), time_base=TICK)
        for step in (*self._steps, ("buffersink", "")):
            following = graph.add(*step)
            last.link_to(following)
            last = following
        graph.configure()
        return graph
