"""The group of all commands: what is the same for each of them.

Flows in: arguments. Flows out: a call of one command; of what it raises, one message and an exit status.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from keyword import iskeyword
from typing import Any, ClassVar

import click
from click.shell_completion import CompletionItem

from flowprov.cli.commands import COMMANDS, help_page
from flowprov.cli.completion import complete_files
from flowprov.cli.debug import is_debug, set_debug
from flowprov.cli.lazy_group import LazyGroup
from flowprov.cli.output import Failure, print_lines, warnings_once
from flowprov.cli.terminal import OutputError, end_line
from flowprov.display import printable_lines
from flowprov.errors import FlowprovError
from flowprov.version import __version__

_CTRL_C = 130  # as a shell says it


class CommandGroup(LazyGroup):
    """Finds commands by their names, and prints what goes wrong as one message, without a traceback."""

    commands_by_name = COMMANDS
    meant: ClassVar[Mapping[str, str]] = {"metrics": 'flowprov query "select * from metrics"'}

    def function_name(self, cmd_name: str) -> str:
        """Return the name of the function of a command."""
        return f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin so; no command is imported for that."""
        options = click.Command.shell_complete(self, ctx, incomplete)
        return options + [
            CompletionItem(name, help=info.short_help)
            for name, info in COMMANDS.items()
            if name.startswith(incomplete)
        ]

    def get_help(self, ctx: click.Context) -> str:  # noqa: ARG002
        """Return the page of ``flowprov --help``, which is made without click."""
        return help_page()

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Return the context of a call; what it says of wrong arguments is escaped."""
        try:
            return super().make_context(*args, **kwargs)
        except click.ClickException as error:
            raise _escaped(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Call a command."""
        try:
            with warnings_once():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            end_line(sys.stderr)
            sys.exit(_CTRL_C)
        except click.ClickException as error:
            raise _escaped(error) from error.__cause__
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # of a fault of ours, too, a person gets one message
            if is_debug(ctx):
                lines = "".join(traceback.format_exception(error)).splitlines()
                print_lines(*lines, to_stderr=True)
            raise Failure(_describe(error)) from error


def _escaped(error: click.ClickException) -> click.ClickException:
    """Return an error whose message may be shown: it may quote what somebody copied from elsewhere."""
    error.message = printable_lines(error.message)  # type: ignore[misc]  # final only for type checkers
    return error


def _describe(error: Exception) -> FlowprovError | str:
    if isinstance(error, FlowprovError):
        return error
    if isinstance(error, OutputError):
        return f"the output cannot be written: {error.strerror}"
    if isinstance(error, OSError):
        return f"{error.filename or 'the source'} cannot be read: {error.strerror or error}"
    return (
        f"flowprov met a fault of its own ({type(error).__name__}: {error}). Please report it, with what "
        "flowprov --debug prints"
    )


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flowprov")
@click.option("--settings", "path", metavar="PATH", shell_complete=complete_files)
@click.option("--set", "assignments", multiple=True, metavar="A.B=VALUE")
@click.option("--debug", is_flag=True, expose_value=False, callback=set_debug)
@click.pass_context
def main(context: click.Context, path: str | None, assignments: tuple[str, ...]) -> None:
    """Show, compare, check and deliver what flowprov recorded."""
    if path is not None or assignments:
        from flowprov.settings import load_settings, parse_assignment  # most commands need none

        overrides = dict(map(parse_assignment, assignments))
        context.obj = load_settings(path, overrides).journal.path
