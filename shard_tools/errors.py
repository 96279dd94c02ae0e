"""What can be wrong, said in one line: the two exceptions a command line turns into a message and an exit code."""


class Problem(Exception):  # noqa: N818 - the word users read
    """Something failed. The message is one line: what is wrong, where, and what to do. Exit code 1."""

    exit_code = 1


class Misuse(Problem):
    """The command was asked for something it cannot mean: a wrong flag, name or folder. Exit code 2."""

    exit_code = 2
