"""The output of commands, and the arguments that they share.

Flows in: lines, values, messages. Flows out: text on standard output, or one message on standard error and
exit status 2. Nothing else prints: what comes from journals is escaped here, so that it can neither steer a
terminal nor pass for a line of ours.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flowprov.display import printable, printable_json
from flowprov.errors import FlowprovError

if TYPE_CHECKING:
    from flowprov.records import Campaign

_MAX_LINE = 4_000  # characters of a line for people

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Failure(click.ClickException):
    """The command could not do its work: ``Error: …`` and exit status 2.

    Parameters
    ----------
    reason
        An error of flowprov's own, which may have several lines, or a message of one line.
    """

    exit_code = 2

    def __init__(self, reason: FlowprovError | str) -> None:
        super().__init__(printable(reason) if isinstance(reason, str) else str(reason))


def spare_collector() -> None:
    """Let the garbage collector look rarely: what is read has no cycles, and this process soon ends."""
    gc.set_threshold(200_000)


def source_options(command: _Command) -> _Command:
    """Add to a command the arguments that choose a campaign."""
    command = click.option(
        "--campaign", metavar="ID", help="The campaign; by default the one with the latest record."
    )(command)
    return click.argument("source", required=False)(command)


def print_lines(*lines: str, to_stderr: bool = False) -> None:
    """Print lines for people. A line break that is part of a line was recorded: it is escaped."""
    print_all(lines, to_stderr=to_stderr)


def print_all(lines: Iterable[str], *, to_stderr: bool = False) -> None:
    """Print lines one by one, as :func:`print_lines` does."""
    stream = sys.stderr if to_stderr else sys.stdout
    _write((_shown(line) for line in lines), stream)


def print_json(value: Any) -> None:
    """Print a value as JSON on one line."""
    _write([printable_json(json.dumps(value, ensure_ascii=False, separators=(",", ":")))], sys.stdout)


def _shown(line: str) -> str:
    text = printable(line)
    return text if len(text) <= _MAX_LINE else f"{text[: _MAX_LINE - 3]}..."


def _write(lines: Iterable[str], stream: Any) -> None:
    """Write lines; a reader that closes the pipe early is no error."""
    encoding = stream.encoding or "utf-8"
    try:
        for line in lines:
            # The text may hold characters that this terminal cannot show.
            click.echo(line.encode(encoding, "backslashreplace").decode(encoding), file=stream)
        stream.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its end, and would report the closed pipe then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def campaign_heading(campaign: Campaign) -> str:
    """Return the name and the id of a campaign as one line."""
    return "  ".join(["campaign", *map(printable, filter(None, [campaign.name, campaign.campaign_id]))])


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 0) -> list[str]:
    """Return the lines of a table; its last ``numbers`` columns are aligned to the right."""
    lines = [head, *(tuple(map(printable, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = len(head) - numbers
    return [
        "  ".join(
            cell.ljust(width) if index < texts else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
