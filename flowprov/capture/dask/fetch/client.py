"""The client's side of fetching: it gets the journals of workers that do not see its buffer.

Flows in: an open workflow and its Dask client. Flows out: replicas of those journals in the client's buffer,
at ``campaign/host/`` as everywhere, and one warning that names what is missing when the workflow closes.

Each journal stays a file of its own, in one folder per host. Readers and sinks know a record by its journal
and its position there, and a replica keeps both. One request per machine fetches what is new in all journals
of all workers there.
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
from flowprov.capture.dask import _dask_private, origin
from flowprov.capture.dask.fetch.protocol import FetchRequest, FetchResponse, SilentNotice
from flowprov.capture.dask.fetch.rpc import NoResponseError, WorkerRPC
from flowprov.capture.dask.participants import Participants
from flowprov.journal.folders import create_folder
from flowprov.journal.format import SUFFIX, folder_name
from flowprov.journal.liveness import expect_writer_until, is_writer_expected
from flowprov.journal.replica import Chunk, ReplicaState, append_chunks, begins_journal, replica_state
from flowprov.runtime import runtime
from flowprov.threads import start_thread

_NAME = re.compile(r"\d+-[0-9a-f]+" + re.escape(SUFFIX))
_MAX_MISSED = 3  # collections that may fail before a writer counts as gone
_MIN_EXPECTED_S = 30.0  # a writer counts as there for at least this time after a collection
_FIRST_S = 1.0  # until the first collection
_MAX_WITHOUT_PLUGIN = 3  # requests to a worker without the plugin
_MAX_SHOWN = 4  # missing workers that a warning names
_GRACE_S = 2.0  # for calls that are pending when the time of the last collection is over
_SHARE = 0.75  # of the remaining time is for one machine


class JournalFetcher:
    """What the client of a workflow knows of its workers' journals, and how it gets them.

    Parameters
    ----------
    client
        A ``distributed.Client``.
    task_context
        The context of the workflow's tasks.
    interval
        Seconds between two collections.
    participants
        The workers of the workflow, which this adds to; None without a workflow.

    Attributes
    ----------
    missing
        What the last collection could not fetch, one phrase each.
    """

    def __init__(
        self,
        client: Any,
        task_context: origin.TaskContext,
        interval: float,
        participants: Participants | None = None,
    ) -> None:
        self.missing: list[str] = []
        self._participants = participants
        self._rpc = WorkerRPC(client)
        self._task_context = task_context
        self._folder = Path(str(task_context.buffer)) / folder_name(task_context.campaign_id)
        self._interval = interval
        self._mode = runtime.get().settings.journal.file_mode
        self._shared_workers: set[str] = set()  # workers that record into the client's buffer
        self._remote_workers: dict[str, FetchResponse] = {}  # workers that record elsewhere
        self._without_plugin: dict[str, int] = {}  # requests to workers without the plugin
        self._open: dict[str, str] = {}  # journals that are still written: the machine that has them
        self._stopping = threading.Event()

    # -- while a workflow is open -------------------------------------------------------------------------

    def run(self, close_timeout: float) -> None:
        """Collect from time to time until :meth:`stop`, then once more. This is what the thread runs."""
        # Not at once: the plugin is on its way to the workers, which log requests that they do not know.
        self._stopping.wait(min(self._interval, _FIRST_S))
        while not self._stopping.is_set():
            self.collect(time.monotonic() + max(self._interval, 10.0))
            self._stopping.wait(self._interval)
        self._rpc.resume()
        self.finish(close_timeout)

    def stop(self) -> None:
        """Have :meth:`run` come to its end; return at once."""
        self._stopping.set()
        self._rpc.interrupt()

    def finish(self, timeout: float) -> None:
        """Collect for the last time, and warn of what is missing."""
        with guard.guarded("fetching the journals of Dask workers"):
            self.collect(time.monotonic() + timeout, last=True)
            if self.missing:
                self._warn_missing()

    def _warn_missing(self) -> None:
        more = f"; and {len(self.missing) - _MAX_SHOWN} more" if len(self.missing) > _MAX_SHOWN else ""
        guard.logger.warning(
            "flowprov: not all records of Dask workers are in %s: %s%s. They are safe where they are. "
            "flowprov.capture.dask.collect(client, campaign_id=%r) fetches them as long as the workers are "
            "there; later, copy the folders named here into that one.",
            self._folder,
            "; ".join(self.missing[:_MAX_SHOWN]),
            more,
            self._task_context.campaign_id,
        )

    # -- one collection -----------------------------------------------------------------------------------

    def collect(self, deadline: float, *, last: bool = False) -> None:
        """Fetch what is new. It never raises.

        Parameters
        ----------
        deadline
            When to be done, by the monotonic clock.
        last
            The workflow has ended: have the journals closed, and note what is missing.
        """
        self.missing = []
        try:
            self._collect(deadline, last=last)
        except NoResponseError as error:
            self.missing = [f"{self._describe_worker(address)} ({error})" for address in self._remote_workers]
            if last and not self._remote_workers and not self._other_writers_exist():
                self.missing = [f"no worker could be asked ({error})"]
        except Exception as error:  # the guard: the program goes on
            guard.report_internal_error("fetching the journals of Dask workers", error)
            self.missing = [
                f"{self._describe_worker(address)} (an internal error of flowprov)"
                for address in self._remote_workers
            ]

    def _collect(self, deadline: float, *, last: bool) -> None:
        addresses = self._rpc.workers(deadline)
        asked = [
            address
            for address in addresses
            if address not in self._shared_workers
            and (last or self._without_plugin.get(address, 0) < _MAX_WITHOUT_PLUGIN)
        ]
        responses = self._rpc.request_all(asked, self._request(close=last), deadline)
        workers_by_machine: dict[str, list[str]] = {}
        expected = asked if last else self._remote_workers
        self.missing += [
            f"{self._describe_worker(address)} (no response)"
            for address in asked
            if address in expected and address not in responses
        ]
        for address, response in responses.items():
            if response is None:
                self._note_without_plugin(address)
            elif response.silent is not None:
                self._note_silent(address, response.hostname, response.silent)
            elif response.folders:
                self._remote_workers[address] = response
                workers_by_machine.setdefault(response.machine_key, []).append(address)
                if last and response.open_scopes:
                    self.missing.append(
                        f"{self._describe_worker(address)} ({response.open_scopes} still open)"
                    )
            elif response.sees_buffer:
                self._shared_workers.add(address)
        for workers in workers_by_machine.values():
            self._fetch(workers, deadline, last=last)
        self._forget_departed(addresses, workers_by_machine)
        if last:
            self._create_placeholders(addresses, deadline)

    def _note_without_plugin(self, address: str) -> None:
        self._without_plugin[address] = self._without_plugin.get(address, 0) + 1
        if address in self._remote_workers:
            self.missing.append(f"{self._describe_worker(address)} (an internal error of flowprov there)")

    def _note_silent(self, address: str, hostname: str, reason: str) -> None:
        self._shared_workers.add(address)  # it has nothing to fetch
        if self._participants is not None:
            self._participants.add_silent(SilentNotice(address, hostname, reason))

    def _other_writers_exist(self) -> bool:
        """Whether other processes recorded into the client's folder, as workers do that see it."""
        own = Path(str(self._task_context.nonce)).name
        return any(path.name != own for path in self._folder.glob(f"*/*{SUFFIX}"))

    def _request(
        self, *, close: bool = False, replicas: dict[str, ReplicaState] | None = None
    ) -> FetchRequest:
        context = self._task_context
        return FetchRequest(
            context.campaign_id,
            str(context.buffer),
            context.nonce,
            context.workflow_id,
            close=close,
            replicas=replicas,
        )

    def _fetch(self, workers: list[str], deadline: float, *, last: bool) -> None:
        """Fetch what is new on a machine from one of its workers, or from the next one if that fails."""
        failure: object = "no response"
        for address in workers:
            now = time.monotonic()
            try:
                # A machine that hangs must leave time for the others.
                self._fetch_from(address, now + (deadline - now) * _SHARE, last=last)
            except (NoResponseError, OSError) as error:
                failure = error
            else:
                return
        self.missing.append(f"{self._describe_worker(workers[0])} ({failure})")

    def _fetch_from(self, address: str, deadline: float, *, last: bool) -> None:
        hosts = self._remote_workers[address].hosts
        previous, replicas = None, self._replica_states(hosts)
        while replicas != previous:  # a replica that does not grow is written by another process
            if self._stopping.is_set() and not last:
                return
            if time.monotonic() > deadline:
                raise NoResponseError("the time is over")
            response = self._rpc.request(address, self._request(replicas=replicas), deadline)
            self._store(response)
            if not response.more:
                return
            previous, replicas = replicas, self._replica_states(hosts)

    def _replica_states(self, hosts: list[str]) -> dict[str, ReplicaState]:
        """Return the states of the replicas of some hosts."""
        states: dict[str, ReplicaState] = {}
        for host in hosts:
            for path in (self._folder / folder_name(host)).glob(f"*{SUFFIX}"):
                with contextlib.suppress(OSError):  # a file of another user is no replica
                    states[f"{host}/{path.name}"] = replica_state(path)
        return states

    def _store(self, response: FetchResponse) -> None:
        """Append the chunks to their replicas, and mark the replicas of journals that are still written."""
        campaign_id = self._task_context.campaign_id
        for name, chunk in response.chunks:
            path = self._path(name)
            if path is not None and (chunk.offset or begins_journal(chunk, path, campaign_id)):
                append_chunks(path, [chunk], self._expected_for(response.states.get(name)), self._mode)
        for name, state in response.states.items():
            path = self._path(name)
            if path is None or not (state == "open" or is_writer_expected(path)):
                continue
            self._open.pop(name, None)
            if state == "open":
                self._open[name] = response.machine_key
            with contextlib.suppress(OSError):  # the replica is gone, or nothing of it has arrived
                expect_writer_until(path, self._expected_for(state))

    def _expected_for(self, state: str | None) -> float:
        """Return for how many seconds the writer of a journal counts as there."""
        return max(_MAX_MISSED * self._interval, _MIN_EXPECTED_S) if state == "open" else 0.0

    def _create_placeholders(self, present: list[str], deadline: float) -> None:
        """Create a replica for each journal of which nothing arrived, so that ``verify`` misses the rest."""
        for notice in self._rpc.journal_notices(deadline):
            if self._participants is not None:
                self._participants.add_journal(notice)
            if not notice.header:
                continue  # the client sees the journal
            is_of_campaign = notice.campaign_id == self._task_context.campaign_id
            path = self._path(notice.name) if is_of_campaign else None
            if path is None or path.exists():
                continue
            state = "open" if notice.worker in present else "gone"
            append_chunks(path, [Chunk(0, notice.header)], self._expected_for(state), self._mode)
            if notice.worker not in self._remote_workers:
                self.missing.append(
                    f"worker {notice.worker} on {notice.hostname}, in {notice.folder} (nothing arrived)"
                )

    def _describe_worker(self, address: str) -> str:
        response = self._remote_workers.get(address)
        where = "" if response is None else f" on {response.hostname}, in {', '.join(response.folders)}"
        return f"worker {address}{where}"

    def _path(self, name: str) -> Path | None:
        """Return the path of a replica; None for what cannot be the name of a journal."""
        host, _, file = name.partition("/")
        return self._folder / folder_name(host) / file if _NAME.fullmatch(file) else None

    def _forget_departed(self, present: list[str], workers_by_machine: dict[str, list[str]]) -> None:
        """Forget workers that are gone, and the open journals of machines without a worker to ask."""
        for address in self._remote_workers.keys() - set(present):
            response = self._remote_workers[address]
            if response.machine_key in workers_by_machine:  # another worker there sent what this one left
                del self._remote_workers[address]
            else:
                self.missing.append(f"{self._describe_worker(address)} (the worker is gone)")
        machines = {
            self._remote_workers[address].machine_key
            for address in self._remote_workers.keys() & set(present)
        }
        for name, machine_key in list(self._open.items()):
            if machine_key not in machines and (path := self._path(name)) is not None:
                del self._open[name]
                with contextlib.suppress(OSError):  # the replica is gone
                    expect_writer_until(path, 0)


