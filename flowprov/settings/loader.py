"""The loader: it finds the settings, reads them, and puts their layers over each other.

Flows in: a path, a mapping, a ``Settings`` or nothing; the environment; overrides from code or from the
command line. Flows out: one checked ``Settings``, or one ``SettingsError`` with everything that is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowprov import guard
from flowprov.errors import SettingsError
from flowprov.settings.locations import GIVEN_SETTINGS
from flowprov.settings.origins import Origins
from flowprov.settings.ownership import Ownership, begins_with_mark, ownership
from flowprov.settings.paths import expand_variables
from flowprov.settings.profiles import chosen_profile, names_profile, set_by_hand
from flowprov.settings.report import (
    Problems,
    SourceLocation,
    describe_value,
    escape,
    shorten,
)
from flowprov.settings.schema import Settings
from flowprov.settings.settings_file import describe_read_error, node_of_content, other_encoding, read_file
from flowprov.settings.sources import Layer, OverrideNode, PythonNode, nest
from flowprov.settings.validation import OVERRIDE, Checker
from flowprov.settings.variables import read_environment
from flowprov.settings.yaml_text import MAX_TEXT, parse_value

PATH_VARIABLE = "FLOWPROV_SETTINGS_PATH"
FILE_NAME = "settings.yaml"
_MAX_SAID = 9  # lines of a warning about a file that may be another program's


def load_settings(
    source: str | os.PathLike[str] | Mapping[str, Any] | Settings | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Settings:
    """Find the settings, put the environment and the overrides over them, and check everything.

    Parameters
    ----------
    source
        The path of a file; or a mapping, which is taken like the content of a file; or a ``Settings``, over
        which only ``overrides`` go, because code goes above the environment. None: the file that
        ``FLOWPROV_SETTINGS_PATH`` names, else ``settings.yaml`` in ``cwd`` if it belongs to flowprov, else
        the defaults.
    overrides
        Values by nested, dotted (``a.b``) or double-underscore (``a__b``) keys. They go above all else.
    environ
        The environment, by default that of the process. ``FLOWPROV__A__B=value`` goes above the file. An
        empty value counts as not set.
    cwd
        The current folder, by default that of the process. Relative paths start there.

    Returns
    -------
    Settings
        Checked, with an absolute ``journal.path``, in which ``~`` and variables are replaced.

    Raises
    ------
    SettingsError
        With every problem of every source: the key, the line, what was found and what was expected.
    """
    environ = os.environ if environ is None else environ
    folder = current_folder(cwd)
    problems = Problems()
    given = source.origins if isinstance(source, Settings) else None
    layers = collect_layers(source, overrides, environ, folder, problems)
    return merge_layers(layers, problems, environ, folder, given).settings(folder)


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """Parse ``a.b=value``, the form of the command line's ``--set``.

    Parameters
    ----------
    assignment
        A dotted key, ``=`` and a value in YAML.

    Returns
    -------
    tuple
        The key and the value, for the ``overrides`` of ``load_settings``.

    Raises
    ------
    SettingsError
        If the key or the ``=`` is missing.
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise SettingsError(
            f'"{shorten(assignment)}" is no assignment: expected key=value, as in journal.heartbeat=30'
        )
    return key.strip(), parse_value(text)


def collect_layers(
    source: Any,
    overrides: Mapping[str, Any] | None,
    environ: Mapping[str, str],
    folder: Path | None,
    problems: Problems,
) -> list[Layer]:
    """Return the layers above the profile, the lowest first."""
    above = [] if overrides is None else [Layer(OverrideNode(overrides), OVERRIDE)]
    if isinstance(source, Settings):
        # Another profile goes below what was set by hand, and takes the place of the one before.
        node = PythonNode(set_by_hand(source) if names_profile(above) else source)
        return [Layer(node, GIVEN_SETTINGS), *above]
    base = _base_layer(source, problems, environ, folder)
    variables = [
        Layer(PythonNode(nest(path, value)), name) for name, path, value in read_environment(environ)
    ]
    return [*([] if base is None else [base]), *variables, *above]


