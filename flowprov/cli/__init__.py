"""The command line: ``flowprov``.

Flows in: arguments, and the buffer that they name. Flows out: text for people, JSON for programs, and an exit
status. Each command has a module; the package ``read`` computes what the commands print.

A module is imported when its command is called: ``flowprov --help`` shall take no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import click

from flowprov.cli.output import Failure
from flowprov.errors import FlowprovError
from flowprov.version import __version__

__all__ = ["main"]


class _Place(NamedTuple):
    """Where a command is, and what ``flowprov --help`` says of it."""

    module: str
    short_help: str


_COMMANDS = {
    "compact": _Place("compact", "Write Parquet files, from which answers come faster."),
    "diff": _Place("answers", "Compare two runs, tasks, workflows or campaigns."),
    "ls": _Place("answers", "List the campaigns."),
    "query": _Place("answers", "Ask with SQL."),
    "rm": _Place("rm", "Remove campaigns from a buffer."),
    "run": _Place("run", "Run a script inside a workflow."),
    "runs": _Place("answers", "List the runs, with their parameters and metrics."),
    "ship": _Place("ship", "Deliver journals to Redis or MongoDB."),
    "show": _Place("show", "Show the recorded tree."),
    "verify": _Place("verify", "Check that nothing is missing: in the buffer, and on the sinks."),
}


class _Group(click.Group):
    """Prints an error that a person can mend as one message, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        command: click.Command = getattr(import_module(f"flowprov.cli.{place.module}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.short_help) for name, place in sorted(_COMMANDS.items())])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FlowprovError as error:
            raise Failure(error) from error
        except OSError as error:
            raise Failure(
                f"{error.filename or 'the source'} cannot be read: {error.strerror or error}"
            ) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flowprov")
@click.option("--settings", "path", metavar="PATH", help="The settings file that names the buffer folder.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="A.B=VALUE",
    help="A setting that goes above the file, as in journal.path=runs; can be repeated.",
)
@click.pass_context
def main(context: click.Context, path: str | None, assignments: tuple[str, ...]) -> None:
    """Show, compare, check and deliver what flowprov recorded.

    Commands take a buffer folder, a campaign folder, a host folder or one journal. Without one they take the
    buffer folder of the settings.
    """
    if path is not None or assignments:
        from flowprov.settings import load_settings, parse_assignment  # most commands need none

        overrides = dict(map(parse_assignment, assignments))
        context.obj = load_settings(path, overrides).journal.path
