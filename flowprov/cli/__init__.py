"""The command line: ``flowprov``.

Flows in: arguments, and the buffer that they name. Flows out: text for people, JSON for programs, and an exit
status. Each command has a module; the package ``read`` computes what the commands print.

A module is imported when its command is called, and click only then, too: ``flowprov --help`` shall take no
time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from flowprov.cli.group import main

__all__ = ["main"]


class CommandPlace(NamedTuple):
    """Where a command is, and what ``flowprov --help`` says of it."""

    module: str
    short_help: str


_COMMANDS = {
    "diff": CommandPlace("answers", "Compare two runs, tasks, workflows or campaigns."),
    "ls": CommandPlace("answers", "List the campaigns."),
    "query": CommandPlace("answers", "Ask with SQL."),
    "rm": CommandPlace("rm", "Remove campaigns from a buffer."),
    "run": CommandPlace("run", "Run a script inside a workflow."),
    "runs": CommandPlace("answers", "List the runs, with their parameters and metrics."),
    "ship": CommandPlace("ship", "Deliver journals to Redis or MongoDB."),
    "show": CommandPlace("show", "Show the recorded tree."),
    "verify": CommandPlace("verify", "Check that nothing is missing: in the buffer, and on the sinks."),
}

_OPTIONS = {
    "--settings PATH": "The settings file that names the buffer folder.",
    "--set A.B=VALUE": "A setting that goes above the file, as in\njournal.path=runs; can be repeated.",
    "--debug": "Show the traceback of an error.",
    "--version": "Show the version and exit.",
    "-h, --help": "Show this message and exit.",
}

_HELP = """\
Usage: flowprov [OPTIONS] COMMAND [ARGS]...

  Show, compare, check and deliver what flowprov recorded.

  Commands take a buffer folder, a campaign folder, a host folder or one
  journal. Without one they take the buffer folder of the settings.

Options:
{options}

Commands:
{commands}"""


def commands() -> dict[str, CommandPlace]:
    """Return where each command is, by its name."""
    return dict(sorted(_COMMANDS.items()))


def help_page() -> str:
    """Return what ``flowprov --help`` prints."""
    texts = {name: place.short_help for name, place in commands().items()}
    return _HELP.format(options=_definitions(_OPTIONS), commands=_definitions(texts))


def _definitions(texts: dict[str, str]) -> str:
    """Return a list of names and what they mean, in two columns."""
    width = max(map(len, texts)) + 4
    return "\n".join(
        f"{'  ' + name:{width}}{text}".replace("\n", "\n" + " " * width) for name, text in texts.items()
    )


def __getattr__(name: str) -> Any:
    if name == "main":
        from flowprov.cli.group import main

        return main
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
