"""``flowprov export cyclonedx FILE -o OUT``: the bill of materials of a model.

Flows in: a model file, found by its content. Flows out: one file, and a line that says what it holds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from flowprov.cli.completion import complete_files
from flowprov.cli.output import output_option, print_lines, sources_option, spare_collector
from flowprov.cli.progress import progress
from flowprov.display import count
from flowprov.export.cyclonedx import write_cyclonedx
from flowprov.read.artifacts.questions import find_file


@click.command("cyclonedx")
@click.argument("file", shell_complete=complete_files)
@output_option("OUT")
@sources_option
@click.pass_obj
def export_cyclonedx(default: str | None, file: str, output: Path, sources: tuple[str, ...]) -> None:
    """Write the bill of materials of a model, as CycloneDX.

    FILE is a model, or a folder of one, which is found by its content as "flowprov whence" finds it. The bill
    has its digest, parameters and metrics of the run that made it, the data and models that it was made of,
    the packages that were installed, and the workflows that made all of these. Exit status 1: nothing that is
    recorded knows the file, and nothing is written.
    """
    spare_collector()
    with progress("exporting"):
        found = find_file(file, sources or default)
        if found is None:
            sys.exit(1)
        number = write_cyclonedx(found, output)
    print_lines(f"{output}: {found.file['name']}, and {count(number, 'component')}")


__all__ = ["export_cyclonedx"]
