"""The workflows that are open in this process, and which of them a caller without a context joins.

Flows in: workflows that open and close. Flows out: a workflow, or nothing.

A workflow belongs to the thread or asyncio task that opened it; one of the main thread belongs to the whole
process. A caller without a context of its own (a thread of a pool, a coroutine beside others, the next cell
of a notebook) joins what its own thread or asyncio task opened. Otherwise it joins what was open in the
process before any of them opened one. It never joins what another thread opened.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

Workflow = TypeVar("Workflow")
Found_co = TypeVar("Found_co", covariant=True)


class InheritedWorkflow(Protocol[Found_co]):
    """What a process knows of the workflow that it inherited."""

    def __call__(self) -> Found_co | None:
        """Return the workflow that is open in the processes above; None if there is none."""

    def peek(self) -> Found_co | None:
        """Return the one that was found last, without a look."""


class OpenWorkflows(Generic[Workflow]):
    """The open workflows of a process, in the order in which they opened.

    Attributes
    ----------
    inherited
        The workflow that this process inherited from the one that started it; None without one.
    implicit
        The workflow of a program that opened none: joined where there is no other.
    observers
        Called after a workflow opened or closed.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[object, Workflow]] = []
        self.implicit: Workflow | None = None
        self.inherited: InheritedWorkflow[Workflow] | None = None
        self.observers: list[Callable[[], None]] = []

    def add(self, workflow: Workflow) -> None:
        """Add a workflow that the caller opened."""
        self._entries.append((_opener(), workflow))
        self._notify()

    def add_implicit(self, workflow: Workflow) -> None:
        """Add the implicit workflow of the program."""
        self.implicit = workflow
        self._notify()

    def remove(self, workflow: Workflow) -> None:
        """Remove a workflow that closed; do nothing if it is not there."""
        if workflow is self.implicit:
            self.implicit = None
            self._notify()
        for entry in list(self._entries):
            if entry[1] is workflow:
                self._entries.remove(entry)
                self._notify()

    def clear(self) -> None:
        """Forget all of them, and what was inherited."""
        self._entries.clear()
        self.inherited = self.implicit = None

    def __iter__(self) -> Iterator[Workflow]:
        implicit = [] if self.implicit is None else [self.implicit]
        return iter([*implicit, *(workflow for _, workflow in self._entries)])

    def __len__(self) -> int:
        return len(self._entries) + (self.implicit is not None)

    def for_caller(self) -> Workflow | None:
        """Return the workflow that the caller joins; None if there is none."""
        entries = list(self._entries)
        if entries:
            opener = _opener()
            own = [workflow for other, workflow in entries if other is opener]
            if own:
                return own[-1]
            if (shared := self._of_process(entries)) is not None:
                return shared
        inherited = None if self.inherited is None else self.inherited()
        return self.implicit if inherited is None else inherited

    def for_children(self) -> Workflow | None:
        """Return the workflow that a worker process joins, whichever thread uses its pool."""
        entries = list(self._entries)
        workflow = entries[0][1] if len(entries) == 1 else self._of_process(entries)
        return self.implicit if workflow is None else workflow

    @staticmethod
    def _of_process(entries: list[tuple[object, Workflow]]) -> Workflow | None:
        """Return the innermost workflow that was open before a thread or an asyncio task opened one."""
        before: Workflow | None = None
        for opener, workflow in entries:
            if not _is_process(opener):
                break
            before = workflow
        if before is not None:
            return before
        shared = [workflow for opener, workflow in entries if _is_process(opener)]
        return shared[-1] if shared else None

    def _notify(self) -> None:
        for observer in self.observers:
            observer()


def _opener() -> object:
    """Return the asyncio task or thread of the caller; None for the main thread outside of such a task."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:  # noqa: SLF001 - in its __all__
        task = asyncio.current_task()
        if task is not None:
            return task
    thread = threading.current_thread()
    return None if thread is threading.main_thread() else thread


def _is_process(opener: object) -> bool:
    """Whether what an opener opened belongs to the whole process.

    What an asyncio task leaves open at its end was opened for others: notebooks run cells in such tasks.
    """
    return opener is None or (not isinstance(opener, threading.Thread) and opener.done())  # type: ignore[attr-defined]
