"""``flowprov whence``, ``lineage`` and ``artifacts``: what made a file, and what was made of what.

Flows in: a file or an id, and sources. Flows out: a story, a table, JSON, or a drawing in the languages of
Graphviz and Mermaid.
"""

from __future__ import annotations

import sys

import click

from flowprov.cli.answers import print_answer, print_answer_json
from flowprov.cli.completion import complete_files
from flowprov.cli.output import (
    Failure,
    only_campaign_option,
    print_json,
    print_lines,
    sources_options,
    spare_collector,
)
from flowprov.cli.progress import progress
from flowprov.read.artifacts.lineage import Lineage
from flowprov.read.artifacts.questions import ARTIFACT_COLUMNS, artifact_table
from flowprov.read.artifacts.questions import lineage as find_lineage
from flowprov.read.artifacts.questions import whence as find_whence
from flowprov.read.campaign_sources import find_campaign_id

_SHOWN = ("role", "name", "kind", "size", "state", "digest", "at", "run_id", "path")
_DIGEST_SHOWN = 16


@click.command()
@click.argument("file", shell_complete=complete_files)
@sources_options
@click.pass_obj
def whence(default: str | None, file: str, sources: tuple[str, ...], *, as_json: bool) -> None:
    """Say what made FILE: which task, of what, with which code, parameters and metrics.

    It is found by its content, whatever it is called now: by its digest, by the digest of its weights, as a
    part of a folder, or by its tensors. Exit status 1: nothing that is recorded knows it.
    """
    spare_collector()
    with progress("reading"):
        found = find_whence(file, sources or default)
    if found is None:
        if as_json:
            print_json(None)
        sys.exit(1)
    _print(found, as_json=as_json)


@click.command()
@click.argument("what", shell_complete=complete_files)
@click.option("--up", is_flag=True, help="What it was made of; this is the default.")
@click.option("--down", is_flag=True, help="What was made of it.")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="How many steps are followed.")
@click.option("--dot", is_flag=True, help="Print the graph for Graphviz.")
@click.option("--mermaid", is_flag=True, help="Print the graph for Mermaid.")
@sources_options
@click.pass_obj
def lineage(
    default: str | None,
    what: str,
    sources: tuple[str, ...],
    depth: int | None,
    *,
    up: bool,
    down: bool,
    dot: bool,
    mermaid: bool,
    as_json: bool,
) -> None:
    """Show what something was made of, and what was made of it.

    WHAT is the id of a task, a workflow or a run, the digest of an artifact or its beginning, or a file.
    """
    if dot + mermaid + as_json > 1:
        raise Failure("give one of --dot, --mermaid and --json")
    spare_collector()
    with progress("reading"):
        found = find_lineage(what, sources or default, up=up or not down, down=down, depth=depth)
    if dot or mermaid:
        print_lines(*(found.to_dot() if dot else found.to_mermaid()).split("\n"))
    else:
        _print(found, as_json=as_json)


@click.command()
@sources_options
@only_campaign_option
@click.pass_obj
def artifacts(default: str | None, sources: tuple[str, ...], campaign: str | None, *, as_json: bool) -> None:
    """List the artifacts: each use and generation of a file, folder or object, in the order of time."""
    spare_collector()
    with progress("reading"):
        campaign_id = find_campaign_id(sources or default, campaign)
        lines = artifact_table(sources or default, campaign_id=campaign_id)
    if as_json:
        print_answer_json([{name: line.get(name) for name in ARTIFACT_COLUMNS} for line in lines])
    elif lines:
        shortened = [
            {**line, "digest": None if line["digest"] is None else line["digest"][:_DIGEST_SHOWN]}
            for line in lines
        ]
        print_answer(_SHOWN, shortened)


def _print(found: Lineage, *, as_json: bool) -> None:
    if as_json:
        print_json(found.to_dict())
    else:
        print_lines(*found.lines())


__all__ = ["artifacts", "lineage", "whence"]
