"""The command line's manners, shared by every entry point: one-line errors, nearest names, exit codes.

argparse does the parsing; this adds what it lacks: a typo is answered with the nearest valid name, and a
`Problem` ends the program with its message and its exit code instead of a traceback.
"""

import argparse
import difflib
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NoReturn

from .errors import Misuse, Problem

LARGEST = 10**18  # bytes
SIZES = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ' (did you mean X?)' for the valid name closest to `name`, or '' when none is close."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that keeps the layout of its epilog, refuses abbreviations and answers typos in one line."""

    def __init__(self, **kwargs: object) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)  # type: ignore[arg-type]

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, remembering what was given for `error`."""
        self._given = [str(word).split("=")[0] for word in (sys.argv[1:] if args is None else args)]
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise Misuse with argparse's message and the nearest valid flag or choice."""
        flags = [flag for action in self._actions for flag in action.option_strings]
        if "arguments are required" in message:  # perhaps because one was misspelt
            missing = re.findall(r"--[\w-]+", message)
            for word in self._given:
                if word.startswith("--") and word not in flags and (hint := nearest(word, missing)):
                    message = f"unknown argument {word}{hint}"
        if unknown := re.search(r"unrecognized arguments: (\S+)", message):
            message = f"unknown argument {unknown[1]}{nearest(unknown[1].split('=')[0], flags)}"
        elif choice := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            message += nearest(choice[1], re.findall(r"[\w.-]+", choice[2]))
        raise Misuse(f"{message}; see {self.prog} --help")


def run(
    prog: str, main: Callable[[list[str]], int | None], argv: list[str] | None = None, *, extra: str = ""
) -> NoReturn:
    """Call main(argv) and exit: 0 or what it returns; 1 or 2 with one line for a Problem; 130 for Ctrl-C.

    SIGTERM, as schedulers send it, and SIGHUP, of a terminal that is closed, are taken for Ctrl-C.
    extra: of this package, whose libraries main needs.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup has SIGHUP ignored
                signal.signal(number, signal.default_int_handler)
    if sys.stdout is None:  # closed by who called us (>&-)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        with needs(prog, extra) if extra else nullcontext():
            code = main(sys.argv[1:] if argv is None else argv) or 0
        sys.stdout.flush()
    except Problem as problem:
        _say(f"{prog}: {problem}")
        code = problem.exit_code
    except KeyboardInterrupt:
        _say(f"{prog}: interrupted")
        code = 130
    except OSError as error:
        code = 0 if isinstance(error, BrokenPipeError) else 1  # the reader of our output left (| head): not an error
        if code:
            _say(f"{prog}: {error}")
        with suppress(OSError):  # what can still be said is said; at its exit Python would try once more, and report it
            sys.stdout.flush()
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


@contextmanager
def needs(prog: str, extra: str) -> Iterator[None]:
    """End the program with one line and exit code 2 where the block imports what is not installed.

    extra: of this package, which would have installed it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        _say(f"{prog}: {package} is not installed: pip install 'mmmask[{extra}]'")
        sys.exit(2)


def _say(line: str) -> None:
    with suppress(OSError):  # the terminal may be closed
        print(line, file=sys.stderr, flush=True)


def number(kind: type[int] | type[float], low: float, below: float = math.inf) -> Callable[[str], float]:
    """Return what reads a number of this type, low ≤ number < below, for argparse."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: not a number") from None
        if not low <= value < below:
            bound = f" and less than {below:g}" if below < math.inf else ""
            raise argparse.ArgumentTypeError(f"{text}: must be at least {low:g}{bound}")
        return value

    return parse


def size(text: str) -> int:
    """Return the bytes that 256MB, 1GiB or 1000000 say, for argparse."""
    digits = text.lower().rstrip("bikmg")
    unit = text.lower()[len(digits) :]
    try:
        count = int(float(digits) * (SIZES[unit] if unit else 1))
    except (ValueError, KeyError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r}: give bytes, or a number with KB, MB or GB") from None
    if not 1 <= count < LARGEST:
        raise argparse.ArgumentTypeError(f"{text}: must be greater than 0 and less than an exabyte")
    return count
