"""Where a scenario is played: a folder, a server, the program, and what is found when all is over.

Flows in: what a scenario does. Flows out: an :class:`Outcome`, counted from the program's own words, from the
bytes of the journals and from the rows of the server; never from what flowprov says of itself.
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
from tests.sinks.proxy import Proxy
from tests.support import clean_environment

_PROGRAM = Path(__file__).with_name("program.py")
_LINE = re.compile(rb"[^\0\n]+\n")
_LATE_FOOTER = 1 << 62  # where a sink keeps a footer that a full disk drove behind the header


class Outcome(NamedTuple):
    """What became of the records of one scenario.

    Attributes
    ----------
    captured
        Calls that the program counted.
    in_journal
        Task records that the files hold.
    delivered
        Different task records that the server holds.
    doubled
        Task records that it holds beside those.
    astray
        Lines that differ between files and server, control records included.
    held_up
        Seconds: the longest step, the closing of the workflow, and the way from there to the process's end.
    status, right
        The program's exit status, and whether its result was right.
    verdict, verify_status, verified
        What ``flowprov verify`` said of the buffer, its exit status, and all that it told.
    said
        What the program complained of.
    left
        Command lines of processes that were left.
    """

    captured: int
    in_journal: int
    delivered: int
    doubled: int
    astray: int
    held_up: float
    status: int
    right: bool
    verdict: str
    verify_status: int
    verified: dict[str, Any]
    said: str
    left: list[str]


class Program:
    """The program, running.

    Parameters
    ----------
    folder
        Where it runs.
    how
        How it works; see ``program.py``.
    environment
        Added to that of this process.
    wrapper
        A command that starts it.
    """

    def __init__(self, folder: Path, how: str, environment: dict[str, str], *wrapper: str) -> None:
        self._complaints = folder / f"complaints-{time.monotonic_ns()}"
        self.status: int | None = None
        self.told: dict[str, Any] = {}
        self.held_up = 0.0
        with self._complaints.open("wb") as complaints:
            self.process = subprocess.Popen(
                [*wrapper, sys.executable, str(_PROGRAM), how],
                cwd=folder,
                env=clean_environment(**environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
            )

    def at_gate(self) -> None:
        """Wait until it stops at a gate."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "gate\n", (line, self.said)

    def go_on(self) -> None:
        """Let it go on from a gate."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def finish(self) -> None:
        """Wait for its end."""
        assert self.process.stdout is not None
        last = self.process.stdout.readline()
        self.status = self.process.wait()
        left_at = time.monotonic()
        if last:
            self.told = json.loads(last)
            self.held_up = self.told["held_up"] + left_at - self.told["at"]

    @property
    def said(self) -> str:
        """What it complained of."""
        return self._complaints.read_text()

    def end(self) -> None:
        """Leave nothing of it, whatever happened."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


