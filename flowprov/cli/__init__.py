"""The command line: ``flowprov``.

Flows in: arguments, and the buffer that they name. Flows out: text for people, JSON for programs, and an exit
status. Each command has a module; the package ``read`` computes what the commands print.
"""

from __future__ import annotations

from typing import Any

import click

from flowprov.cli import answers, ship, show, verify
from flowprov.cli.output import Failure
from flowprov.errors import FlowprovError
from flowprov.settings import load_settings, parse_assignment
from flowprov.version import __version__

__all__ = ["main"]


class _Group(click.Group):
    """Prints an error that a person can mend as one message, without a traceback."""

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
    """Show, check and deliver what flowprov recorded.

    Commands take a buffer folder, a campaign folder, a host folder or one journal. Without one they take the
    buffer folder of the settings.
    """
    if path is not None or assignments:
        overrides = dict(map(parse_assignment, assignments))
        context.obj = load_settings(path, overrides).journal.path


main.add_command(answers.diff)
main.add_command(answers.ls)
main.add_command(answers.query)
main.add_command(answers.runs)
main.add_command(ship.ship)
main.add_command(show.show)
main.add_command(verify.verify)
