"""Settings found, read, laid over each other and checked.

Flows in: a path, a mapping, a ready ``Settings`` or nothing; the environment; overrides of code or of the
command line. Flows out: one checked ``Settings``, or one ``SettingsError`` with everything that is wrong.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowprov.errors import SettingsError
from flowprov.settings.report import Problems, SourceLocation, describe_value, shortened
from flowprov.settings.schema import Settings
from flowprov.settings.sources import (
    YAML_FAULTS,
    OverrideNode,
    PythonNode,
    add_yaml_fault,
    begins_with_mark,
    belongs_to_us,
    compose,
    environment_values,
    nested,
    parse_value,
)
from flowprov.settings.validation import Checker

PATH_VARIABLE = "FLOWPROV_SETTINGS_PATH"
FILE_NAME = "settings.yaml"
# Far more than any settings need; the YAML reader takes seconds for it.
LARGEST_FILE = 256 * 1024


def load_settings(
    source: str | os.PathLike[str] | Mapping[str, Any] | Settings | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Settings:
    """Find the settings, lay the environment and overrides over them, and check everything.

    Parameters
    ----------
    source
        The path of a file; or a mapping, taken like a file's content; or a ready ``Settings``, over which
        only ``overrides`` are laid, because code goes above the environment. None: the file that
        ``FLOWPROV_SETTINGS_PATH`` names, else ``settings.yaml`` in ``cwd`` if it is ours, else the defaults.
    overrides
        Values by nested, dotted (``a.b``) or double-underscore (``a__b``) keys; they go above all else.
    environ
        The environment, by default that of the process. ``FLOWPROV__A__B=value`` goes above the file.
    cwd
        The current folder, by default that of the process. Relative paths start there.

    Returns
    -------
    Settings
        Checked, with an absolute ``journal.path``.

    Raises
    ------
    SettingsError
        With every problem of every source: its place, its line, what was found and what was expected.
    """
    environ = os.environ if environ is None else environ
    folder = _current_folder(cwd)
    problems = Problems()
    checker = Checker(problems)
    if isinstance(source, Settings):
        checker.add_layer(PythonNode(source), "the given Settings")
    else:
        _take_base(source, checker, problems, environ, folder)
        for name, path, value in environment_values(environ):
            checker.add_layer(PythonNode(nested(path, value)), name)
    if overrides is not None:
        checker.add_layer(OverrideNode(overrides), "override")
    return checker.settings(folder)


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """Take apart ``a.b=value``, as the command line's ``--set`` gives it.

    Parameters
    ----------
    assignment
        A dotted key, ``=`` and a value in the form of YAML.

    Returns
    -------
    tuple
        The key and the value, ready for the ``overrides`` of ``load_settings``.

    Raises
    ------
    SettingsError
        If there is no key or no ``=``.
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise SettingsError(
            f'"{shortened(assignment)}" is no assignment: expected key=value, as in journal.heartbeat=30'
        )
    return key.strip(), parse_value(text)


def _take_base(
    source: Any, checker: Checker, problems: Problems, environ: Mapping[str, str], folder: Path | None
) -> None:
    """Take the lowest layer: a mapping, a named file, the file in the current folder, or nothing."""
    named_by = ""
    if isinstance(source, Mapping):
        checker.add_layer(PythonNode(source), "the given mapping", is_file=True)
        return
    if source is None and environ.get(PATH_VARIABLE):
        source, named_by = environ[PATH_VARIABLE], f" (named by {PATH_VARIABLE})"
    if source is None:
        _take_found(checker, problems, folder)
        return
    if not isinstance(source, (str, os.PathLike)):
        what = f"found {describe_value(source)}, expected a path, a mapping or Settings"
        problems.add(SourceLocation("the settings' source"), (), what)
        return
    named = os.path.expanduser(os.fsdecode(source))  # noqa: PTH111  pathlib raises where no home is known
    path = named if folder is None else os.path.join(folder, named)  # noqa: PTH118  keeps NUL for the open
    try:
        content = _read(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        problems.add(SourceLocation(path), (), f"{_why_not_read(error)}{named_by}")
        return
    _take_file(content, path, checker, problems)


def _take_found(checker: Checker, problems: Problems, folder: Path | None) -> None:
    """Take ``settings.yaml`` from the current folder if it is ours; another program's is passed over."""
    if folder is None:
        return
    path = folder / FILE_NAME
    try:
        # A pipe of that name would block the program.
        content = _read(path) if stat.S_ISREG(path.stat().st_mode) else b""
    except (OSError, ValueError):
        return
    text = content[:LARGEST_FILE].decode("utf-8-sig", "replace")
    whole = len(content) <= LARGEST_FILE and "\ufffd" not in text
    if belongs_to_us(text) if whole else begins_with_mark(text):
        _take_file(content, str(path), checker, problems)


def _take_file(content: bytes, path: str, checker: Checker, problems: Problems) -> None:
    if len(content) > LARGEST_FILE:
        problems.add(
            SourceLocation(path), (), f"too large: expected at most {LARGEST_FILE // 1024} KiB of settings"
        )
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.add(
            SourceLocation(path, line), (), "not UTF-8", hint=lambda: "save the file in that encoding"
        )
        return
    try:
        root = compose(text)
    except YAML_FAULTS as error:
        add_yaml_fault(problems, path, text, error)
        return
    if root is not None:
        checker.add_layer(root, path, is_file=True)


def _read(path: str | Path) -> bytes:
    """Read a file, but never much more than may be in it."""
    with open(path, "rb") as file:  # noqa: PTH123  the path may be one that pathlib would change
        return file.read(LARGEST_FILE + 1)


def _why_not_read(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "a folder, expected a file"
    if isinstance(error, PermissionError):
        return "permission to read it is denied"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"cannot be read: {reason or 'not a valid path'}"


def _current_folder(cwd: Path | None) -> Path | None:
    """Give the current folder as an absolute path; None if it was deleted under the program."""
    try:
        return Path.cwd() if cwd is None else Path(cwd).absolute()
    except OSError:
        return None