class Stage:
    """Where one scenario is played with one kind of server.

    Attributes
    ----------
    folder
        Where the program runs.
    buffer
        Its buffer.
    server
        The server; not started.
    environment
        That of the program and of commands.
    captured
        What the program counted, where it cannot tell at its end.
    """

    def __init__(self, folder: Path, sink: str) -> None:
        self.sink = sink
        self._place = folder
        self.folder = folder / "run"
        self.folder.mkdir()
        self.buffer = self.folder / "flowprov_buffer"
        self.server = make_server(sink, folder / "server")
        self.environment = {
            "TASKS": "600",
            "FLOWPROV__JOURNAL__HEARTBEAT": "0.2",
            "FLOWPROV__SINKS__STOP_TIMEOUT": "1",
            **self.to(self.server.uri()),
        }
        self.captured: int | None = None
        self._programs: list[Program] = []
        self._to_undo = contextlib.ExitStack()

    def to(self, uri: str) -> dict[str, str]:
        """Name a sink as settings do."""
        return {f"FLOWPROV__SINKS__{self.sink.upper()}__URI": uri}

    def start(
        self, how: str = "alone", *wrapper: str, delivering: bool = True, **environment: str
    ) -> Program:
        """Start the program; one that is not delivering knows of no sink."""
        given = {**self.environment, **environment}
        if not delivering:
            given = {name: value for name, value in given.items() if not name.endswith("__URI")}
        program = Program(self.folder, how, given, *wrapper)
        self._programs.append(program)
        return program

    def run(self, how: str = "alone", *wrapper: str, delivering: bool = True, **environment: str) -> Program:
        """Run the program to its end."""
        program = self.start(how, *wrapper, delivering=delivering, **environment)
        program.finish()
        return program

    def behind(self, *, delay: float = 0.0) -> Proxy:
        """Put a proxy before the server; programs and commands pass through it from now on."""
        proxy = Proxy(self.server)
        proxy.delay = delay
        self._to_undo.callback(proxy.close)
        self.environment.update(self.to(proxy.uri()))
        return proxy

    def protect(self, password: str) -> None:
        """Take a server that lets nobody in without a password."""
        self.server = make_server(self.sink, self._place / "protected", password)

    def undo(self, callback: Callable[[], object]) -> None:
        """Have something done when the scenario is over."""
        self._to_undo.callback(callback)

    def command(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command of flowprov's, as a person would."""
        process = subprocess.Popen(
            [sys.executable, "-m", "flowprov", *arguments],
            cwd=self.folder,
            env=clean_environment(**self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._to_undo.callback(process.wait)
        self._to_undo.callback(process.kill)
        return process

    def ship(self) -> None:
        """Deliver by hand, and have all delivered."""
        with self.command("ship", str(self.buffer)) as process:
            printed, complained = process.communicate()
        assert process.returncode == 0, printed + complained

    def verify(self) -> tuple[int, dict[str, Any]]:
        """Give the exit status of ``flowprov verify`` on the buffer and what it found."""
        with self.command("verify", str(self.buffer), "--json") as process:
            printed, complained = process.communicate()
        assert printed, complained
        return process.returncode, json.loads(printed)

    def await_some_delivered(self) -> None:
        """Wait until the server holds some of the tasks."""
        wait_until(lambda: any(is_task(row.line) for row in self.server.rows()))

    def await_trouble(self) -> None:
        """Wait until the process that delivers has met the fault."""
        wait_until(self._trouble)

    def _trouble(self) -> bool:
        for path in self.buffer.glob(".ship-*.json"):
            with contextlib.suppress(OSError, ValueError):
                report = json.loads(path.read_bytes())
                return any(sink.get("last_error") for sink in report["sinks"].values())
        return False

    def shippers(self) -> list[psutil.Process]:
        """List the processes that deliver by themselves."""
        return [each for each in processes_of(self.folder) if "--handed-over" in each.cmdline()]

    def await_shippers_gone(self) -> None:
        """Wait until nobody delivers any more: all is delivered, or given up."""
        wait_until(lambda: not processes_of(self.folder), 90)

    def outcome(self) -> Outcome:
        """Count what is there, when all is over."""
        left = [" ".join(each.cmdline()) for each in processes_of(self.folder)]
        journals, rows = journal_lines(self.buffer), self.server.rows()
        tasks = [row for row in rows if is_task(row.line)]
        names = {_name_of(row) for row in tasks}
        verify_status, verified = self.verify()
        statuses = [program.status for program in self._programs if program.status is not None]
        told = sum(program.told.get("captured", 0) for program in self._programs)
        return Outcome(
            captured=told if self.captured is None else self.captured,
            in_journal=sum(is_task(row.line) for row in journals),
            delivered=len(names),
            doubled=len(tasks) - len(names),
            astray=_differences(journals, rows),
            held_up=max(program.held_up for program in self._programs),
            status=max(statuses, key=abs),
            right=all(program.told.get("right", False) for program in self._programs),
            verdict=verified["verdict"],
            verify_status=verify_status,
            verified=verified,
            said="".join(program.said for program in self._programs),
            left=left,
        )

    def close(self) -> None:
        """Leave nothing, whatever happened."""
        for program in self._programs:
            program.end()
        for process in processes_of(self.folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.server.kill()
        self._to_undo.close()


def journal_lines(buffer: Path) -> list[Row]:
    """Read what stands in the files of a buffer and is JSON, with nothing of flowprov's."""
    found = []
    for path in sorted(buffer.rglob("*.jsonl")):
        journal = path.stem.partition("-")[2]
        for match in _LINE.finditer(path.read_bytes()):
            line = match[0].rstrip(b"\n")
            if line.strip() and _parsed(line) is not None:
                found.append(Row(journal, match.start(), line))
    return found


def is_task(line: bytes) -> bool:
    """Whether a line is the record of a step that ended."""
    parsed = _parsed(line)
    return parsed is not None and parsed.get("type") == "task"


def processes_of(folder: Path) -> list[psutil.Process]:
    """List the processes that run in a folder or name it."""
    found, text = [], str(folder)
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        about = process.info
        words = [*(about["cmdline"] or []), about["cwd"] or ""]
        if about["status"] != psutil.STATUS_ZOMBIE and any(word.startswith(text) for word in words):
            found.append(process)
    return found


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextlib.contextmanager
def staged(folder: Path, sink: str) -> Iterator[Stage]:
    """Set a stage and clear it."""
    stage = Stage(folder, sink)
    try:
        yield stage
    finally:
        stage.close()


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _name_of(row: Row) -> tuple[str, object]:
    """Give what tells a task from all others: its journal, and its id in it."""
    return row.journal, (_parsed(row.line) or {}).get("task_id")


def _differences(journals: list[Row], rows: list[Row]) -> int:
    """Count lines that only the files hold or only the server.

    In a journal that can grow no more each heartbeat, and the footer at last, is written over the one before:
    the server may still hold such a heartbeat, and it keeps such a footer behind all else.
    """
    differ = _placeless(journals) ^ _placeless(rows)
    overwritten = {row for row in differ - set(journals) if _has_type(row, b"heartbeat")}
    return len(differ - overwritten)


def _placeless(rows: list[Row]) -> set[Row]:
    return {row._replace(position=_LATE_FOOTER) if _has_type(row, b"footer") else row for row in rows}


def _has_type(row: Row, kind: bytes) -> bool:
    return row.line.startswith(b'{"type":"%s"' % kind)
