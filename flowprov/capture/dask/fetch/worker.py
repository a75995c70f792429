"""The worker's side of fetching: it says whether it sees the client's buffer, and sends what it has.

Flows in: requests of a client, over Dask's own connections, by an operation that the plugin adds to the
worker. Flows out: responses, packed and with a digest, as the bytes may be damaged on their way.

Nothing here runs in the slots of tasks. What waits for a disk runs in a thread, and not in the worker's event
loop. The exception is the closing of a journal: no task may begin meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from flowprov import guard
from flowprov.capture.dask import _dask_private, arrival, origin
from flowprov.capture.dask.fetch.protocol import OPERATION, TOPIC, FetchRequest, FetchResponse, JournalNotice
from flowprov.journal import Journal, folders
from flowprov.journal.format import SUFFIX, folder_name
from flowprov.journal.liveness import host_name
from flowprov.journal.replica import Chunk, JournalState, ReplicaState, journal_state, next_chunk
from flowprov.runtime import runtime
from flowprov.values.reading import exception_text

T = TypeVar("T")

_MAX_HEADER = 8192
_MAX_ANNOUNCED = 4096
_announced: set[tuple[str, str]] = set()  # journals, each with a workflow


def serve_journals(worker: Any) -> None:
    """Have a worker respond to requests for journals."""
    _dask_private.add_handler(worker, OPERATION, flowprov_journals)


def stop_serving_journals(worker: Any) -> None:
    """Have a worker respond no more."""
    _dask_private.remove_handler(worker, OPERATION)


def announce_journal(server: Any, journal: Journal, task_context: origin.TaskContext) -> None:
    """Announce a journal to the clients, once for each workflow, so that they know what must be there.

    Parameters
    ----------
    server
        The worker, nanny or scheduler of this process.
    journal
        The journal.
    task_context
        The workflow, and the buffer of its client.
    """
    announced = (journal.journal_id, task_context.workflow_id)
    if announced in _announced or (journal.path is None and not journal.counts()[2]):
        return
    if len(_announced) >= _MAX_ANNOUNCED:
        _announced.clear()  # clients know what they heard before
    _announced.add(announced)
    with guard.guarded("announcing a journal to a Dask client"):
        if journal.path is None:
            dropped = ", ".join(journal.counts()[2])
            arrival.announce_silence(server, f"its journal cannot be written ({dropped})")
            return
        header = b""
        if not _sees_journal(journal.path, task_context):
            with journal.path.open("rb") as file:
                header = file.readline(_MAX_HEADER)
        notice = JournalNotice(
            campaign_id=task_context.campaign_id,
            workflow_id=task_context.workflow_id,
            journal_id=journal.journal_id,
            name=f"{journal.path.parent.name}/{journal.path.name}",
            worker=server.address,
            hostname=journal.identity.hostname,
            pid=os.getpid(),
            folder=str(journal.path.parents[1]),
            header=header,
        )
        server.log_event(TOPIC, msgspec.json.encode(notice).decode())


def _sees_journal(path: Path, task_context: origin.TaskContext) -> bool:
    """Whether the client of a workflow sees a journal of this process."""
    return task_context.buffer is None or (
        task_context.nonce is not None
        and origin.sees_buffer(task_context.buffer, task_context.nonce)
        and path.is_relative_to(task_context.buffer)
    )


async def flowprov_journals(request: bytes) -> dict[str, Any]:
    """Respond to a client. It never raises."""
    try:
        decoded = msgspec.msgpack.decode(request, type=FetchRequest)
        sees_buffer = await _run_in_thread(
            lambda: decoded.nonce is not None and origin.sees_buffer(decoded.buffer, decoded.nonce)
        )
        journals = _journals_of_campaign(decoded.campaign_id)
        if decoded.close:
            _close_idle(journals, Path(decoded.buffer) if sees_buffer else None)
        packed = await _run_in_thread(
            lambda: msgspec.msgpack.encode(_create_response(decoded, journals, sees_buffer=sees_buffer))
        )
    except Exception as error:  # the guard: a worker must not suffer from it
        guard.report_internal_error("sending journals to a Dask client", error)
        return {"error": exception_text(error)}
    return {"digest": hashlib.sha256(packed).hexdigest(), "response": packed}


def _journals_of_campaign(campaign_id: str) -> list[Journal]:
    active = runtime.peek()
    journals = [] if active is None else active.journals()
    return [journal for journal in journals if journal.identity.campaign_id == campaign_id]


def _close_idle(journals: list[Journal], visible: Path | None) -> None:
    """Complete the journals in which nothing is open. The campaign's next workflow begins new ones."""
    for journal in journals:
        if journal.path is not None and not (visible and journal.path.is_relative_to(visible)):
            journal.close_if_idle()


