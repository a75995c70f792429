"""The settings that a client sends, and the processes of a cluster that take them.

Flows in: the settings of the client's process. Flows out: a worker, nanny or scheduler that uses them, and
records only what belongs to a workflow of a client.
"""

from __future__ import annotations

import os
import uuid

from flowprov.runtime import context, runtime
from flowprov.settings import load_settings, settings_from_json, settings_to_json

_PROCESS = uuid.uuid4().hex  # what was sent by this process, and arrives in it, makes no guest of it


def settings_to_send() -> bytes | None:
    """Return the settings of this process for others; None if flowprov is disabled here."""
    active = runtime.peek()
    if active is None and runtime.disabled():
        return None
    return settings_to_json(load_settings() if active is None else active.settings)


def sender() -> str:
    """Return what tells this process from others."""
    return _PROCESS


def become_guest(sent_by: str | None) -> None:
    """Record from now on only what belongs to a workflow, if another process sent what arrived here."""
    if sent_by != _PROCESS:
        context.is_guest = True


def use_settings(settings: bytes | None) -> None:
    """Use a client's settings in a process without any, with the buffer folder that its environment names."""
    if settings is None or runtime.peek() is not None:
        return
    own = os.environ.get("FLOWPROV__JOURNAL__PATH")
    if own:
        runtime.configure(settings_from_json(settings), journal__path=own)
    else:
        runtime.configure(settings_from_json(settings))
