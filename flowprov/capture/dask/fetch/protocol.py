"""The messages between a client that fetches journals and the workers that hold them.

Flows in: nothing. Flows out: the types of what is sent, so that neither end need know the other.
"""

from __future__ import annotations

import msgspec

from flowprov.journal.replica import Chunk, JournalState, ReplicaState

OPERATION = "flowprov_journals"
TOPIC = "flowprov-journals"
CHUNK = 2 << 20  # bytes of journals in one answer


class FetchRequest(msgspec.Struct, frozen=True):
    """What a client asks of a worker.

    Attributes
    ----------
    campaign_id, buffer, nonce
        The campaign; the client's buffer folder and a file in it whose name exists once in the world.
    workflow_id
        The workflow that is gathered; "" for all of the campaign.
    close
        Close what journals the campaign has here, where nothing is open in them: its workflow has ended.
    held
        What the client holds, by ``host/name``; None: it only wants to know who is here.
    limit
        At most so many bytes are wanted.
    """

    campaign_id: str
    buffer: str
    nonce: str | None = None
    workflow_id: str = ""
    close: bool = False
    held: dict[str, ReplicaState] | None = None
    limit: int = CHUNK


class JournalNotice(msgspec.Struct, frozen=True):
    """What a worker has the scheduler keep of a journal that its client does not see.

    Attributes
    ----------
    campaign_id
        The campaign.
    name
        ``host/name``, as it stands in the folder.
    worker, hostname, folder
        Who writes it, and where.
    header
        Its first line.
    """

    campaign_id: str
    name: str
    worker: str
    hostname: str
    folder: str
    header: bytes


class FetchResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says.

    Attributes
    ----------
    hostname, pid
        Where it is.
    sees
        Whether it sees the client's buffer and records into it.
    folders
        Where journals of the campaign lie that the client may not see; none where it has none.
    hosts
        The folders of hosts in them.
    machine_key
        Tells these folders from those of other machines.
    running
        How many steps of the workflow go on in this process.
    states
        Of each journal, by ``host/name``, whether it is written still.
    chunks
        What the client lacks of them, as far as it fits.
    more
        Whether it lacks more.
    """

    hostname: str
    pid: int
    sees: bool = False
    folders: list[str] = []
    hosts: list[str] = []
    machine_key: str = ""
    running: int = 0
    states: dict[str, JournalState] = {}
    chunks: list[tuple[str, Chunk]] = []
    more: bool = False
