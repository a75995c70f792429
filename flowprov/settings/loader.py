"""The loader: it finds the settings, reads them, and puts their layers over each other.

Flows in: a path, a mapping, a ``Settings`` or nothing; the environment; overrides from code or from the
command line. Flows out: one checked ``Settings``, or one ``SettingsError`` with everything that is wrong.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowprov import guard
from flowprov.errors import SettingsError
from flowprov.settings.ownership import begins_with_mark, ownership
from flowprov.settings.paths import expand_variables
from flowprov.settings.report import Problems, SourceLocation, describe_value, escape, shorten
from flowprov.settings.schema import Settings
from flowprov.settings.sources import OverrideNode, PythonNode, nest
from flowprov.settings.validation import GIVEN_SETTINGS, Checker
from flowprov.settings.variables import read_environment
from flowprov.settings.yaml_text import MAX_TEXT, YAML_ERRORS, add_yaml_problem, compose, parse_value

PATH_VARIABLE = "FLOWPROV_SETTINGS_PATH"
FILE_NAME = "settings.yaml"
_SAMPLE = 256  # bytes
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


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
    folder = _current_folder(cwd)
    problems = Problems()
    checker = Checker(problems)
    if isinstance(source, Settings):
        checker.add_layer(PythonNode(source), GIVEN_SETTINGS)
    else:
        _add_base_layer(source, checker, problems, environ, folder)
        for name, path, value in read_environment(environ):
            checker.add_layer(PythonNode(nest(path, value)), name)
    if overrides is not None:
        checker.add_layer(OverrideNode(overrides), "override")
    return checker.settings(folder, environ)


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


def _add_base_layer(
    source: Any, checker: Checker, problems: Problems, environ: Mapping[str, str], folder: Path | None
) -> None:
    """Add the lowest layer: a mapping, a named file, the file in the current folder, or nothing."""
    named_by = ""
    if isinstance(source, Mapping):
        checker.add_layer(PythonNode(source), "the given mapping", is_file=True)
        return
    if source is None and environ.get(PATH_VARIABLE):
        source, named_by = environ[PATH_VARIABLE], f" (named by {PATH_VARIABLE})"
    if source is None:
        _add_local_file(checker, problems, environ, folder)
        return
    if not isinstance(source, (str, os.PathLike)):
        message = f"found {describe_value(source)}, expected a path, a mapping or Settings"
        problems.add(SourceLocation("the settings' source"), (), message)
        return
    named, unset = expand_variables(os.fsdecode(source), environ)
    named = os.path.expanduser(named)  # noqa: PTH111  pathlib raises for an unknown home folder
    path = named if folder is None else os.path.join(folder, named)  # noqa: PTH118  leaves a NUL to `open`
    try:
        content = _read(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        missing = f"; the variable {shorten(unset)} is not set" if unset else ""
        problems.add(SourceLocation(path), (), f"{_describe_read_error(error)}{missing}{named_by}")
        return
    _add_file(content, path, checker, problems)


def _add_local_file(
    checker: Checker, problems: Problems, environ: Mapping[str, str], folder: Path | None
) -> None:
    """Add ``settings.yaml`` from the current folder if it belongs to flowprov; ignore another program's."""
    if folder is None:
        return
    path = str(folder / FILE_NAME)
    try:
        content = _read(path)
    except (OSError, ValueError):
        return
    encoding = _other_encoding(content)
    text = content[:MAX_TEXT].decode(encoding or "utf-8-sig", "replace").lstrip("\ufeff")
    if encoding is None and (len(content) > MAX_TEXT or "\ufffd" in text):
        owner = "marked" if begins_with_mark(text) else None
    else:
        owner = ownership(text)
    if owner == "marked":
        _add_file(content, path, checker, problems)
    elif owner == "likely":
        try:
            _check_alone(content, path, environ, folder)
        except SettingsError as error:
            _say_ignored(path, error)
        else:
            _add_file(content, path, checker, problems)


def _check_alone(content: bytes, path: str, environ: Mapping[str, str], folder: Path) -> None:
    """Check a file without the layers above it."""
    problems = Problems()
    checker = Checker(problems)
    _add_file(content, path, checker, problems)
    checker.settings(folder, environ)


def _say_ignored(path: str, error: SettingsError) -> None:
    guard.warn_once(
        f"ignored {path}",
        "flowprov does not use %s. Its keys are those of flowprov's settings, but not all of it is valid for "
        "them, so it may be another program's. If it is flowprov's, write \"flowprov: 1\" as its first line, "
        "and mend this: %s",
        escape(path),
        error,
    )


def _add_file(content: bytes, path: str, checker: Checker, problems: Problems) -> None:
    if len(content) > MAX_TEXT:
        problems.add(
            SourceLocation(path), (), f"too large: expected at most {MAX_TEXT // 1024} KiB of settings"
        )
        return
    if encoding := _other_encoding(content):
        hint = "save the file in this encoding"
        message = f"found {encoding.upper()}, expected UTF-8"
        problems.add(SourceLocation(path, 1), (), message, hint=lambda: hint)
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.add(
            SourceLocation(path, line), (), "not UTF-8", hint=lambda: "save the file in this encoding"
        )
        return
    try:
        root = compose(text)
    except YAML_ERRORS as error:
        add_yaml_problem(problems, path, text, error)
        return
    if root is not None:
        checker.add_layer(root, path, is_file=True)


def _other_encoding(content: bytes) -> str | None:
    """Return the encoding of a text that is not UTF-8, as Windows saves it, by its mark or its zero bytes."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    beginning = content[:_SAMPLE]
    if len(beginning) < 2 or b"\0" not in beginning:
        return None
    even, odd = beginning[0::2].count(0), beginning[1::2].count(0)
    if odd > len(beginning) // 4 and not even:
        return "utf-16-le"
    return "utf-16-be" if even > len(beginning) // 4 and not odd else None


def _read(path: str) -> bytes:
    """Read a regular file, up to one byte more than its largest size; a pipe would block the program.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or is no regular file.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "it is no regular file")
        return file.read(MAX_TEXT + 1)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _describe_read_error(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "found a folder, expected a file"
    if isinstance(error, PermissionError):
        return "permission to read it is denied"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"cannot be read: {reason or 'not a valid path'}"


def _current_folder(cwd: Path | None) -> Path | None:
    """Return the current folder as an absolute path; None if it was deleted while the program runs."""
    try:
        return Path.cwd() if cwd is None else Path(cwd).absolute()
    except OSError:
        return None
