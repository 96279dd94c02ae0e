"""What an error of reading an input means: for the input, and whether the same request may succeed later."""

import errno
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import tenacity

from pipelines.modality import Reject

PATIENCE = 300.0  # seconds: a server that asks to wait longer is given up
FULL = (errno.ENOSPC, errno.EDQUOT)  # our disk, not the server
_DEFINITE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError, Reject)
_PAUSE = tenacity.wait_exponential_jitter(initial=0.25, max=30, jitter=0.25)


def retrying(retries: int, before: Callable[[tenacity.RetryCallState], None]) -> tenacity.Retrying:
    """Return what calls a function again, so often, when it fails in passing. before: called before each try."""
    return tenacity.Retrying(
        before=before,
        retry=tenacity.retry_if_exception(is_passing),
        stop=tenacity.stop_after_attempt(retries + 1),
        wait=_wait,
        reraise=True,
    )


def verdict(error: BaseException) -> Reject:
    """Return what an error of reading means for the input."""
    if isinstance(error, Reject):
        return error
    status = _status(error)
    if status:
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
        kinds = {401: "Forbidden", 403: "Forbidden", 404: "NotFound", 410: "NotFound"}
        return Reject(kinds.get(status, "Unreachable"), f"the server answers {status} {phrase}".strip())
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    message = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Reject("NotFound", "no such file")
    if isinstance(error, PermissionError) or _leads_off(error):
        return Reject("Forbidden", message)
    remote = type(error).__module__.partition(".")[0] not in ("builtins",) or isinstance(
        error, TimeoutError | ConnectionError
    )
    return Reject("Unreachable" if remote else "Unreadable", message)


def is_passing(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    if status := _status(error):
        return (status in (408, 425, 429) or status >= 500) and _retry_after(error) <= PATIENCE
    if isinstance(error, _DEFINITE) or not isinstance(error, Exception) or _leads_off(error):
        return False
    return getattr(error, "errno", 0) not in FULL


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return max(_PAUSE(state), _retry_after(error) if error else 0.0)


def _leads_off(error: BaseException) -> bool:
    """Return whether a server sent us to something that is not on the web (as aiohttp puts it)."""
    return type(error).__name__.startswith("NonHttpUrl")


def _status(error: BaseException) -> int:
    status = getattr(error, "status", None) or getattr(error, "code", None)
    return status if isinstance(status, int) else 0


def _retry_after(error: BaseException) -> float:
    """Return the seconds the server asks to wait; it may give a date."""
    asked = (getattr(error, "headers", None) or {}).get("Retry-After", "")
    if asked.isdigit():
        return float(asked)
    try:
        return max(0.0, (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
