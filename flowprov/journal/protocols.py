"""What a journal asks of the rooms above it: of open scopes, and of the thread that maintains it.

Flows in: nothing. Flows out: protocols, so that the journal names neither the runtime nor its maintenance.
"""

from __future__ import annotations

from typing import Any, Protocol

from flowprov.records import LocalId


class OpenScope(Protocol):
    """A workflow or task that is open.

    Attributes
    ----------
    key
        A task's number in its journal, the full id of a task of another process, None for a workflow.
    workflow_id
        The workflow, or that of the task.
    """

    key: LocalId | None
    workflow_id: str

    def open_line(self) -> bytes | None:
        """Return the control record that says that it is open; None where its opening was written."""


class ScopeHolder(Protocol):
    """What a journal keeps among its open scopes: a scope, or a loop that knows its iteration."""

    def current_scope(self) -> OpenScope | None:
        """Return the scope that is open now, None if there is none."""


class Maintenance(Protocol):
    """The thread that writes heartbeats and prepares segments, as its journals see it."""

    def watch(self, journal: Any) -> None:
        """Maintain a journal from now on."""

    def wake(self) -> None:
        """Maintain the journals now."""

    def forget(self, journal: Any) -> None:
        """Maintain a journal no more."""
