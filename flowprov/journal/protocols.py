"""What a journal needs from the packages above it: open scopes, and the thread that maintains it.

Flows in: nothing. Flows out: protocols, so that the journal imports neither the runtime nor its maintenance.
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
    open_in
        Id of the journal file that holds its open record, if one was written.
    """

    key: LocalId | None
    workflow_id: str
    open_in: str | None

    def open_line(self) -> bytes | None:
        """Return the open record of this scope; None if a record was written when it opened."""


class ScopeHolder(Protocol):
    """What a journal keeps among its open scopes: a scope, or a loop that knows its iteration."""

    def current_scope(self) -> OpenScope | None:
        """Return the scope that is open now; None if there is none."""

    def give_up(self) -> None:
        """Leave the scope that is open now to be recorded by others."""


class Maintenance(Protocol):
    """The thread that writes heartbeats and prepares segments, as its journals see it."""

    def watch(self, journal: Any) -> None:
        """Maintain a journal from now on."""

    def wake(self) -> None:
        """Maintain the journals now."""

    def forget(self, journal: Any) -> None:
        """Stop maintaining a journal."""
