"""The worker's side of gathering: it says whether it sees the client's buffer, and hands over what it has.

Flows in: questions of a client, over Dask's own connections, by an operation that the plugin adds to the
worker. Flows out: answers, packed and with a digest, as what they hold may be damaged on its way.

Nothing of this runs in the slots of tasks, and what waits for a disk runs in a thread, not in the worker's
event loop. The exception is the closing of a journal: no task may begin meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from flowprov import guard
from flowprov.capture.dask import origin
from flowprov.capture.dask.fetch.protocol import OPERATION, TOPIC, FetchRequest, FetchResponse, JournalNotice
from flowprov.journal import Journal, files
from flowprov.journal.format import SUFFIX, folder_name
from flowprov.journal.replica import Chunk, JournalState, ReplicaState, journal_state, next_chunk
from flowprov.runtime import runtime

T = TypeVar("T")

_LONGEST_HEADER = 8192
_announced: set[str] = set()


def serve_journals(worker: Any) -> None:
    """Have a worker answer."""
    worker.handlers[OPERATION] = flowprov_journals


def stop_serving_journals(worker: Any) -> None:
    """Have it answer no more."""
    worker.handlers.pop(OPERATION, None)


def announce(worker: Any, journal: Journal, given: origin.TaskContext) -> None:
    """Tell the scheduler of a new journal, so that the client knows of it should the worker die early."""
    if journal.journal_id in _announced or journal.path is None:
        return
    _announced.add(journal.journal_id)
    with guard.guarded("announcing a journal to a Dask client"):
        if given.buffer is None or (
            given.nonce is not None
            and origin.sees_buffer(given.buffer, given.nonce)
            and journal.path.is_relative_to(given.buffer)
        ):
            return
        with journal.path.open("rb") as file:
            header = file.readline(_LONGEST_HEADER)
        told = JournalNotice(
            given.campaign_id,
            f"{journal.path.parent.name}/{journal.path.name}",
            worker.address,
            journal.identity.hostname,
            str(journal.path.parents[1]),
            header,
        )
        worker.log_event(TOPIC, msgspec.json.encode(told).decode())


async def flowprov_journals(question: bytes) -> dict[str, Any]:
    """Answer a client; never raises."""
    try:
        asked = msgspec.msgpack.decode(question, type=FetchRequest)
        sees = await _in_a_thread(
            lambda: asked.nonce is not None and origin.sees_buffer(asked.buffer, asked.nonce)
        )
        own = _own(asked.campaign_id)
        if asked.close:
            _close(own, Path(asked.buffer) if sees else None)
        packed = await _in_a_thread(lambda: msgspec.msgpack.encode(_answer(asked, own, sees=sees)))
    except Exception as error:  # the guard: a worker must not suffer from it
        guard.report_internal_error("handing journals to a Dask client", error)
        return {"fault": f"{type(error).__name__}: {error}"[:300]}
    return {"digest": hashlib.sha256(packed).hexdigest(), "answer": packed}


def _own(campaign_id: str) -> list[Journal]:
    held = runtime.peek()
    every = [] if held is None else held.journals()
    return [journal for journal in every if journal.identity.campaign_id == campaign_id]


def _close(own: list[Journal], seen: Path | None) -> None:
    """Complete the journals in which nothing is open; the next workflow of the campaign begins others."""
    for journal in own:
        if journal.path is not None and not (seen and journal.path.is_relative_to(seen)):
            journal.close_if_idle()


def _answer(asked: FetchRequest, own: list[Journal], *, sees: bool) -> FetchResponse:
    seen = Path(asked.buffer) if sees else None
    folders = _folders(asked.campaign_id, own, seen)
    answer = FetchResponse(
        hostname=socket.gethostname(),
        pid=os.getpid(),
        sees=any(journal.path and seen and journal.path.is_relative_to(seen) for journal in own),
        folders=list(map(str, folders)),
        hosts=sorted({host.name for folder in folders for host in folder.iterdir() if host.is_dir()}),
        machine_key=_machine_key(folders),
        running=sum(_running(journal, asked.workflow_id) for journal in own if journal.path),
    )
    return answer if asked.held is None else _filled(answer, folders, asked.held, asked.limit)


def _running(journal: Journal, workflow_id: str) -> int:
    opened = [scope for holder in list(journal.open_scopes.values()) if (scope := holder.current_scope())]
    return sum(workflow_id in ("", scope.workflow_id) for scope in opened)


def _folders(campaign_id: str, own: list[Journal], seen: Path | None) -> list[Path]:
    """List the folders in which journals of a campaign may lie that the client does not see."""
    held = runtime.get()
    possible = {files.fallback_folder() / folder_name(campaign_id)}
    if seen is None:
        possible.add(Path(held.settings.journal.path) / folder_name(campaign_id))
    possible |= {journal.path.parents[1] for journal in own if journal.path is not None}
    return sorted(
        folder for folder in possible if folder.is_dir() and not (seen and folder.is_relative_to(seen))
    )


def _machine_key(folders: list[Path]) -> str:
    """Name folders such that workers of one machine that share them name them alike."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    numbers = [folder.stat() for folder in folders]
    return " ".join([socket.gethostname(), boot, *(f"{each.st_dev}:{each.st_ino}" for each in numbers)])


def _filled(
    answer: FetchResponse, folders: list[Path], held: dict[str, ReplicaState], limit: int
) -> FetchResponse:
    """Add to an answer what the client lacks."""
    states: dict[str, JournalState] = {}
    pieces: list[tuple[str, Chunk]] = []
    more, left = False, limit
    for path in [path for folder in folders for path in sorted(folder.glob(f"*/*{SUFFIX}"))]:
        name = f"{path.parent.name}/{path.name}"
        try:
            state = journal_state(path)
            if state is None:
                continue
            states[name] = state
            if not more and (
                piece := next_chunk(path, held.get(name, ReplicaState()), left, done=state != "open")
            ):
                pieces.append((name, piece))
                left -= len(piece.data)
                more = left <= limit // 2
        except OSError as error:  # one journal that cannot be read must not keep the others
            guard.report_internal_error(f"reading {path} for a Dask client", error)
    return msgspec.structs.replace(answer, states=states, chunks=pieces, more=more)


async def _in_a_thread(work: Callable[[], T]) -> T:
    """Do what may wait for a disk in a thread that ends with it: the pools of Dask are for its own work."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:  # it is raised again in the coroutine that waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve_future, done, result, failure)

    threading.Thread(target=run, name="flowprov-handing", daemon=True).start()
    return await done


def _resolve_future(done: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if done.done():
        return  # cancelled: the worker closes
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
