"""The messages between a client that fetches journals and the workers that hold them.

Flows in: nothing. Flows out: the types of the messages, so that neither end needs to import the other.
"""

from __future__ import annotations

import msgspec

from flowprov.journal.replica import Chunk, JournalState, ReplicaState

OPERATION = "flowprov_journals"
TOPIC = "flowprov-journals"
CHUNK = 2 << 20  # bytes of journals in one response


class FetchRequest(msgspec.Struct, frozen=True):
    """What a client asks a worker for.

    Attributes
    ----------
    campaign_id
        The campaign whose journals are fetched.
    buffer, nonce
        The client's buffer folder, and a file in it whose name exists only once.
    workflow_id
        The workflow whose journals are fetched; "" for all of the campaign.
    close
        The workflow has ended: close the campaign's journals in which nothing is open.
    replicas
        The replicas that the client has, by ``host/name``; None to ask only which journals are here.
    limit
        The client takes at most this many bytes.
    """

    campaign_id: str
    buffer: str
    nonce: str | None = None
    workflow_id: str = ""
    close: bool = False
    replicas: dict[str, ReplicaState] | None = None
    limit: int = CHUNK


class JournalNotice(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of its journal when a workflow first writes into it.

    Attributes
    ----------
    campaign_id, workflow_id, journal_id
        What is recorded, and where.
    name
        ``host/name`` of its file in the buffer folder.
    worker, hostname, pid, folder
        The worker that writes it, and where.
    header
        Its first line, if the client does not see the journal; else empty.
    """

    campaign_id: str
    workflow_id: str
    journal_id: str
    name: str
    worker: str
    hostname: str
    pid: int
    folder: str
    header: bytes = b""


class SilentNotice(msgspec.Struct, frozen=True):
    """What the scheduler keeps of a worker that records nothing: see ``arrival``."""

    worker: str
    hostname: str
    reason: str


class FetchResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker answers.

    Attributes
    ----------
    hostname, pid
        Host and process of the worker.
    silent
        Why the worker records nothing; then there is nothing else in the response.
    sees_buffer
        Whether it sees the client's buffer and records into it.
    folders
        Folders with journals of the campaign that the client may not see; empty if there are none.
    hosts
        The folders of hosts in them.
    machine_key
        Identifies these folders among those of all machines.
    open_scopes
        How many scopes of the workflow are open in this process.
    states
        Whether each journal is still written, by ``host/name``.
    chunks
        Bytes of the journals that the client does not have, as far as the limit allows.
    more
        Whether there are more.
    """

    hostname: str
    pid: int = 0
    silent: str | None = None
    sees_buffer: bool = False
    folders: list[str] = []
    hosts: list[str] = []
    machine_key: str = ""
    open_scopes: int = 0
    states: dict[str, JournalState] = {}
    chunks: list[tuple[str, Chunk]] = []
    more: bool = False
