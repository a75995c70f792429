"""A group of commands whose modules are imported when they are called.

Flows in: the name of a command, and a table. Flows out: the command.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import ClassVar

import click

from flowprov.cli.commands import CommandInfo
from flowprov.cli.debug import add_debug
from flowprov.cli.suggestions import SuggestingGroup


class LazyGroup(SuggestingGroup):
    """Finds commands by their names.

    Attributes
    ----------
    commands_by_name
        The module and the short help of each command.
    """

    commands_by_name: ClassVar[Mapping[str, CommandInfo]]

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own
        """Return the names of all commands."""
        return list(self.commands_by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command; its module is imported now."""
        info = self.commands_by_name.get(cmd_name)
        if info is None:
            return None
        module = import_module(f"flowprov.cli.{info.module}")
        command: click.Command = getattr(module, self.function_name(cmd_name))
        add_debug(command)
        return command

    def function_name(self, cmd_name: str) -> str:
        """Return the name of the function of a command."""
        return cmd_name


__all__ = ["LazyGroup"]