def merge_layers(
    layers: Sequence[Layer],
    problems: Problems,
    environ: Mapping[str, str],
    folder: Path | None,
    given: Origins | None = None,
) -> Checker:
    """Check layers, and put them over their profile and over each other."""
    checker = Checker(problems, environ, given)
    profile = chosen_profile(layers, problems, environ, folder)
    for layer in (*profile.layers, *layers):
        checker.add_layer(layer)
    if given is None or names_profile(layers):
        checker.set_profile(profile.name, profile.named_at)
    return checker


def _base_layer(
    source: Any, problems: Problems, environ: Mapping[str, str], folder: Path | None
) -> Layer | None:
    """Return the layer of a mapping, a named file or the file in the current folder; None without any."""
    named_by = ""
    if isinstance(source, Mapping):
        return Layer(PythonNode(source), "the given mapping", is_file=True)
    if source is None and environ.get(PATH_VARIABLE):
        source, named_by = environ[PATH_VARIABLE], f" (named by {PATH_VARIABLE})"
    if source is None:
        return _local_file(problems, environ, folder)
    if not isinstance(source, (str, os.PathLike)):
        message = f"found {describe_value(source)}, expected a path, a mapping or Settings"
        problems.add(SourceLocation("the settings' source"), (), message)
        return None
    path, unset = expand_variables(os.fsdecode(source), environ)
    try:
        path = os.path.expanduser(path)  # noqa: PTH111  pathlib raises for an unknown home folder
        path = path if folder is None else os.path.join(folder, path)  # noqa: PTH118  leaves a NUL to `open`
        content = read_file(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        missing = f"; the variable {shorten(unset)} is not set" if unset else ""
        problems.add(SourceLocation(path), (), f"{describe_read_error(error)}{missing}{named_by}")
        return None
    return _file_layer(content, path, problems)


def _local_file(problems: Problems, environ: Mapping[str, str], folder: Path | None) -> Layer | None:
    """Return ``settings.yaml`` of the current folder if it belongs to flowprov, not another program's."""
    if folder is None:
        return None
    path = str(folder / FILE_NAME)
    try:
        content = read_file(path)
    except (OSError, ValueError):
        return None
    owner = _owner(content)
    if owner is None:
        return None
    if owner != "marked":
        try:
            alone = Problems()
            layer = _file_layer(content, path, alone)
            merge_layers([] if layer is None else [layer], alone, environ, folder).settings(folder)
        except SettingsError as error:
            _say_ignored(path, error)
            return None
    return _file_layer(content, path, problems)


def is_used(path: str) -> bool:
    """Whether a file would be used as ``settings.yaml`` of the current folder, if all in it is valid."""
    try:
        return _owner(read_file(path)) in ("marked", "likely")
    except (OSError, ValueError):
        return False


def _owner(content: bytes) -> Ownership:
    """Return how sure it is that a file in the current folder is flowprov's."""
    encoding = other_encoding(content)
    text = content[:MAX_TEXT].decode(encoding or "utf-8-sig", "replace").lstrip("\ufeff")
    if encoding is None and (len(content) > MAX_TEXT or "\ufffd" in text):
        return "marked" if begins_with_mark(text) else None
    return ownership(text)


def _say_ignored(path: str, error: SettingsError) -> None:
    lines = str(error).splitlines()
    if len(lines) > _MAX_SAID:
        lines[_MAX_SAID - 1 :] = ["  and more, which flowprov settings validate lists"]
    guard.warn_once(
        f"ignored {path}",
        "flowprov does not use %s. It looks like flowprov's settings, but not all of it is valid for them: "
        "it may be another program's. If it is flowprov's, write \"flowprov: 1\" as its first line, and mend "
        "this: %s",
        escape(path),
        "\n".join(lines),
        in_lines=True,  # an error escapes each of its lines
    )


def _file_layer(content: bytes, path: str, problems: Problems) -> Layer | None:
    node = node_of_content(content, path, problems)
    return None if node is None else Layer(node, path, is_file=True)


def current_folder(cwd: Path | None) -> Path | None:
    """Return the current folder as an absolute path; None if it was deleted while the program runs."""
    try:
        return Path.cwd() if cwd is None else Path(cwd).absolute()
    except OSError:
        return None
