"""Groups of commands that say what somebody may have meant who typed a name that is none.

Flows in: a name. Flows out: click's message, with the commands of a similar name, or what to type instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import ClassVar

import click

_MAX_NAME = 50  # characters of a name that is compared with those of commands


class SuggestingGroup(click.Group):
    """Says what a name that is no command may mean.

    Attributes
    ----------
    meant
        What to type instead of names that people try.
    """

    meant: ClassVar[Mapping[str, str]] = {}

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of a call, or say which ones have a similar name."""
        name = args[0][:_MAX_NAME]  # click takes it out of the list if it looks like an option
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if name in self.meant:
                meant, message = self.meant[name], error.message.partition(" Did you mean ")[0]
            else:
                meant, message = " or ".join(get_close_matches(name, self.list_commands(ctx))), error.message
            if not meant or "Did you mean" in message:
                raise
            raise click.UsageError(f"{message} Did you mean {meant}?", ctx) from None
