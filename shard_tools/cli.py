"""The command `shard-tools`: what is in a data set, whether it is whole, what it looks like, others made from it."""

from collections.abc import Iterable

from .arguments import Parser, run
from .commands import COMMANDS, Command


def main() -> None:
    """Run the program `shard-tools`."""
    run("shard-tools", _main)


def _main(argv: list[str]) -> int:
    parser = Parser(prog="shard-tools", description=__doc__, epilog=_examples(COMMANDS.values(), 1))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = {}
    for name, command in COMMANDS.items():
        parsers[name] = commands.add_parser(
            name, help=command.help, description=command.help, epilog=_examples([command])
        )
        command.arguments(parsers[name])
    if argv and argv[0] in COMMANDS:  # by its own parser, which knows the flags to offer after a typo
        return COMMANDS[argv[0]].run(parsers[argv[0]].parse_args(argv[1:]))
    parser.parse_args(argv)
    return 0


def _examples(commands: Iterable[Command], limit: int | None = None) -> str:
    """Return examples of each command, at most `limit`, as a help shows them."""
    return "examples:\n" + "\n".join(f"  {line}" for one in commands for line in one.examples.splitlines()[:limit])


if __name__ == "__main__":
    main()
