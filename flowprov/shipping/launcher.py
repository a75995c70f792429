"""The program's side of delivery: it starts the shipper, and waits for it a little.

Flows in: the sinks of the settings, and journals. Flows out: the shipper, ``flowprov ship --follow``, one per
host and buffer. When the program's last workflow closes, it waits at most ``sinks.stop_timeout`` for the
delivery, and logs one warning if records still wait.

The program loads no client library of a server. It reads the lock and the report of the shipper.
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

_POLL_S = 0.05
_FIRST_PAUSE_S = 1.0  # between two starts; doubled each time, and reset when a shipper has run steadily
_MAX_PAUSE_S = 600.0
_STEADY_AFTER_S = 60.0
_START_TIMEOUT_S = 5.0
# The shell's child is no child of the program: os.wait() there does not return it, and it leaves no zombie.
_DETACHED = 'exec {0}<&0; "$@" <&{0} {0}<&- &'
_REMOVED_VARIABLES = ("PYTHONINSPECT", "PYTHONWARNINGS", "PYTHONSTARTUP")
_BLOCK_SIZE = 1 << 20


class ShipperLauncher:
    """Starts the shippers that deliver the journals of this process, and waits for them.

    Parameters
    ----------
    settings
        The settings of the process; without a sink in them this class does nothing.
    """

    def __init__(self, settings: Settings) -> None:
        configured = (settings.sinks.redis.uri, settings.sinks.mongodb.uri)
        self._uris = [uri for uri in configured if uri is not None]  # for whose delivery a program waits
        followed = settings.sinks.mlflow.uri
        self._all_uris = [*self._uris, *([] if followed is None else [followed])]
        self._settings = settings
        self._shippers: dict[Path, BufferShipper] = {}
        self._lock = threading.RLock()
        # For each sink that was waited for in vain, the positions that it held then.
        self._unreached: dict[str, dict[str, int]] = {}
        self._waited_at: dict[str, int] = {}

    def watch(self, journal: Journal, *, last: bool = False) -> None:
        """Ensure that a shipper delivers a journal; called from time to time while it is written.

        Parameters
        ----------
        journal
            The journal.
        last
            Whether this is the last call for this journal in this process.
        """
        if self._all_uris and journal.path is not None:
            self._shipper_of(journal.path).ensure_running(at_once=last)

    def wait_for_delivery(self, journal: Journal, *, last: bool = False) -> None:
        """Wait until all records in a campaign's journals on this host are delivered, or the time is over.

        A server that is away holds a program up once: a sink that was waited for in vain is waited for again
        only if it has taken records since. A thread that runs an event loop does not wait, as the wait at the
        end of the program is enough.

        Parameters
        ----------
        journal
            A journal of the campaign.
        last
            Whether this is the end of the program. Then the call does nothing if nothing was recorded since
            the last wait, and warns about waiting records even if an earlier call did.
        """
        path = journal.path
        if not self._uris or path is None or (_in_event_loop() and not last):
            return
        captured = journal.counts()[0]
        if last and captured == self._waited_at.get(journal.journal_id):
            return  # since the last workflow closed, only the footer was added
        self._waited_at[journal.journal_id] = captured
        shipper = self._shipper_of(path)
        shipper.ensure_running()
        ends = _ends(path.parent)
        before, report = self._unreached, shipper.report()
        reachable = [
            uri for uri in self._uris if uri not in before or before[uri] != _positions_held(report, uri)
        ]
        self._wait_for(shipper, ends, reachable)
        report = shipper.report()
        waiting = {uri: left for uri in self._uris if (left := _undelivered(report, uri, ends))}
        self._unreached = {uri: _positions_held(report, uri) for uri in waiting}
        if waiting and (last or not waiting.keys() <= before.keys()):
            counts = {uri: _count_lines(left) for uri, left in waiting.items()}
            self._warn_waiting(shipper.folder, report, counts)

    def _wait_for(self, shipper: BufferShipper, ends: dict[Path, int], uris: list[str]) -> None:
        """Wait until the sinks hold all records, the time is over, or the shipper could not begin."""
        deadline = time.monotonic() + self._settings.sinks.stop_timeout
        while time.monotonic() < deadline:
            report = shipper.report()
            if report is not None and report.failure is not None:
                return
            if not any(_undelivered(report, uri, ends) for uri in uris):
                return
            time.sleep(_POLL_S)
            shipper.ensure_running()

    def _warn_waiting(self, folder: Path, report: Report | None, waiting: dict[str, int]) -> None:
        guard.logger.warning(
            "flowprov: records wait for delivery: %s. They are safe in %s. Delivery goes on in the "
            "background. This command delivers what still waits later: %s",
            ", ".join(
                f"{count:,} to {redact_uri(uri)}{_cause(report, uri)}" for uri, count in waiting.items()
            ),
            folder,
            _command(folder, list(waiting)),
        )

    def _shipper_of(self, journal: Path) -> BufferShipper:
        folder = journal.parent.parent.parent  # buffer/campaign/host/journal
        with self._lock:
            if folder not in self._shippers:
                self._shippers[folder] = BufferShipper(folder, self._all_uris, self._settings)
            return self._shippers[folder]


class BufferShipper:
    """Starts the shipper of one buffer, and reads its report."""

    def __init__(self, folder: Path, uris: list[str], settings: Settings) -> None:
        self.folder = folder
        self._files = ShipperFiles(folder, uris, settings.journal.file_mode)
        self._settings = settings
        self._lock = threading.RLock()
        self._pause = _FIRST_PAUSE_S
        self._started = self._not_before = -math.inf

    def report(self) -> Report | None:
        """Return the latest report of the shipper; None if there is none."""
        return self._files.read_report()

    def ensure_running(self, *, at_once: bool = False) -> None:
        """Start a shipper if none runs; if shippers keep ending, start them less and less often."""
        with self._lock:
            now = time.monotonic()
            try:
                if now < self._not_before and not at_once:
                    return
                lock = self._files.take_lock()
                if lock is None:
                    if now - self._started > _STEADY_AFTER_S:
                        self._pause = _FIRST_PAUSE_S
                    return
                with lock:
                    self._started, self._not_before = now, now + self._pause
                    self._pause = min(self._pause * 2, _MAX_PAUSE_S)
                    self._start(lock.fileno())
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                self._not_before = time.monotonic() + _MAX_PAUSE_S
                guard.warn_once(
                    f"shipper {self.folder}",
                    "flowprov cannot start the process that delivers %s (%s). Records are safe there. This "
                    "command delivers them: %s",
                    self.folder,
                    error,
                    _command(self.folder, []),
                )

    def _start(self, lock: int) -> None:
        """Start the shipper; it inherits the lock, so that no second one can begin in between."""
        if not sys.executable:
            raise ValueError("sys.executable does not name the Python to start")
        self._files.delete_report()
        command = [sys.executable, "-m", "flowprov", "ship", "--follow", "--handed-over", str(lock)]
        detached = _DETACHED.format(3 if lock != 3 else 4)  # the lock keeps its number
        with self._files.open_log() as log:
            # In / no module of the program shadows one that the shipper needs, and no folder is kept busy.
            process = subprocess.Popen(  # noqa: S603 - our own command
                ["/bin/sh", "-c", detached, "flowprov-ship", *command, str(self.folder)],
                pass_fds=[lock],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                env=_environment(),
                start_new_session=True,  # Ctrl-C at a terminal must not stop the shipper
            )
        # Through a pipe: all users of the machine can see arguments, and URIs may hold passwords.
        process.communicate(settings_to_json(self._settings), timeout=_START_TIMEOUT_S)


def _environment() -> dict[str, str]:
    """Return the program's environment, changed so that another folder imports the same flowprov."""
    environment = {name: value for name, value in os.environ.items() if name not in _REMOVED_VARIABLES}
    paths = [
        str(Path(path).absolute()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path
    ]
    installed_in = Path(__file__).absolute().parent.parent
    if installed_in.name not in ("site-packages", "dist-packages"):  # those are on the path anyway
        paths.append(str(installed_in))
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)} if paths else environment