@contextlib.contextmanager
def fetching(client: Any, task_context: origin.TaskContext, participants: Participants) -> Iterator[None]:
    """Fetch journals while a workflow is open, and wait a little for the last of them when it closes.

    With an asynchronous client the workflow closes in the client's event loop, and must not wait there. The
    last collection runs in the background; ``await flowprov.capture.dask.collect(client)`` waits for it.
    """
    settings = runtime.get().settings.dask
    if task_context.buffer is None or task_context.nonce is None or _runs_workers_in_process(client):
        yield
        return
    fetcher = JournalFetcher(client, task_context, settings.collect_interval, participants)
    thread = threading.Thread(
        target=fetcher.run, args=(settings.close_timeout,), name="flowprov-fetch-journals", daemon=True
    )
    process = os.getpid()
    _closing[:] = [(other, waiting) for other, waiting in _closing if waiting.is_alive()]
    with guard.guarded("starting to fetch the journals of Dask workers"):
        start_thread(thread)
    try:
        yield
    finally:
        if os.getpid() == process:
            fetcher.stop()
            if client.asynchronous:
                _closing.append((client, thread))
            elif thread.ident is not None:
                thread.join(settings.close_timeout + _GRACE_S)


# Asynchronous clients and the threads that run their last collections in the background.
_closing: list[tuple[Any, threading.Thread]] = []


