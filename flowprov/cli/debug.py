"""The option ``--debug``, which every command takes.

Flows in: commands. Flows out: the same ones with the option; and whether it was given, before or behind the
name of a command or of its subcommand.
"""

from __future__ import annotations

import click

_DEBUG = "flowprov.debug"


def set_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001
    """Note that ``--debug`` was given."""
    if value:
        context.meta[_DEBUG] = True


def is_debug(context: click.Context) -> bool:
    """Whether ``--debug`` was given; a context shares that with those of its commands."""
    return bool(context.meta.get(_DEBUG))


def add_debug(command: click.Command) -> None:
    """Add the option to a command that lacks it, and to the subcommands that it holds."""
    if all(parameter.name != "debug" for parameter in command.params):
        command.params.append(
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                callback=set_debug,
                help="Show the traceback of an error.",
            )
        )
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            add_debug(subcommand)


__all__ = ["add_debug", "is_debug", "set_debug"]