def _ends(folder: Path) -> dict[Path, int]:
    """Return the position of the last record of each journal of a campaign on this host."""
    ends = {}
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):  # the journal of another user, or a disk that fails
            if position := last_position(path):
                ends[path] = position
    return ends


def _positions_held(report: Report | None, uri: str) -> dict[str, int]:
    """Return the position of the last line that a sink holds of each journal, by the name of its file."""
    progress = None if report is None else report.sinks.get(redact_uri(uri))
    return {} if progress is None else progress.held


def _cause(report: Report | None, uri: str) -> str:
    if report is None:
        return " (the process that delivers has not reported yet)"
    progress = report.sinks.get(redact_uri(uri))
    error = report.failure or (progress.last_error if progress else None) or ""
    return f" ({error.removeprefix(redact_uri(uri)).lstrip()})" if error else ""


def _undelivered(report: Report | None, uri: str, ends: dict[Path, int]) -> dict[Path, tuple[int, int]]:
    """Return the journals that a sink does not hold in full, each with the last position held and the end."""
    positions = _positions_held(report, uri)
    return {
        path: (positions.get(path.name, -1), end)
        for path, end in ends.items()
        if positions.get(path.name, -1) < end
    }


def _count_lines(stretches: dict[Path, tuple[int, int]]) -> int:
    """Count the lines of stretches of journals, each behind its first position and up to its second."""
    return sum(_lines_between(path, *stretch) for path, stretch in stretches.items())


def _lines_between(path: Path, after: int, until: int) -> int:
    count, position, last_byte = 0, max(after, 0), b"\n"
    with path.open("rb") as file:
        file.seek(position)
        while position <= until and (block := file.read(min(_BLOCK_SIZE, until + 1 - position))):
            # A record begins with a brace on a new line.
            count += (last_byte + block).count(b"\n{")
            last_byte, position = block[-1:], position + len(block)
    return count - (after >= 0)


def _in_event_loop() -> bool:
    """Whether waiting would hold up an event loop; that of a notebook waits for its cell anyway."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or "ipykernel" in sys.modules:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _command(folder: Path, uris: list[str]) -> str:
    """Return the command that delivers a buffer by hand; it names no sink if an address holds a secret."""
    options = [f"--to {uri}" for uri in uris if redact_uri(uri) == uri]
    return " ".join(["flowprov ship", str(folder), *(options if len(options) == len(uris) else [])])
