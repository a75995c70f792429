"""What many tests need: programs in processes of their own, waiting, and the plain lines of a buffer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flowprov import records
from flowprov.journal import format as journal_format
from tests.forkserver import forkserver, heavy_imports

REPOSITORY = Path(__file__).parent.parent
# For tests that count descriptors, bytes or records: the thread that looks at code and data takes some.
WITHOUT_VERSIONS = {f"FLOWPROV__VERSIONS__{part}": "false" for part in ("CODE", "DATA", "PACKAGES")}
PATIENCE_S = 60.0  # far beyond what a busy machine needs
# A busy machine cuts no value, and gives up no digest, no question to git: tests of these limits set them.
_PATIENT = {
    f"FLOWPROV__{key}": str(PATIENCE_S)
    for key in ("VALUES__MAX_TIME", "VERSIONS__TIMEOUT", "ARTIFACTS__CLOSE_TIMEOUT", "DASK__CLOSE_TIMEOUT")
}


def clean_environment(**added: str) -> dict[str, str]:
    """Return this environment without flowprov's variables, and with the repository importable."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPROV")}
    paths = [str(REPOSITORY), *filter(None, [environment.get("PYTHONPATH")])]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths), **added}


def program_environment(**added: str) -> dict[str, str]:
    """Return a clean environment for a program that records, on a machine as busy as it may be."""
    return clean_environment(**{**_PATIENT, **added})


def write_program(code: str, folder: Path) -> Path:
    """Write a program, unless it is there: an interpreter that starts just now would find it empty."""
    script, text = folder / "program.py", textwrap.dedent(code)
    if not script.exists() or script.read_text() != text:
        beside = script.with_suffix(".new")
        beside.write_text(text)
        beside.replace(script)
    return script


def start(
    code: str,
    folder: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdin: int | None = None,
) -> subprocess.Popen[str]:
    """Start a program as a script in ``folder``; its buffer is ``folder/flowprov_buffer``."""
    return subprocess.Popen(
        [sys.executable, str(write_program(code, folder)), *arguments],
        cwd=folder,
        env=program_environment(**(env or {})),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    code: str,
    folder: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    status: int | None = 0,
    timeout: float = 120,
    fresh: bool = False,
) -> tuple[str, str]:
    """Run a program to its end and return its standard output and standard error.

    One that imports torch or the like is forked from a process that has done so, unless it is ``fresh``: for
    tests about the start of an interpreter, the order of imports, descriptors, or the memory of a process.
    """
    heavy = () if fresh else heavy_imports(textwrap.dedent(code))
    environment = program_environment(**(env or {}))
    if heavy and (server := forkserver(heavy, environment)):
        script = write_program(code, folder)
        ended, stdout, stderr = server.run([str(script), *arguments], folder, environment, timeout)
    else:
        with start(code, folder, *arguments, env=env) as process:
            stdout, stderr = process.communicate(timeout=timeout)
        ended = process.returncode
    if status is not None:
        assert ended == status, stderr
    return stdout, stderr


def printed_without_carets(error: BaseException) -> str:
    """Return what Python prints of an exception, without the lines that point at parts of others."""
    text = "".join(traceback.format_exception(error))
    return re.sub(r"^[ |]* {4}[~^]+\n", "", text, flags=re.MULTILINE)


def start_command(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start ``python -m flowprov``."""
    return subprocess.Popen(
        [sys.executable, "-m", "flowprov", *map(str, arguments)],
        cwd=cwd,
        env=clean_environment(**(env or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """Wait until a condition holds that something else brings about; return the value of the condition."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition does not come true"
        time.sleep(0.02)
    return value


def lines(folder: Path) -> list[records.Record]:
    """Return every record under a folder, journal by journal, with control records."""
    return [record for path in journal_format.find_journals(folder) for record in lines_of(path)]


def lines_of_program(folder: Path) -> list[records.Record]:
    """Return the records under a folder without versions, which come from a thread, a moment later."""
    return [record for record in lines(folder) if not isinstance(record, records.Version)]


def lines_of(path: Path) -> list[records.Record]:
    """Return every record of one journal."""
    return [records.decode(line) for _, line in journal_format.lines(path.read_bytes())]


def tasks(folder: Path) -> list[records.Task]:
    """Return the task records under a folder, with full ids."""
    completed = []
    for path in journal_format.find_journals(folder):
        header = None
        for record in lines_of(path):
            if isinstance(record, records.Header):
                header = record
            elif type(record) is records.Task and header is not None:
                completed.append(records.complete_task(record, header))
    return completed


def only(items: list[Any]) -> Any:
    """Return the only element of a list."""
    assert len(items) == 1, items
    return items[0]


def of_type(items: list[records.Record], record_type: type[Any]) -> list[Any]:
    """Return the records of one type."""
    return [record for record in items if type(record) is record_type]
