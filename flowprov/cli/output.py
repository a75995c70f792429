"""The output of commands, and the arguments that they share.

Flows in: text. Flows out: the text on standard output, or one message on standard error and exit status 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from flowprov.read.labels import printable
from flowprov.records import Campaign

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """The command could not do its work: ``Error: …`` and exit status 2."""

    exit_code = 2


def source_options(command: _Command) -> _Command:
    """Add to a command the arguments that choose a campaign."""
    command = click.option(
        "--campaign", metavar="ID", help="The campaign; by default the one with the latest record."
    )(command)
    return click.argument("source", required=False)(command)


def print_text(text: str) -> None:
    """Print text; a reader that closes the pipe early is no error."""
    try:
        # The text may hold characters that this terminal cannot show.
        encoding = sys.stdout.encoding or "utf-8"
        click.echo(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its end, and would report the closed pipe then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def campaign_heading(campaign: Campaign) -> str:
    """Return the name and the id of a campaign as one line."""
    return "  ".join(["campaign", *map(printable, filter(None, [campaign.name, campaign.campaign_id]))])


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 0) -> list[str]:
    """Return the lines of a table; its last ``numbers`` columns are aligned to the right."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = len(head) - numbers
    return [
        "  ".join(
            cell.ljust(width) if index < texts else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