def _create_response(request: FetchRequest, journals: list[Journal], *, sees_buffer: bool) -> FetchResponse:
    visible = Path(request.buffer) if sees_buffer else None
    folders = _folders(request.campaign_id, journals, visible)
    response = FetchResponse(
        hostname=host_name(),
        pid=os.getpid(),
        sees_buffer=any(
            journal.path and visible and journal.path.is_relative_to(visible) for journal in journals
        ),
        folders=list(map(str, folders)),
        hosts=sorted({host.name for folder in folders for host in folder.iterdir() if host.is_dir()}),
        machine_key=_machine_key(folders),
        open_scopes=sum(_count_open(journal, request.workflow_id) for journal in journals if journal.path),
    )
    return (
        response
        if request.replicas is None
        else _add_chunks(response, folders, request.replicas, request.limit)
    )


def _count_open(journal: Journal, workflow_id: str) -> int:
    scopes = [scope for holder in list(journal.open_scopes.values()) if (scope := holder.current_scope())]
    return sum(workflow_id in ("", scope.workflow_id) for scope in scopes)


def _folders(campaign_id: str, journals: list[Journal], visible: Path | None) -> list[Path]:
    """List the folders that may hold journals of a campaign and that the client does not see."""
    active = runtime.get()
    candidates = set()
    if folders.is_own(last_resort := folders.fallback_folder()):
        candidates.add(last_resort / folder_name(campaign_id))
    if visible is None:
        candidates.add(Path(active.settings.journal.path) / folder_name(campaign_id))
    candidates |= {journal.path.parents[1] for journal in journals if journal.path is not None}
    return sorted(
        folder
        for folder in candidates
        if folder.is_dir() and not (visible and folder.is_relative_to(visible))
    )


def _machine_key(folders: list[Path]) -> str:
    """Return a key of folders that is the same in all workers of a machine that share them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    stats = [folder.stat() for folder in folders]
    return " ".join([host_name(), boot, *(f"{stat.st_dev}:{stat.st_ino}" for stat in stats)])


def _add_chunks(
    response: FetchResponse, folders: list[Path], replicas: dict[str, ReplicaState], limit: int
) -> FetchResponse:
    """Return the response with the bytes that the client does not have."""
    states: dict[str, JournalState] = {}
    chunks: list[tuple[str, Chunk]] = []
    more, remaining = False, limit
    for path in [path for folder in folders for path in sorted(folder.glob(f"*/*{SUFFIX}"))]:
        name = f"{path.parent.name}/{path.name}"
        try:
            state = journal_state(path)
            if state is None:
                continue
            states[name] = state
            if not more and (
                chunk := next_chunk(path, replicas.get(name, ReplicaState()), remaining, done=state != "open")
            ):
                chunks.append((name, chunk))
                remaining -= len(chunk.data)
                more = remaining <= limit // 2
        except OSError as error:  # one journal that cannot be read must not keep the others back
            guard.report_internal_error(f"reading {path} for a Dask client", error)
    return msgspec.structs.replace(response, states=states, chunks=chunks, more=more)


async def _run_in_thread(work: Callable[[], T]) -> T:
    """Run what may wait for a disk in a thread of its own: Dask's thread pools are for its own work."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:  # it is raised again in the coroutine that waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits any more
            loop.call_soon_threadsafe(_resolve_future, done, result, failure)

    threading.Thread(target=run, name="flowprov-serve-journals", daemon=True).start()
    return await done


def _resolve_future(done: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if done.done():
        return  # it was cancelled: the worker closes
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
