"""The workers that a workflow's tasks reach, as the client's journal names them.

Flows in: events by which workers say where they record, or that they record nothing, and their responses to
the client. Flows out: a control record in the client's journal for each, from which ``flowprov verify`` knows
what must be there; and one warning for a worker that records nothing.

A client subscribes to the events. What a worker says before the result of a task reaches the client before
that result, as both take the same connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from flowprov import guard
from flowprov.capture.dask import _dask_private
from flowprov.capture.dask.arrival import SILENT_TOPIC
from flowprov.capture.dask.fetch.protocol import TOPIC, JournalNotice, SilentNotice
from flowprov.clock import clock
from flowprov.locks import create_lock
from flowprov.records import DaskWorker
from flowprov.runtime.context import Scope

_MAX_CLOSED = 16  # workflows of a client that have closed
_MAX_WARNED = 8  # workers that record nothing, each with a line in the log


class Participants:
    """The workers of one workflow.

    Parameters
    ----------
    scope
        The workflow, open in this process.

    Attributes
    ----------
    is_open
        Whether the workflow is open. Tasks may start when it has closed, but what else happens on the cluster
        is not its concern then.
    """

    def __init__(self, scope: Scope) -> None:
        self.is_open = True
        self._workflow_id = scope.workflow_id
        # Only a weak reference: a campaign that is over lets go of its journal.
        self._journal = weakref.ref(scope.journal)
        self._lock = create_lock()
        self._named: set[str] = set()

    def add_silent(self, notice: SilentNotice) -> None:
        """Add a worker that records nothing, once."""
        if not self.is_open:
            return
        worker = DaskWorker(
            at=clock.now(),
            workflow_id=self._workflow_id,
            worker=notice.worker,
            hostname=notice.hostname,
            reason=notice.reason,
        )
        if self._add(notice.worker, worker):
            _warn_silent(notice)

    def add_journal(self, notice: JournalNotice) -> None:
        """Add a journal into which a worker records this workflow, once."""
        if notice.workflow_id != self._workflow_id:
            return
        worker = DaskWorker(
            at=clock.now(),
            workflow_id=notice.workflow_id,
            worker=notice.worker,
            hostname=notice.hostname,
            pid=notice.pid,
            journal_id=notice.journal_id,
            journal=notice.name,
        )
        self._add(notice.journal_id, worker)

    def _add(self, key: str, worker: DaskWorker) -> bool:
        journal = self._journal()
        if journal is None or journal.journal_id == key:  # its own: the worker is in this process
            return False
        with self._lock:
            if key in self._named:
                return False
            self._named.add(key)
        return journal.write_control(worker)


_silent: set[str] = set()  # workers of which a warning was given


def _warn_silent(notice: SilentNotice) -> None:
    if notice.worker in _silent or len(_silent) > _MAX_WARNED:
        return
    _silent.add(notice.worker)
    guard.logger.warning(
        "flowprov: Dask worker %s on %s records nothing: %s.%s",
        notice.worker,
        notice.hostname,
        notice.reason,
        " There may be more such workers; flowprov verify names them." if len(_silent) > _MAX_WARNED else "",
    )


# The workflows of each client that follows the events of its cluster.
_followers: weakref.WeakKeyDictionary[Any, list[Participants]] = weakref.WeakKeyDictionary()
_looking_back: weakref.WeakKeyDictionary[Any, asyncio.Future[None]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def following(client: Any, scope: Scope) -> Iterator[Participants]:
    """Write into the journal of an open workflow what the workers of its client say."""
    participants = Participants(scope)
    followers = _followers.get(client)
    if followers is None:
        followers = _followers[client] = []
        with guard.guarded("subscribing to the events of Dask workers"):
            client.subscribe_topic(SILENT_TOPIC, _create_handler(client, _on_silent))
            client.subscribe_topic(TOPIC, _create_handler(client, _on_journal))
    followers.append(participants)
    try:
        yield participants
    finally:
        pending = _looking_back.get(client)
        if pending is None or pending.done():
            _close(participants, followers)
        else:
            pending.add_done_callback(lambda _: _close(participants, followers))


def _close(participants: Participants, followers: list[Participants]) -> None:
    """Forget all but the latest workflows that have closed: tasks of them may still start."""
    participants.is_open = False
    closed = [other for other in followers if not other.is_open]
    for other in closed[:-_MAX_CLOSED]:
        followers.remove(other)


def _create_handler(
    client: Any, handle: Callable[[list[Participants], Any], None]
) -> Callable[[tuple[float, Any]], None]:
    reference = weakref.ref(client)

    def on_event(event: tuple[float, Any]) -> None:
        with guard.guarded("reading the event of a Dask worker"):
            handle(list(_followers.get(reference(), ())), event[1])

    return on_event


def _on_silent(followers: list[Participants], message: Any) -> None:
    notice = msgspec.json.decode(message, type=SilentNotice)
    for participants in followers:
        participants.add_silent(notice)


def _on_journal(followers: list[Participants], message: Any) -> None:
    notice = msgspec.json.decode(message, type=JournalNotice)
    for participants in followers:
        participants.add_journal(notice)


def look_back(client: Any) -> None:
    """Read what workers of a client's cluster said before it subscribed.

    An asynchronous client reads it in the background.
    """
    if client.asynchronous:
        _looking_back[client] = asyncio.ensure_future(_look_back(client))
    else:
        client.sync(_look_back, client)


async def _look_back(client: Any) -> None:
    with guard.guarded("reading the events of Dask workers"):
        messages = await _dask_private.events(client, SILENT_TOPIC)
        if not messages:
            return
        present = set(await _dask_private.worker_addresses(client))
        for message in messages:
            if msgspec.json.decode(message, type=SilentNotice).worker in present:
                _on_silent(list(_followers.get(client, ())), message)
