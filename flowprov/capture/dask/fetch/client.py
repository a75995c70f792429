"""The client's side of gathering: it fetches the journals of workers that do not see its buffer.

Flows in: an open workflow and its Dask client. Flows out: copies of those journals in the client's buffer, at
``campaign/host/`` as everywhere, and one line that says what is missing when the workflow closes.

Every journal stays a file of its own, in one folder per host: a record is known, to readers and to sinks, by
its journal and its position there, and a copy keeps both. What is sent is gathered: one question for each
machine fetches what is new in all journals of all workers there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowprov import guard
from flowprov.capture.dask import origin
from flowprov.capture.dask.fetch.protocol import FetchRequest, FetchResponse
from flowprov.capture.dask.fetch.rpc import NoAnswerError, WorkerRPC
from flowprov.journal.format import SUFFIX, folder_name
from flowprov.journal.liveness import expect_writer_until, is_writer_expected
from flowprov.journal.replica import Chunk, ReplicaState, append_chunks, replica_state
from flowprov.runtime import runtime

_NAME = re.compile(r"\d+-[0-9a-f]+" + re.escape(SUFFIX))
_MISSED = 3  # collections that may fail before a writer of which nothing was heard counts as gone
_SHORTEST_S = 30.0  # the least time for which it counts as there
_FIRST_S = 1.0
_STRANGERS_ASKED = 3  # times that a worker is asked which does not know us
_SHOWN = 4
_PATIENCE = 2.0  # seconds for what is under way when the time of the last collection is over
_SHARE = 0.75  # of the time that is left is for one machine


class JournalFetcher:
    """What one workflow's client knows of the journals of its workers, and how it gets them.

    Parameters
    ----------
    client
        A ``distributed.Client``.
    given
        The workflow, as its workers are told of it.
    interval
        Seconds between two collections.

    Attributes
    ----------
    missing
        What the last collection could not bring, one phrase each.
    """

    def __init__(self, client: Any, given: origin.TaskContext, interval: float) -> None:
        self.missing: list[str] = []
        self._connection = WorkerRPC(client)
        self._origin = given
        self._folder = Path(str(given.buffer)) / folder_name(given.campaign_id)
        self._interval = interval
        self._shared_workers: set[str] = set()  # workers that record into our buffer
        self._without_plugin: dict[str, int] = {}
        self._remote_workers: dict[str, FetchResponse] = {}  # workers that do not
        self._open: dict[str, str] = {}  # journals that are written still: the place they are fetched from
        self._stopping = threading.Event()

    # -- while a workflow is open -------------------------------------------------------------------------

    def run(self, close_timeout: float) -> None:
        """Collect from time to time until told to stop, then once more: the life of our thread."""
        # Not at once: the plugin is on its way to the workers, which complain of questions they do not know.
        self._stopping.wait(min(self._interval, _FIRST_S))
        while not self._stopping.is_set():
            self.collect(time.monotonic() + max(self._interval, 10.0))
            self._stopping.wait(self._interval)
        self._connection.resume()
        self.finish(close_timeout)

    def stop(self) -> None:
        """Have :meth:`run` come to its end; returns at once."""
        self._stopping.set()
        self._connection.interrupt()

    def finish(self, timeout: float) -> None:
        """Collect for the last time, and say what is missing."""
        with guard.guarded("gathering the journals of Dask workers"):
            self.collect(time.monotonic() + timeout, last=True)
            if self.missing:
                self._warn_missing()

    def _warn_missing(self) -> None:
        more = f"; and {len(self.missing) - _SHOWN} more" if len(self.missing) > _SHOWN else ""
        guard.logger.warning(
            "flowprov: not all records of Dask workers are in %s: %s%s. They are safe where they are. "
            "flowprov.capture.dask.collect(client, campaign_id=%r) fetches them as long as the workers are "
            "there; later, copy the folders named here into that one.",
            self._folder,
            "; ".join(self.missing[:_SHOWN]),
            more,
            self._origin.campaign_id,
        )

    # -- one collection -----------------------------------------------------------------------------------

    def collect(self, deadline: float, *, last: bool = False) -> None:
        """Fetch what is new; never raises.

        Parameters
        ----------
        deadline
            When to be done, by the monotonic clock.
        last
            The workflow has ended: have the journals closed, and notice what is missing.
        """
        self.missing = []
        try:
            self._collect(deadline, last=last)
        except NoAnswerError as error:
            self.missing = [f"{self._where(each)} ({error})" for each in self._remote_workers]
            if last and not self._remote_workers and not self._others():
                self.missing = [f"no worker could be asked ({error})"]
        except Exception as error:  # the guard: the program goes on
            guard.report_internal_error("gathering the journals of Dask workers", error)
            self.missing = [f"{self._where(each)} (a fault of ours)" for each in self._remote_workers]

    def _collect(self, deadline: float, *, last: bool) -> None:
        addresses = self._connection.workers(deadline)
        asked = [
            address
            for address in addresses
            if address not in self._shared_workers
            and (last or self._without_plugin.get(address, 0) < _STRANGERS_ASKED)
        ]
        answers = self._connection.ask_all(asked, self._request(close=last), deadline)
        reached: dict[str, list[str]] = {}
        silent = asked if last else self._remote_workers
        self.missing += [
            f"{self._where(each)} (no answer)" for each in asked if each in silent and each not in answers
        ]
        for address, answer in answers.items():
            if answer is None:
                self._without_plugin[address] = self._without_plugin.get(address, 0) + 1
                if address in self._remote_workers:
                    self.missing.append(f"{self._where(address)} (a fault of ours there)")
            elif answer.folders:
                self._remote_workers[address] = answer
                reached.setdefault(answer.machine_key, []).append(address)
                if last and answer.running:
                    self.missing.append(f"{self._where(address)} ({answer.running} still open)")
            elif answer.sees:
                self._shared_workers.add(address)
        for workers in reached.values():
            self._fetch(workers, deadline, last=last)
        self._forget_departed(addresses, reached)
        if last:
            self._create_placeholders(addresses, deadline)

    def _others(self) -> bool:
        """Whether somebody else recorded into our folder, as workers that see it do."""
        own = Path(str(self._origin.nonce)).name
        return any(path.name != own for path in self._folder.glob(f"*/*{SUFFIX}"))

    def _request(self, *, close: bool = False, held: dict[str, ReplicaState] | None = None) -> FetchRequest:
        given = self._origin
        return FetchRequest(
            given.campaign_id, str(given.buffer), given.nonce, given.workflow_id, close=close, held=held
        )

    def _fetch(self, workers: list[str], deadline: float, *, last: bool) -> None:
        """Fetch what is new on a machine from one of its workers, or from the next if that fails."""
        trouble: object = "no answer"
        for address in workers:
            now = time.monotonic()
            try:
                # A machine that hangs leaves time for the others.
                self._fetch_from(address, now + (deadline - now) * _SHARE, last=last)
            except (NoAnswerError, OSError) as error:
                trouble = error
            else:
                return
        self.missing.append(f"{self._where(workers[0])} ({trouble})")

    def _fetch_from(self, address: str, deadline: float, *, last: bool) -> None:
        first = self._remote_workers[address]
        before, held = None, self._replica_states(first.hosts)
        while held != before:  # what does not grow is written by somebody else
            if self._stopping.is_set() and not last:
                return
            if time.monotonic() > deadline:
                raise NoAnswerError("time is over")
            answer = self._connection.ask(address, self._request(held=held), deadline)
            self._store(answer)
            if not answer.more:
                return
            before, held = held, self._replica_states(first.hosts)

    def _replica_states(self, hosts: list[str]) -> dict[str, ReplicaState]:
        """Say what is here of the journals of some hosts."""
        held: dict[str, ReplicaState] = {}
        for host in hosts:
            for path in (self._folder / folder_name(host)).glob(f"*{SUFFIX}"):
                with contextlib.suppress(OSError):  # of another user: it cannot be a copy of ours
                    held[f"{host}/{path.name}"] = replica_state(path)
        return held

    def _store(self, answer: FetchResponse) -> None:
        """Add what arrived to the copies, and say of each whether more of it will come."""
        for name, piece in answer.chunks:
            path = self._path(name)
            if path is not None:
                append_chunks(path, [piece], self._awaited(answer.states.get(name)))
        for name, state in answer.states.items():
            path = self._path(name)
            if path is None or not (state == "open" or is_writer_expected(path)):
                continue
            self._open.pop(name, None)
            if state == "open":
                self._open[name] = answer.machine_key
            with contextlib.suppress(OSError):  # gone, or nothing of it came yet
                expect_writer_until(path, self._awaited(state))

    def _awaited(self, state: str | None) -> float:
        return max(_MISSED * self._interval, _SHORTEST_S) if state == "open" else 0.0

    def _create_placeholders(self, present: list[str], deadline: float) -> None:
        """Begin a copy of each journal of which nothing came, so that whoever verifies the run misses it."""
        for told in self._connection.announcements(deadline):
            path = self._path(told.name) if told.campaign_id == self._origin.campaign_id else None
            if path is None or path.exists():
                continue
            append_chunks(
                path, [Chunk(0, told.header)], self._awaited("open" if told.worker in present else "gone")
            )
            if told.worker not in self._remote_workers:
                self.missing.append(
                    f"worker {told.worker} on {told.hostname}, in {told.folder} (nothing came)"
                )

    def _where(self, address: str) -> str:
        known = self._remote_workers.get(address)
        where = "" if known is None else f" on {known.hostname}, in {', '.join(known.folders)}"
        return f"worker {address}{where}"

    def _path(self, name: str) -> Path | None:
        """Say where a copy stands; None for what cannot be the name of a journal."""
        host, _, file = name.partition("/")
        return self._folder / folder_name(host) / file if _NAME.fullmatch(file) else None

    def _forget_departed(self, present: list[str], reached: dict[str, list[str]]) -> None:
        """Take notice of workers that are gone, and of machines on which nobody is left to ask."""
        for address in self._remote_workers.keys() - set(present):
            answer = self._remote_workers[address]
            if answer.machine_key in reached:  # another worker there handed over what it left
                del self._remote_workers[address]
            else:
                self.missing.append(f"{self._where(address)} (the worker is gone)")
        alive = {
            self._remote_workers[address].machine_key
            for address in self._remote_workers.keys() & set(present)
        }
        for name, place in list(self._open.items()):
            if place not in alive and (path := self._path(name)) is not None:
                del self._open[name]
                with contextlib.suppress(OSError):  # gone
                    expect_writer_until(path, 0)


@contextlib.contextmanager
def fetching(client: Any, given: origin.TaskContext) -> Iterator[None]:
    """Gather while a workflow is open, and wait for the last of it a little when that closes.

    With an asynchronous client, in whose event loop the workflow closes, nothing is waited for: that goes on
    in the background. ``await flowprov.capture.dask.collect(client)`` waits.
    """
    settings = runtime.get().settings.dask
    if given.buffer is None or given.nonce is None or _shares_our_process(client):
        yield
        return
    gathered = JournalFetcher(client, given, settings.collect_interval)
    thread = threading.Thread(
        target=gathered.run, args=(settings.close_timeout,), name="flowprov-gathering", daemon=True
    )
    process = os.getpid()
    _ending[:] = [each for each in _ending if each[1].is_alive()]
    with guard.guarded("starting to gather the journals of Dask workers"):
        thread.start()
    try:
        yield
    finally:
        if os.getpid() == process:
            gathered.stop()
            if client.asynchronous:
                _ending.append((client, thread))
            elif thread.ident is not None:
                thread.join(settings.close_timeout + _PATIENCE)


# Of asynchronous clients: what goes on in the background after a workflow closed.
_ending: list[tuple[Any, threading.Thread]] = []


def _shares_our_process(client: Any) -> bool:
    return str(getattr(getattr(client, "scheduler", None), "address", "")).startswith("inproc:")


def collect(client: Any, *, campaign_id: str | None = None, timeout: float = 60.0) -> Any:
    """Fetch the journals of workers that do not see the buffer of this process.

    ``flowprov.workflow(dask_client=...)`` does it by itself, while it is open and when it closes. This is for
    what was left then, and for asynchronous programs: ``await`` it before the client is closed.

    Parameters
    ----------
    client
        A ``distributed.Client``. With an asynchronous one the result is awaited.
    campaign_id
        The campaign; by default that of this process.
    timeout
        Seconds that it may take.

    Returns
    -------
    list of str
        What is missing, one phrase each; empty if all is here.
    """
    if getattr(client, "asynchronous", False):
        return asyncio.get_running_loop().run_in_executor(None, _collect, client, campaign_id, timeout)
    return _collect(client, campaign_id, timeout)


def _collect(client: Any, campaign_id: str | None, timeout: float) -> list[str]:
    deadline = time.monotonic() + timeout
    for _, thread in [each for each in _ending if each[0] is client]:
        thread.join(max(0.0, deadline - time.monotonic()))
    held = runtime.get()
    campaign = campaign_id or held.campaign_id()
    written = [journal.path for journal in held.journals() if journal.identity.campaign_id == campaign]
    buffer = next((path.parents[2] for path in written if path), Path(held.settings.journal.path))
    buffer.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".dask-", dir=buffer) as nonce:
        given = origin.TaskContext(campaign, "", buffer=str(buffer), nonce=Path(nonce.name).name)
        gathered = JournalFetcher(client, given, held.settings.dask.collect_interval)
        gathered.collect(deadline, last=True)
    return gathered.missing
