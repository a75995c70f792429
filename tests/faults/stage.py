"""The stage of a scenario: a folder, a server and the program, and the outcome at the end.

Flows in: the actions of a scenario. Flows out: an :class:`Outcome`. Its counts come from the program itself,
from the bytes of the journals and from the rows of the server, and never from flowprov.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.faults.servers import Row, make_server
from tests.processes import has_delivery_error, processes_of, shippers
from tests.sinks.proxy import Proxy
from tests.support import clean_environment, start_command, wait_until

_PROGRAM = Path(__file__).with_name("program.py")
_LINE = re.compile(rb"[^\0\n]+\n")
_LATE_FOOTER = 1 << 62  # the position under which a sink stores a footer of the reserved slot


class Outcome(NamedTuple):
    """The outcome of one scenario.

    Attributes
    ----------
    captured
        Number of calls that the program counted.
    in_journal
        Number of task records in the files.
    delivered
        Number of different task records on the server.
    duplicates
        Number of further copies of them on the server.
    differences
        Number of lines that differ between the files and the server, control records included.
    held_up
        Seconds of the longest step, of closing the workflow, and from there to the end of the process.
    status, right
        The exit status of the program, and whether its result was right.
    verdict, verify_status, verified
        The verdict of ``flowprov verify`` on the buffer, its exit status, and its JSON.
    stderr
        The standard error of the program.
    leftovers
        Command lines of processes that still ran at the end.
    """

    captured: int
    in_journal: int
    delivered: int
    duplicates: int
    differences: int
    held_up: float
    status: int
    right: bool
    verdict: str
    verify_status: int
    verified: dict[str, Any]
    stderr: str
    leftovers: list[str]


class Program:
    """The program of a scenario, running.

    Parameters
    ----------
    folder
        Its working folder.
    how
        How it works; see ``program.py``.
    environment
        Variables that are added to those of this process.
    wrapper
        A command that starts the program.
    """

    def __init__(self, folder: Path, how: str, environment: dict[str, str], *wrapper: str) -> None:
        self._stderr_file = folder / f"stderr-{time.monotonic_ns()}"
        self.status: int | None = None
        self.result: dict[str, Any] = {}
        self.held_up = 0.0
        with self._stderr_file.open("wb") as stderr_file:
            self.process = subprocess.Popen(
                [*wrapper, sys.executable, str(_PROGRAM), how],
                cwd=folder,
                env=clean_environment(**environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr_file,
                text=True,
            )

    def wait_at_gate(self) -> None:
        """Wait until the program stops at a gate."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "gate\n", (line, self.stderr)

    def resume(self) -> None:
        """Let the program go on from a gate."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self) -> None:
        """Wait for the end of the program, and read its result."""
        assert self.process.stdout is not None
        last = self.process.stdout.readline()
        self.status = self.process.wait()
        ended_at = time.monotonic()
        if last:
            self.result = json.loads(last)
            self.held_up = self.result["held_up"] + ended_at - self.result["at"]

    @property
    def stderr(self) -> str:
        """The standard error so far."""
        return self._stderr_file.read_text()

    def kill(self) -> None:
        """Kill the program if it still runs, and close its pipes."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class Stage:
    """The stage on which one scenario is played with one kind of server.

    Attributes
    ----------
    folder
        The working folder of the program.
    buffer
        Its buffer.
    server
        The server, which is not started yet.
    environment
        Variables of the program and of commands.
    captured
        The program's count, if the program is killed and cannot print it.
    """

    def __init__(self, folder: Path, sink: str) -> None:
        self.sink = sink
        self._folder = folder
        self.folder = folder / "run"
        self.folder.mkdir()
        self.buffer = self.folder / "flowprov_buffer"
        self.server = make_server(sink, folder / "server")
        self.environment = {
            "TASKS": "600",
            "FLOWPROV__JOURNAL__HEARTBEAT": "0.2",
            "FLOWPROV__SINKS__STOP_TIMEOUT": "1",
            **self.sink_settings(self.server.uri()),
        }
        self.captured: int | None = None
        self._programs: list[Program] = []
        self._cleanup = contextlib.ExitStack()

    def sink_settings(self, uri: str) -> dict[str, str]:
        """Return the variables that set the URI of the sink."""
        return {f"FLOWPROV__SINKS__{self.sink.upper()}__URI": uri}

    def start(
        self, how: str = "alone", *wrapper: str, delivering: bool = True, **environment: str
    ) -> Program:
        """Start the program; without ``delivering`` its settings name no sink."""
        variables = {**self.environment, **environment}
        if not delivering:
            variables = {name: value for name, value in variables.items() if not name.endswith("__URI")}
        program = Program(self.folder, how, variables, *wrapper)
        self._programs.append(program)
        return program

    def run(self, how: str = "alone", *wrapper: str, delivering: bool = True, **environment: str) -> Program:
        """Run the program to its end."""
        program = self.start(how, *wrapper, delivering=delivering, **environment)
        program.finish()
        return program

    def put_proxy(self, *, delay: float = 0.0) -> Proxy:
        """Put a proxy in front of the server; programs and commands connect to it from now on."""
        proxy = Proxy(self.server)
        proxy.delay = delay
        self._cleanup.callback(proxy.close)
        self.environment.update(self.sink_settings(proxy.uri()))
        return proxy

    def require_password(self, password: str) -> None:
        """Use a server that requires a password."""
        self.server = make_server(self.sink, self._folder / "protected", password)

    def at_end(self, callback: Callable[[], object]) -> None:
        """Call a function when the scenario is over."""
        self._cleanup.callback(callback)

    def command(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a flowprov command, as a person would."""
        process = start_command(*arguments, cwd=self.folder, env=self.environment)
        self._cleanup.callback(process.wait)
        self._cleanup.callback(process.kill)
        return process

    def ship(self) -> None:
        """Run ``flowprov ship``, and assert that it delivered all."""
        with self.command("ship", str(self.buffer)) as process:
            printed, complained = process.communicate()
        assert process.returncode == 0, printed + complained

    def verify(self) -> tuple[int, dict[str, Any]]:
        """Run ``flowprov verify`` on the buffer; return its exit status and its JSON."""
        with self.command("verify", str(self.buffer), "--json") as process:
            printed, complained = process.communicate()
        assert printed, complained
        return process.returncode, json.loads(printed)

    def await_some_delivered(self) -> None:
        """Wait until the server holds some of the tasks."""
        wait_until(lambda: any(is_task(row.line) for row in self.server.rows()))

    def await_delivery_error(self) -> None:
        """Wait until the shipper reports an error."""
        wait_until(lambda: has_delivery_error(self.buffer))

    def shippers(self) -> list[psutil.Process]:
        """List the processes that deliver by themselves."""
        return shippers(self.folder)

    def await_shippers_gone(self) -> None:
        """Wait until no process of the scenario runs: all is delivered, or given up."""
        wait_until(lambda: not processes_of(self.folder), 90)

    def outcome(self) -> Outcome:
        """Count the records and the processes at the end."""
        leftovers = [" ".join(process.cmdline()) for process in processes_of(self.folder)]
        journals, rows = journal_lines(self.buffer), self.server.rows()
        tasks = [row for row in rows if is_task(row.line)]
        keys = {_task_key(row) for row in tasks}
        verify_status, verified = self.verify()
        statuses = [program.status for program in self._programs if program.status is not None]
        counted = sum(program.result.get("captured", 0) for program in self._programs)
        return Outcome(
            captured=counted if self.captured is None else self.captured,
            in_journal=sum(is_task(row.line) for row in journals),
            delivered=len(keys),
            duplicates=len(tasks) - len(keys),
            differences=_differences(journals, rows),
            held_up=max(program.held_up for program in self._programs),
            status=max(statuses, key=abs),
            right=all(program.result.get("right", False) for program in self._programs),
            verdict=verified["verdict"],
            verify_status=verify_status,
            verified=verified,
            stderr="".join(program.stderr for program in self._programs),
            leftovers=leftovers,
        )

    def close(self) -> None:
        """End the programs, the processes that they started, and the server."""
        for program in self._programs:
            program.kill()
        for process in processes_of(self.folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.server.kill()
        self._cleanup.close()


def journal_lines(buffer: Path) -> list[Row]:
    """Read the JSON lines of all journals of a buffer, without the code of flowprov."""
    rows = []
    for path in sorted(buffer.rglob("*.jsonl")):
        journal = path.stem.partition("-")[2]
        for match in _LINE.finditer(path.read_bytes()):
            line = match[0].rstrip(b"\n")
            if line.strip() and _parse(line) is not None:
                rows.append(Row(journal, match.start(), line))
    return rows


def is_task(line: bytes) -> bool:
    """Whether a line is the record of a step that ended."""
    parsed = _parse(line)
    return parsed is not None and parsed.get("type") == "task"


@contextlib.contextmanager
def open_stage(folder: Path, sink: str) -> Iterator[Stage]:
    """Create a stage, and close it at the end."""
    stage = Stage(folder, sink)
    try:
        yield stage
    finally:
        stage.close()


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _task_key(row: Row) -> tuple[str, object]:
    """Return the key of a task: its journal, and its id there."""
    return row.journal, (_parse(row.line) or {}).get("task_id")


def _differences(journals: list[Row], rows: list[Row]) -> int:
    """Count the lines that only the files hold, or only the server.

    In a journal that can grow no more, each heartbeat in the reserved slot is overwritten by the next one,
    and the last one by the footer. The server may still hold such a heartbeat, and stores such a footer at
    the end.
    """
    differ = _with_late_footers(journals) ^ _with_late_footers(rows)
    overwritten = {row for row in differ - set(journals) if _has_type(row, b"heartbeat")}
    return len(differ - overwritten)


def _with_late_footers(rows: list[Row]) -> set[Row]:
    return {row._replace(position=_LATE_FOOTER) if _has_type(row, b"footer") else row for row in rows}


def _has_type(row: Row, kind: bytes) -> bool:
    return row.line.startswith(b'{"type":"%s"' % kind)
