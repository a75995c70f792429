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
from tests.support import clean_environment, lines_of, wait_until


class RemoteCluster:
    """A scheduler in this process, and workers that are started one by one.

    Parameters
    ----------
    folder
        The folder that holds those of the workers.
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
        """Address of the scheduler."""
        return str(self._cluster.scheduler_address)

    def start(self, name: str, *, buffer: str | None = None, prefix: tuple[str, ...] = (), **env: str) -> str:
        """Start a worker with a folder of its own; return its address.

        Parameters
        ----------
        name
            Name of the worker and of its folder.
        buffer
            Its buffer folder; by default one in its own folder.
        prefix
            A command that runs the worker's command.
        """
        home = self.folder / name
        home.mkdir()
        command = [sys.executable, "-m", "distributed.cli.dask_worker", self.address, "--name", name]
        options = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(home)]
        settings = {"FLOWPROV__JOURNAL__PATH": buffer or str(home / "buffer"), **env}
        with (home / "log").open("wb") as log:
            self.workers[name] = subprocess.Popen(
                [*prefix, *command, *options],
                cwd=home,
                env=clean_environment(**settings),
                stdout=log,
                stderr=log,
            )
        return str(wait_until(lambda: self.addresses().get(name)))

    def addresses(self) -> dict[str, str]:
        """Return the addresses of the connected workers, by name."""
        scheduler: Any = self._cluster.scheduler
        return {str(state.name): address for address, state in scheduler.workers.items()}

    def log(self, name: str) -> str:
        """Return the log of a worker."""
        return (self.folder / name / "log").read_text()

    def kill(self, name: str) -> None:
        """Kill a worker, and wait until the scheduler has noticed."""
        worker = self.workers.pop(name)
        worker.kill()
        worker.wait()
        wait_until(lambda: name not in self.addresses())

    def close(self) -> None:
        """Stop the workers, the client and the scheduler."""
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
def remote_cluster(folder: Path, host: str = "127.0.0.1") -> Iterator[RemoteCluster]:
    """Start a cluster without workers."""
    cluster = RemoteCluster(folder, host)
    try:
        yield cluster
    finally:
        cluster.close()


def verified(buffer: Path, campaign_id: str | None = None) -> Verification:
    """Verify a buffer."""
    return verify(buffer, campaign_id=campaign_id)


def check_of(buffer: Path, path: Path) -> JournalCheck:
    """Verify one journal."""
    return next(check for check in verified(buffer).journals if check.report.path == path)


def replicas(buffer: Path) -> list[Path]:
    """List the journals in a buffer that other processes wrote."""
    return [path for path in find_journals(buffer) if not path.name.startswith(f"{os.getpid()}-")]


def has_footer(path: Path) -> bool:
    """Whether a journal has a footer: it is complete."""
    return any(isinstance(record, records.Footer) for record in lines_of(path))


def original_of(replica: Path, folder: Path) -> Path:
    """Return the journal of which a file is the replica."""
    originals: list[Any] = list(folder.rglob(replica.name))
    assert len(originals) == 1, originals
    return Path(originals[0])
