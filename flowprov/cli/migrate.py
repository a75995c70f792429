"""``flowprov migrate``: a settings file of Flowcept, rewritten.

Flows in: that file. Flows out: a settings file of ours, and what of the other has no counterpart.
"""

from __future__ import annotations

from typing import Any

import click

from flowprov.cli.output import Failure, print_all, print_lines, table
from flowprov.settings.flowcept import translate
from flowprov.settings.report import escape
from flowprov.settings.settings_file import describe_read_error, read_file
from flowprov.settings.yaml_document import document_of
from flowprov.settings.yaml_text import YAML_ERRORS, parse_document

_STANDARD_OUTPUT = "-"


@click.command()
@click.argument("file", metavar="FILE")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default=_STANDARD_OUTPUT,
    help="Where to write; by default it is printed.",
)
def migrate(file: str, output: str) -> None:
    """Rewrite a settings file of Flowcept.

    What has no counterpart is said, with what there is instead.
    """
    found = translate(_read(file))
    values: dict[str, Any] = {}
    for path, (value, _) in found.values.items():
        section = values
        for name in path[:-1]:
            section = section.setdefault(name, {})
        section[path[-1]] = value
    text = document_of(values)
    if output == _STANDARD_OUTPUT:
        print_all(text.splitlines())
    else:
        _write(output, text)
        print_lines(f"wrote {output}: {len(found.values)} keys")
    rows = [(key, note) for key, note in found.notes.items()]
    print_all(table(("key of flowcept", "what there is instead"), rows), to_stderr=True)


def _read(file: str) -> dict[Any, Any]:
    try:
        content = parse_document(read_file(file).decode())
    except OSError as error:
        raise Failure(f"{file} cannot be read: {describe_read_error(error)}") from error
    except YAML_ERRORS as error:
        raise Failure(f"{file} is no YAML file: {escape(str(error).splitlines()[0])}") from error
    if not isinstance(content, dict) or not content:
        raise Failure(
            f"{file}: found no settings, expected those of Flowcept, with sections like instrumentation"
        )
    return content


def _write(output: str, text: str) -> None:
    try:
        with open(output, "x", encoding="utf-8") as stream:  # noqa: PTH123  a NUL is an OSError
            stream.write(text)
    except FileExistsError as error:
        raise Failure(f"{output} exists already: give another name") from error
    except (OSError, ValueError) as error:
        raise Failure(f"{output} cannot be written: {error}") from error
