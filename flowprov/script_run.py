"""Run an unchanged script inside a workflow.

Flows in: a script or a module, and its arguments. Flows out: what the script does, its exit status, and a
workflow with the arguments (those that have a name by it, too), the exit status and the end of the output.
The script runs in this process, as ``__main__``, so what it decorates is inside the workflow.
"""

from __future__ import annotations

import builtins
import io
import os
import runpy
import sys
import types
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from flowprov.capture.workflow import workflow
from flowprov.errors import UsageError
from flowprov.runtime import runtime
from flowprov.values.arguments import named_arguments

_MAX_LINES, _MAX_LENGTH = 20, 200  # of the output that is recorded
_CTRL_C = 130  # as a shell says it


def run_script(path: str, arguments: Sequence[str], *, name: str | None = None) -> int:
    """Run a script; return its exit status.

    Parameters
    ----------
    path
        The script.
    arguments
        Its arguments.
    name
        Name of the workflow; by default that of the script, without its ending.

    Raises
    ------
    UsageError
        If it cannot be read, or is no Python.
    """
    whole = os.path.abspath(path)  # noqa: PTH100 - as the interpreter names it, links and all
    try:
        with io.open_code(whole) as file:
            code = compile(file.read(), whole, "exec", dont_inherit=True)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}. Give a Python script."
        ) from error
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{path} is no Python that can be run: {error}") from error
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=whole, __builtins__=builtins, __spec__=None)
    sys.modules["__main__"] = module
    sys.argv = [path, *arguments]
    sys.path[0] = str(Path(path).resolve().parent)
    used = {"script": path, "arguments": list(arguments)}
    return _run(lambda: exec(code, module.__dict__), name or Path(path).stem, used)  # noqa: S102 - what it is for


def run_module(module: str, arguments: Sequence[str], *, name: str | None = None) -> int:
    """Run a module as ``python -m`` does; return its exit status."""
    sys.argv = [module, *arguments]
    sys.path[0] = str(Path.cwd())
    used = {"module": module, "arguments": list(arguments)}
    return _run(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True), name or module, used)


def _run(body: Callable[[], object], name: str, used: dict[str, Any]) -> int:
    """Run something in a workflow, and end as the interpreter would; return the exit status."""
    runtime.get()  # from here on the settings say which names mean a secret
    if named := named_arguments(used["arguments"]):
        used["args"] = named
    output = _OutputEnd()
    error: BaseException | None = None
    opened = workflow(name, used=used, subtype="script").start()
    try:
        body()
        status = 0
    except SystemExit as end:
        error, status = end, _status_of(end)
    except BaseException as failure:  # the script ends with it
        error, status = failure, _CTRL_C if isinstance(failure, KeyboardInterrupt) else 1
        failure.__traceback__ = _within_script(failure.__traceback__)
        sys.excepthook(type(failure), failure, failure.__traceback__)
    output.release()
    opened.set_generated(exit_status=status, output=output.lines())
    opened.stop(error)
    return status


def _status_of(end: SystemExit) -> int:
    """Return the exit status; a text is printed, as the interpreter does."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
    return 1


def _within_script(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of this file and of ``runpy``, which are not the script's."""
    ours = {__file__, runpy.__file__, "<frozen runpy>"}
    whole = trace
    while trace is not None and trace.tb_frame.f_code.co_filename in ours:
        trace = trace.tb_next
    return trace or whole


class _OutputEnd:
    """Keeps the last lines that the script prints. The streams stay what they are."""

    def __init__(self) -> None:
        self._pieces: deque[str] = deque(maxlen=_MAX_LINES * 20)
        self._streams = [stream for stream in (sys.stdout, sys.stderr) if self._watch(stream)]

    def _watch(self, stream: Any) -> bool:
        try:
            write, keep = stream.write, self._pieces.append

            def write_and_keep(text: str) -> int:
                count: int = write(text)
                if isinstance(text, str):
                    keep(text[-_MAX_LINES * _MAX_LENGTH :])
                return count

            stream.write = write_and_keep
        except AttributeError:  # no stream, or one that takes no attributes
            return False
        return True

    def release(self) -> None:
        """Watch the streams no longer."""
        for stream in self._streams:
            vars(stream).pop("write", None)

    def lines(self) -> list[str]:
        """Return the last lines."""
        lines = "".join(self._pieces).splitlines()[-_MAX_LINES:]
        return [line[-_MAX_LENGTH:] for line in lines]
