"""Processes that have done the imports which cost most, and fork one for each command or program of tests.

An interpreter and its imports cost more processor time than most commands, and than most programs that train
something small. What is forked is still a process of its own: with its folder, environment, arguments,
``__main__``, streams, exit and status. Variables that Python, the loader or an imported package reads act
before its first line: for other ones there is another such process.

Flows in: commands and programs. Flows out: what they print, and their exit status. This file is both ends:
the tests import it, and the processes run it.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import contextlib
import importlib
import io
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

COMMANDS = (
    *("concurrent.futures.thread", "csv", "duckdb", "html", "sqlite3", "flowprov.cli.answers"),
    *("flowprov.cli.compact", "flowprov.cli.completion", "flowprov.cli.rm", "flowprov.cli.settings"),
    *("flowprov.cli.ship", "flowprov.cli.show", "flowprov.cli.tail", "flowprov.cli.verify"),
)
"""What the commands of flowprov import. A program is forked from a process without flowprov."""
_HEAVY = ("torch", "pandas", "distributed", "dask.distributed", "transformers", "accelerate")
# Variables, or beginnings of them, that Python and the loader read at the start, and packages when imported.
_EARLY = (
    *("GLIBC_", "HOME", "LANG", "LC_", "LD_", "MALLOC_", "PYTHON", "TZ"),
    *("CUDA_", "DASK_", "HF_", "KMP_", "MKL_", "OMP_", "PYTORCH_", "TORCH", "TRANSFORMERS_"),
)
_MAX_REQUEST = 1_000_000
_MAX_SERVERS = 4  # each holds some hundreds of megabytes
_servers: list[Forkserver] = []


class Ended(NamedTuple):
    """The exit status of a command or program, as ``subprocess`` gives it, and what it printed."""

    status: int
    out: str
    err: str


class Forkserver:
    """One such process, as the tests see it."""

    def __init__(self, imports: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self.key = (imports, _early_variables(environment))
        self.is_busy = False
        self._requests, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(there.fileno()), *imports],
                env={name: value for name, value in environment.items() if not name.startswith("FLOWPROV")},
                cwd="/",
                pass_fds=[there.fileno()],
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def close(self) -> None:
        """End the process."""
        atexit.unregister(self.close)
        self._requests.close()
        self._process.kill()
        self._process.wait()

    def run(
        self, arguments: list[str], folder: Path, environment: Mapping[str, str], timeout: float
    ) -> Ended:
        """Run ``python`` with some arguments, the first of them ``-m`` or a script, until its output ends."""
        self.is_busy = True
        request = {"arguments": arguments, "folder": str(folder), "environment": dict(environment)}
        pipes = [os.pipe() for _ in range(3)]
        try:
            try:
                socket.send_fds(self._requests, [json.dumps(request).encode()], [end for _, end in pipes])
            finally:
                for _, end in pipes:
                    os.close(end)
            out, err, report = _read_all([end for end, _ in pipes], time.monotonic() + timeout)
        finally:
            self.is_busy = False
        pid, _, status = report.partition(b" ")
        if not status:
            with contextlib.suppress(ValueError, ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
            raise subprocess.TimeoutExpired(arguments, timeout, out, err)
        return Ended(int(status), out.decode(), err.decode())


def forkserver(imports: tuple[str, ...], environment: Mapping[str, str]) -> Forkserver | None:
    """Return the process that has done some imports with the same early variables; None while it is busy."""
    key = (imports, _early_variables(environment))
    server = next((server for server in _servers if server.key == key), None)
    if server is None:
        if len(_servers) == _MAX_SERVERS and not _servers[0].is_busy:
            _servers.pop(0).close()
        server = Forkserver(imports, environment)
    else:
        _servers.remove(server)
    _servers.append(server)  # the one that was used last
    return None if server.is_busy else server


def heavy_imports(code: str) -> tuple[str, ...]:
    """Return the modules that a program imports before it does anything else, as far as they cost much."""
    named: set[str] = set()
    with contextlib.suppress(SyntaxError):
        for statement in ast.parse(code).body:
            if isinstance(statement, ast.Import):
                named.update(alias.name for alias in statement.names)
            elif isinstance(statement, ast.ImportFrom):
                named.add(str(statement.module))
            elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                break  # what comes first may look at what is not imported yet
    return tuple(module for module in _HEAVY if module in named)


def _early_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that may act before the first line of a command or program."""
    return {name: value for name, value in environment.items() if name.startswith(_EARLY)}


def _read_all(pipes: list[int], deadline: float) -> list[bytes]:
    """Return what comes out of some pipes until all are closed or time is over."""
    contents = {pipe: bytearray() for pipe in pipes}
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                if chunk := os.read(key.fd, 1 << 16):
                    contents[key.fd] += chunk
                else:
                    selector.unregister(key.fd)
    for pipe in pipes:
        os.close(pipe)
    return [bytes(content) for content in contents.values()]


def _serve() -> list[str]:
    """Fork for each request, until nobody can ask any more; in a child, return what ``python`` is given."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    del sys.path[0]  # the folder of this file has packages that are called as what they test
    for package in sys.argv[2:]:
        with contextlib.suppress(ModuleNotFoundError):  # an extra that is not installed
            importlib.import_module(package)
    while True:
        message, pipes, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 3)
        if not message:
            os._exit(0)
        out, err, report = pipes
        if not (pid := os.fork()):
            requests.close()
            os.close(report)
            request = json.loads(message)
            _become(request, out, err)
            arguments: list[str] = request["arguments"]
            return arguments
        os.close(out)
        os.close(err)
        os.write(report, b"%d " % pid)
        os.write(report, b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os.close(report)


def _become(request: dict[str, Any], out: int, err: int) -> None:
    """Give this process the streams, folder, environment and arguments of the command or program."""
    for pipe, descriptor in ((out, 1), (err, 2)):
        os.dup2(pipe, descriptor)
        os.close(pipe)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].__dict__["tempdir"] = None  # by the environment of now
    first, *others = request["arguments"]
    is_module = first == "-m"
    sys.path.insert(0, request["folder"] if is_module else str(Path(first).parent))
    sys.argv[:] = [first, *(others[1:] if is_module else others)]
    sys.orig_argv[1:] = request["arguments"]
    if "multiprocessing.process" in sys.modules:  # the folder of the start, by which children find the script
        sys.modules["multiprocessing.process"].__dict__["ORIGINAL_DIR"] = request["folder"]


def _run_script(path: str) -> None:
    """Run a script as ``__main__``; an exception that ends it is printed as the interpreter does."""
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    module = types.ModuleType("__main__")
    module.__dict__.update(__file__=path, __builtins__=builtins, __spec__=None, __cached__=None)
    sys.modules["__main__"] = module
    try:
        exec(code, module.__dict__)  # noqa: S102 - what it is for
    except SystemExit:
        raise
    except BaseException as error:
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next  # without this frame
        sys.excepthook(type(error), error, error.__traceback__)
        sys.excepthook = lambda *_: None
        raise


if __name__ == "__main__":
    itself = sys.modules["__main__"]  # or its names would go when another takes its place
    given = _serve()
    if given[0] == "-m":
        importlib.import_module("runpy").run_module(given[1], run_name="__main__", alter_sys=True)
    else:
        _run_script(given[0])
