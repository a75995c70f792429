"""The output of commands, and the arguments that they share.

Flows in: lines, values, messages. Flows out: text on standard output, or one message on standard error and
exit status 2. Nothing else prints: what comes from journals is escaped here, so that it can neither steer a
terminal nor pass for a line of ours.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flowprov.cli.completion import complete_campaigns, complete_files
from flowprov.cli.tables import COLUMN_GAP, shown_width
from flowprov.cli.terminal import write
from flowprov.display import printable, printable_json
from flowprov.errors import FlowprovError, SettingsError

if TYPE_CHECKING:
    from flowprov.records import Campaign

_MAX_LINE = 4_000  # characters of a line for people
_OVERRIDE = re.compile(r"^  override: ", re.MULTILINE)
_PROFILE_OVERRIDE = re.compile(r"^  override: profile: ", re.MULTILINE)

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
        text = printable(reason) if isinstance(reason, str) else str(reason)
        super().__init__(_with_options(text) if isinstance(reason, SettingsError) else text)


def _with_options(report: str) -> str:
    """Return a report on settings in which overrides have the names of the options that give them here."""
    report = _PROFILE_OVERRIDE.sub("  --profile: ", report)
    return _OVERRIDE.sub("  --set ", report)


@contextmanager
def warnings_once() -> Iterator[None]:
    """Create a context in which a warning is said once, however often a command reads the same source."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if message in said and not record.exc_info:
            return False
        said.add(message)
        return True

    logger = logging.getLogger("flowprov")
    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)


def campaign_option(command: _Command) -> _Command:
    """Add to a command the option that chooses a campaign."""
    return _campaign_option("The campaign", "the one with the latest record")(command)


def only_campaign_option(command: _Command) -> _Command:
    """Add to a command that reads all campaigns the option that chooses one."""
    return _campaign_option("Only this campaign", "all")(command)


def _campaign_option(what: str, by_default: str) -> Callable[[_Command], _Command]:
    return click.option(
        "--campaign",
        metavar="CAMPAIGN",
        shell_complete=complete_campaigns,
        help=f"{what}, by its id, the beginning of it, or its name; by default {by_default}.",
    )


def spare_collector() -> None:
    """Let the garbage collector look rarely: what is read has no cycles, and this process soon ends."""
    gc.set_threshold(200_000)


def source_options(command: _Command) -> _Command:
    """Add to a command the arguments that choose a campaign."""
    source = click.argument("source", required=False, shell_complete=complete_files)
    return source(campaign_option(command))


def source_option(command: _Command) -> _Command:
    """Add to a command the option that chooses one source."""
    return click.option(
        "--source",
        metavar="SOURCE",
        shell_complete=complete_files,
        help="A buffer folder or the URI of a server, by default that of the settings.",
    )(command)


def sources_option(command: _Command) -> _Command:
    """Add to a command the option that chooses sources."""
    return click.option(
        "--source",
        "sources",
        multiple=True,
        metavar="SOURCE",
        shell_complete=complete_files,
        help="A buffer folder or the URI of a server, by default that of the settings; can be repeated.",
    )(command)


def output_option(metavar: str) -> Callable[[_Command], _Command]:
    """Return what adds to a command the option that says which file it writes."""
    return click.option(
        "-o",
        "--output",
        required=True,
        type=click.Path(path_type=Path),
        metavar=metavar,
        help="Where to write it. It appears when it is complete.",
    )


def tracking_option(command: _Command) -> _Command:
    """Add to a command the option that says where MLflow is."""
    return click.option(
        "--uri",
        metavar="URI",
        envvar="MLFLOW_TRACKING_URI",
        required=True,
        help="A database, as in sqlite:///mlflow.db, or a tracking server, as in http://localhost:5000; by "
        "default MLFLOW_TRACKING_URI.",
    )(command)


def sources_options(command: _Command) -> _Command:
    """Add to a command the arguments that choose sources."""
    command = sources_option(command)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")(command)


def print_lines(*lines: str, to_stderr: bool = False) -> bool:
    """Print lines for people; return whether anybody reads on.

    A line break that is part of a line was recorded: it is escaped.
    """
    return print_all(lines, to_stderr=to_stderr)


def print_all(lines: Iterable[str], *, to_stderr: bool = False) -> bool:
    """Print lines one by one, as :func:`print_lines` does."""
    return write(map(_shown, lines), sys.stderr if to_stderr else sys.stdout)


def print_json(value: Any) -> bool:
    """Print a value as JSON on one line; return whether anybody reads on."""
    text = json.dumps(_to_plain(value), ensure_ascii=False, separators=(",", ":"))
    return write([printable_json(text)], sys.stdout)


def _to_plain(value: Any) -> Any:
    """Return a value as JSON holds it: times as ISO 8601, and texts for what is no finite number."""
    if isinstance(value, dict):
        return {str(name): _to_plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _shown(line: str) -> str:
    text = printable(line)
    return text if len(text) <= _MAX_LINE else f"{text[: _MAX_LINE - 3]}..."


def campaign_heading(campaign: Campaign) -> str:
    """Return the name and the id of a campaign as one line."""
    return "  ".join(["campaign", *map(printable, filter(None, [campaign.name, campaign.campaign_id]))])


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 0) -> list[str]:
    """Return the lines of a table; its last ``numbers`` columns are aligned to the right."""
    lines = [head, *(tuple(map(printable, row)) for row in rows)]
    widths = [max(map(shown_width, column)) for column in zip(*lines, strict=True)]
    texts, gap = len(head) - numbers, " " * COLUMN_GAP
    return [
        gap.join(
            _padded(cell, width, to_right=index >= texts)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _padded(cell: str, width: int, *, to_right: bool) -> str:
    padding = " " * (width - shown_width(cell))
    return padding + cell if to_right else cell + padding
