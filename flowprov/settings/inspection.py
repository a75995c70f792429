"""Everything that there is to say about settings: key by key, and by the rules across keys.

Flows in: sources of settings, as the loader takes them. Flows out: problems and notes for a person; warnings
in a program that records.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flowprov import guard
from flowprov.errors import SettingsError
from flowprov.settings.loader import collect_layers, current_folder, merge_layers
from flowprov.settings.report import Problems, join_path
from flowprov.settings.rules import findings
from flowprov.settings.schema import Settings
from flowprov.settings.variables import slips


class Inspection(NamedTuple):
    """What there is to say about settings.

    Attributes
    ----------
    settings
        The settings; None if they cannot be loaded.
    problems
        All that is wrong: key by key, and by the rules across keys.
    notes
        What is worth knowing.
    """

    settings: Settings | None
    problems: Problems
    notes: list[str]


def inspect_settings(
    source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Inspection:
    """Load settings as ``load_settings`` does, ask the rules across keys, and raise nothing."""
    environ = os.environ if environ is None else environ
    folder = current_folder(cwd)
    problems = Problems()
    layers = collect_layers(source, overrides, environ, folder, problems)
    checker = merge_layers(layers, problems, environ, folder)
    settings: Settings | None = None
    with contextlib.suppress(SettingsError):  # the problems hold what it says
        settings = checker.settings(folder)
    notes = list(_slip_notes(environ))
    for finding in findings(checker.valid_part()):
        location, hint = checker.locations.of(finding.path), finding.mend
        if any(map(problems.touch, (finding.path, *finding.because_of))):
            continue
        if finding.is_problem:
            problems.add(location, finding.path, finding.message, hint=lambda hint=hint: hint)  # type: ignore[misc]
        else:
            notes.append(f"{location}: {join_path(finding.path)}: {finding.message}; {hint}")
    return Inspection(settings, problems, notes)


def _slip_notes(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what there is to say of variables that are nearly those of flowprov."""
    for name, meant in slips(environ):
        yield f'{name}: flowprov reads no such variable; did you mean "{meant}"?'


def warn_of_findings(settings: Settings) -> None:
    """Say once, in a program that records, which variables nobody reads and what the rules across keys find.

    They stop nothing there.
    """
    with guard.guarded("checking the settings"):
        for note in _slip_notes(os.environ):
            guard.warn_once(note, "flowprov: %s", note)
        for finding in findings(settings):
            if finding.is_problem and not finding.said_elsewhere:
                key = join_path(finding.path)
                guard.warn_once(
                    f"settings {key}",
                    "flowprov: settings do not fit together. %s: %s; %s.",
                    key,
                    finding.message,
                    finding.mend,
                )
