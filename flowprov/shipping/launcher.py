"""Delivery, as the program that is watched sees it: a process of its own is started, and waited for a little.

Flows in: the sinks of the settings, and journals. Flows out: ``flowprov ship --follow``, one per host and
buffer; and when the program's last workflow closes, a wait of at most ``sinks.stop_timeout`` and one line on
what is left.

The program loads no client of a server and knows none: it looks at the lock and the report of that process.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from flowprov import guard
from flowprov.journal import Journal
from flowprov.journal.format import SUFFIX
from flowprov.journal.summary import last_position
from flowprov.settings import Settings, redact_uri, settings_to_json
from flowprov.shipping.status import Report, ShipperFiles

_LOOK_S = 0.05
_FIRST_PAUSE_S = 1.0  # between two starts; doubled each time, forgotten when one has lived for a while
_LONGEST_PAUSE_S = 600.0
_A_WHILE_S = 60.0
_START_S = 5.0
# The shell's child is nobody's in the program: os.wait() there does not meet it, and it leaves no zombie.
_DETACHED = 'exec 3<&0; "$@" <&3 3<&- &'
_NOT_FOR_IT = ("PYTHONINSPECT", "PYTHONWARNINGS", "PYTHONSTARTUP")
_PIECE = 1 << 20


class ShipperLauncher:
    """Has the journals of a process delivered.

    Parameters
    ----------
    settings
        Those of the process; without a sink in them nothing is done here.
    """

    def __init__(self, settings: Settings) -> None:
        named = (settings.sinks.redis.uri, settings.sinks.mongodb.uri)
        self._uris = [uri for uri in named if uri is not None]
        self._settings = settings
        self._shippers: dict[Path, BufferShipper] = {}
        self._lock = threading.Lock()
        self._unreached: dict[str, dict[str, int]] = {}  # what a sink held when it was waited for in vain
        self._waited_at: dict[str, int] = {}

    def watch(self, journal: Journal, *, last: bool = False) -> None:
        """See that somebody delivers a journal; called from time to time while it is written.

        Parameters
        ----------
        journal
            The journal.
        last
            Nobody in this process will see to it again.
        """
        if self._uris and journal.path is not None:
            self._shipper_of(journal.path).ensure_running(at_once=last)

    def wait_for_delivery(self, journal: Journal, *, last: bool = False) -> None:
        """Wait until what stands in a campaign's journals on this host now is delivered, or time is over.

        A sink that was waited for in vain is waited for again when it has taken something since: a server
        that is away holds a program up once. In a thread that runs an event loop nothing is waited for; the
        wait at the end of the program is enough.

        Parameters
        ----------
        journal
            One of the campaign's.
        last
            At the end of the program: nothing is done if nothing came since the last time, and what is left
            is said even if it was said before.
        """
        path = journal.path
        if not self._uris or path is None or (_in_event_loop() and not last):
            return
        captured = journal.counts()[0]
        if last and captured == self._waited_at.get(journal.journal_id):
            return  # since the last workflow closed nothing was added but the footer
        self._waited_at[journal.journal_id] = captured
        desk = self._shipper_of(path)
        desk.ensure_running()
        wanted = _ends(path.parent)
        said, report = self._unreached, desk.report()
        hopeful = [uri for uri in self._uris if uri not in said or said[uri] != _held_by(report, uri)]
        self._wait(desk, wanted, hopeful)
        report = desk.report()
        owed = {uri: left for uri in self._uris if (left := _owed_by(report, uri, wanted))}
        self._unreached = {uri: _held_by(report, uri) for uri in owed}
        if owed and (last or not owed.keys() <= said.keys()):
            self._warn_waiting(desk.folder, report, {uri: _count(left) for uri, left in owed.items()})

    def _wait(self, desk: BufferShipper, wanted: dict[Path, int], uris: list[str]) -> None:
        """Wait until some sinks hold all, or time is over, or delivery could not even begin."""
        deadline = time.monotonic() + self._settings.sinks.stop_timeout
        while time.monotonic() < deadline:
            report = desk.report()
            if report is not None and report.failure is not None:
                return
            if not any(_owed_by(report, uri, wanted) for uri in uris):
                return
            time.sleep(_LOOK_S)
            desk.ensure_running()

    def _warn_waiting(self, folder: Path, report: Report | None, owed: dict[str, int]) -> None:
        guard.logger.warning(
            "flowprov: records wait for delivery: %s. They are safe in %s. Delivery goes on in the "
            "background; what it leaves is delivered by: %s",
            ", ".join(f"{count:,} to {redact_uri(uri)}{_why(report, uri)}" for uri, count in owed.items()),
            folder,
            _command(folder, list(owed)),
        )

    def _shipper_of(self, journal: Path) -> BufferShipper:
        folder = journal.parent.parent.parent  # buffer/campaign/host/journal
        with self._lock:
            if folder not in self._shippers:
                self._shippers[folder] = BufferShipper(folder, self._uris, self._settings)
            return self._shippers[folder]


class BufferShipper:
    """Where the delivery of one buffer is seen to."""

    def __init__(self, folder: Path, uris: list[str], settings: Settings) -> None:
        self.folder = folder
        self._files = ShipperFiles(folder, uris)
        self._settings = settings
        self._lock = threading.Lock()
        self._pause = _FIRST_PAUSE_S
        self._started = self._not_before = -math.inf

    def report(self) -> Report | None:
        """Return the latest report of the process that delivers, None if there is none."""
        return self._files.read_report()

    def ensure_running(self, *, at_once: bool = False) -> None:
        """Start a process that delivers where there is none; ever less often if none stays."""
        with self._lock:
            now = time.monotonic()
            try:
                if now < self._not_before and not at_once:
                    return
                lock = self._files.take_lock()
                if lock is None:
                    if now - self._started > _A_WHILE_S:
                        self._pause = _FIRST_PAUSE_S
                    return
                with lock:
                    self._started, self._not_before = now, now + self._pause
                    self._pause = min(self._pause * 2, _LONGEST_PAUSE_S)
                    self._start(lock.fileno())
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                self._not_before = time.monotonic() + _LONGEST_PAUSE_S
                guard.warn_once(
                    f"shipper {self.folder}",
                    "flowprov cannot start the process that delivers %s (%s). Records are safe there; they "
                    "are delivered by: %s",
                    self.folder,
                    error,
                    _command(self.folder, []),
                )

    def _start(self, lock: int) -> None:
        """Start it; the lock becomes its own, so that there is no moment at which two could begin."""
        if not sys.executable:
            raise ValueError("sys.executable does not name the Python to start")
        self._files.forget_report()
        command = [sys.executable, "-m", "flowprov", "ship", "--follow", "--handed-over", str(lock)]
        with self._files.log.open("ab") as log:
            # From / no module of the program's shadows one that it needs, and no folder is kept busy.
            process = subprocess.Popen(  # noqa: S603 - our own command
                ["/bin/sh", "-c", _DETACHED, "flowprov-ship", *command, str(self.folder)],
                pass_fds=[lock],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                start_new_session=True,  # Ctrl-C at a terminal is meant for the program
            )
        # Through a pipe: arguments can be seen by everybody, and URIs may hold passwords.
        process.communicate(settings_to_json(self._settings), timeout=_START_S)


def _environment() -> dict[str, str]:
    """Give the environment of the program, such that the same flowprov is found from another folder."""
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_IT}
    paths = [
        str(Path(each).absolute()) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each
    ]
    home = Path(__file__).absolute().parent.parent
    if home.name not in ("site-packages", "dist-packages"):  # there, it is found anyhow
        paths.append(str(home))
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)} if paths else environment


def _ends(folder: Path) -> dict[Path, int]:
    """Give the position of the last record of each journal of a campaign on this host."""
    found = {}
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):  # that of another user, or on a disk that fails
            if position := last_position(path):
                found[path] = position
    return found


def _held_by(report: Report | None, uri: str) -> dict[str, int]:
    progress = None if report is None else report.sinks.get(redact_uri(uri))
    return {} if progress is None else progress.held


def _why(report: Report | None, uri: str) -> str:
    if report is None:
        return " (the process that delivers has not reported yet)"
    progress = report.sinks.get(redact_uri(uri))
    trouble = report.failure or (progress.last_error if progress else None) or ""
    return f" ({trouble.removeprefix(redact_uri(uri)).lstrip()})" if trouble else ""


def _owed_by(report: Report | None, uri: str, wanted: dict[Path, int]) -> dict[Path, tuple[int, int]]:
    """Give the journals of which a sink does not hold all, with the stretch that it does not hold."""
    held = _held_by(report, uri)
    return {
        path: (held.get(path.name, -1), position)
        for path, position in wanted.items()
        if held.get(path.name, -1) < position
    }


def _count(owed: dict[Path, tuple[int, int]]) -> int:
    """Count the lines of stretches of journals: behind the first position, up to the second."""
    return sum(_lines_between(path, *stretch) for path, stretch in owed.items())


def _lines_between(path: Path, after: int, until: int) -> int:
    count, position, before = 0, max(after, 0), b"\n"
    with path.open("rb") as file:
        file.seek(position)
        while position <= until and (piece := file.read(min(_PIECE, until + 1 - position))):
            # A record begins with a brace on a new line.
            count += (before + piece).count(b"\n{")
            before, position = piece[-1:], position + len(piece)
    return count - (after >= 0)


def _in_event_loop() -> bool:
    """Whether waiting would hold up an event loop; that of a notebook waits for its cell anyhow."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or "ipykernel" in sys.modules:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _command(folder: Path, uris: list[str]) -> str:
    """Write the command that delivers a buffer by hand; it names no sink whose address holds a secret."""
    shown = [f"--to {uri}" for uri in uris if redact_uri(uri) == uri]
    return " ".join(["flowprov ship", str(folder), *(shown if len(shown) == len(uris) else [])])