def _runs_workers_in_process(client: Any) -> bool:
    return str(_dask_private.scheduler_address(client) or "").startswith("inproc:")


def collect(client: Any, *, campaign_id: str | None = None, timeout: float = 60.0) -> Any:
    """Fetch the journals of workers that do not see the buffer of this process.

    ``flowprov.workflow(dask_client=...)`` does it by itself, while it is open and when it closes. This is for
    journals that were missing then, and for asynchronous programs: ``await`` it before the client closes.

    Parameters
    ----------
    client
        A ``distributed.Client``. For an asynchronous one the result must be awaited.
    campaign_id
        The campaign; by default that of this process.
    timeout
        Seconds that it may take.

    Returns
    -------
    list of str
        What is missing, one phrase each; empty if everything is here.
    """
    if getattr(client, "asynchronous", False):
        return asyncio.get_running_loop().run_in_executor(None, _collect, client, campaign_id, timeout)
    return _collect(client, campaign_id, timeout)


def _collect(client: Any, campaign_id: str | None, timeout: float) -> list[str]:
    deadline = time.monotonic() + timeout
    for thread in [thread for other, thread in _closing if other is client]:
        thread.join(max(0.0, deadline - time.monotonic()))
    active = runtime.get()
    campaign = campaign_id or active.campaign_id()
    paths = [journal.path for journal in active.journals() if journal.identity.campaign_id == campaign]
    buffer = next((path.parents[2] for path in paths if path), Path(active.settings.journal.path))
    create_folder(buffer, active.settings.journal.file_mode)
    with tempfile.NamedTemporaryFile(prefix=".dask-", dir=buffer) as nonce:
        task_context = origin.TaskContext(campaign, "", buffer=str(buffer), nonce=Path(nonce.name).name)
        fetcher = JournalFetcher(client, task_context, active.settings.dask.collect_interval)
        fetcher.collect(deadline, last=True)
    return fetcher.missing
