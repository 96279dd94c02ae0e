"""Inputs that take long: the workers say which, the driver asks.

They meet in an actor that the first worker with something to say makes: most builds never have one.
"""

from typing import Any

import ray
from ray.exceptions import RayActorError

_made: Any = None  # an actor lives as long as the handle that its maker got


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Watch:
    """Knows which inputs take long."""

    def __init__(self) -> None:
        self.standing: dict[str, float] = {}

    def tell(self, source: str, seconds: float) -> None:
        """Note that an input has taken so many seconds, and is not done."""
        self.standing[source] = seconds

    def take(self) -> dict[str, float]:
        """Return what was told since the last time: input → seconds."""
        standing, self.standing = self.standing, {}
        return standing


def tell(name: str, source: str, seconds: float) -> None:
    """Note that an input has taken so many seconds, and is not done. name: of the build's watch."""
    global _made
    try:
        watch = ray.get_actor(name)
    except ValueError:
        watch = _made = Watch.options(name=name, get_if_exists=True).remote()  # type: ignore[attr-defined]
    watch.tell.remote(source, seconds)


def take(name: str) -> dict[str, float]:
    """Return what was told since the last time: input → seconds."""
    try:
        found: dict[str, float] = ray.get(ray.get_actor(name).take.remote())
    except (ValueError, RayActorError):  # nobody has told anything, or its worker is gone with it
        return {}
    return found
