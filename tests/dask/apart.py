"""Dask workers with folders of their own, as on machines that share no file system."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster

from flowprov import records
from flowprov.journal.format import find_journals
from flowprov.read.verify import JournalCheck, Verification, verify
from tests.dask.support import wait_until
from tests.support import clean_environment, lines_of


class Apart:
    """A scheduler in this process' cluster, and workers that were started by hand.

    Parameters
    ----------
    folder
        Where the folders of the workers are made.
    host
        The address on which the scheduler listens.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._cluster = LocalCluster(n_workers=0, dashboard_address=":0", host=host)
        self.client = Client(self._cluster)

    @property
    def address(self) -> str:
        """Where the scheduler is."""
        return str(self._cluster.scheduler_address)

    def start(self, name: str, *, buffer: str | None = None, prefix: tuple[str, ...] = (), **env: str) -> str:
        """Start a worker with a folder of its own; gives its address.

        Parameters
        ----------
        name
            Its name, and that of its folder.
        buffer
            Its journal folder; by default one that its own folder has.
        prefix
            A command that runs it.
        """
        place = self.folder / name
        place.mkdir()
        command = [sys.executable, "-m", "distributed.cli.dask_worker", self.address, "--name", name]
        options = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(place)]
        settings = {"FLOWPROV__JOURNAL__PATH": buffer or str(place / "buffer"), **env}
        with (place / "log").open("wb") as log:
            self.workers[name] = subprocess.Popen(
                [*prefix, *command, *options],
                cwd=place,
                env=clean_environment(**settings),
                stdout=log,
                stderr=log,
            )
        return str(wait_until(lambda: self.addresses().get(name)))

    def addresses(self) -> dict[str, str]:
        """Give the addresses of the workers that are there, by name."""
        scheduler: Any = self._cluster.scheduler
        return {str(state.name): address for address, state in scheduler.workers.items()}

    def log(self, name: str) -> str:
        """Give what a worker said."""
        return (self.folder / name / "log").read_text()

    def kill(self, name: str) -> None:
        """Kill a worker, and wait until the scheduler knows."""
        worker = self.workers.pop(name)
        worker.kill()
        worker.wait()
        wait_until(lambda: name not in self.addresses())

    def close(self) -> None:
        """Stop everything."""
        for worker in self.workers.values():
            worker.terminate()
        self.client.close()
        self._cluster.close()
        for worker in self.workers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(10)
            worker.kill()
            worker.wait()


@contextlib.contextmanager
def apart(folder: Path, host: str = "127.0.0.1") -> Iterator[Apart]:
    """Start a cluster without workers."""
    made = Apart(folder, host)
    try:
        yield made
    finally:
        made.close()


def verified(buffer: Path, campaign_id: str | None = None) -> Verification:
    """Verify what others wrote: the journal of this process is open as long as the tests run."""
    return verify(buffer, campaign_id=campaign_id)


def check_of(buffer: Path, path: Path) -> JournalCheck:
    """Verify one journal."""
    return next(check for check in verified(buffer).journals if check.report.path == path)


def copies(buffer: Path) -> list[Path]:
    """List the journals in a buffer that are not of this process."""
    return [path for path in find_journals(buffer) if not path.name.startswith(f"{os.getpid()}-")]


def has_footer(path: Path) -> bool:
    """Whether a journal says that it is complete."""
    return any(isinstance(record, records.Footer) for record in lines_of(path))


def original_of(copy: Path, folder: Path) -> Path:
    """Find the journal of which a file is a copy."""
    found: list[Any] = list(folder.rglob(copy.name))
    assert len(found) == 1, found
    return Path(found[0])
