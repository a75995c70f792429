"""``flowprov report``: a page on campaigns or runs that one can send, or a card for a repository.

Flows in: what somebody names, and sources. Flows out: a file, which is there whole or not at all.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import click

from flowprov.cli.compact_later import compact_later
from flowprov.cli.completion import complete_files, complete_ids
from flowprov.cli.output import Failure, print_lines, sources_option, spare_collector
from flowprov.cli.progress import progress
from flowprov.cli.terminal import write
from flowprov.display import format_size
from flowprov.export.new_file import written_beside
from flowprov.report.collect import collect
from flowprov.report.page import require_templates, to_html, to_markdown

_FORMATS = {"html": to_html, "md": to_markdown}


@click.command()
@click.argument("what", nargs=-1, shell_complete=complete_ids)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    shell_complete=complete_files,
    help="The file to write, report.html or report.md if it is not given; - writes to standard output.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(list(_FORMATS)),
    help="A page of HTML, or a card in Markdown; by default as the name of the file says.",
)
@click.option("--metric", metavar="NAME", help="The metric by which runs are compared.")
@click.option(
    "--best",
    type=click.Choice(("min", "max")),
    help="Whether its smallest or its largest value is the best; by default its name decides.",
)
@click.option("--title", metavar="TEXT", help="The title, by default the names of the campaigns.")
@sources_option
@click.pass_obj
def report(
    default: str | None,
    what: tuple[str, ...],
    output: str | None,
    form: str | None,
    metric: str | None,
    best: str | None,
    title: str | None,
    sources: tuple[str, ...],
) -> None:
    """Write a report that one can send: a page that needs no network, or a card of one page.

    WHAT are campaigns or runs: ids, beginnings or ends of ids that fit only one, or names; by default the
    campaign with the latest record. The page has the best run, a table of the runs, their metrics,
    parameters against a metric, a timeline, the tree, where the time went, failures, code and machines,
    lineage, and how complete the record is. Of large campaigns it shows a part, and says which.
    """
    require_templates()
    spare_collector()
    if form is None:
        form = "md" if (output or "").lower().endswith((".md", ".markdown")) else "html"
    with progress("reading"):
        text = _FORMATS[form](collect(what, sources or default, metric=metric, best=best, title=title))
    compact_later(sources or default)
    if output == "-":
        write(text.split("\n")[:-1], sys.stdout)  # whole lines: what was recorded is escaped in them
        return
    path = Path(output or f"report.{form}")
    write_whole(path, text)
    print_lines(f"{path}: {format_size(len(text.encode()))}")


def write_whole(path: Path, text: str) -> None:
    """Write a file, so that an interruption leaves what was there before.

    Raises
    ------
    Failure
        If it cannot be written.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with written_beside(path) as new:
            new.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror or error}") from error
