"""``%load_ext flowprov``: a workflow around the cells of a notebook, and each cell as a task if asked for.

Flows in: IPython's word on when a cell begins and ends. Flows out: a workflow named after the notebook, and
with ``%flowprov cells`` one task for each cell. IPython is not imported: it hands its shell over.
"""

from __future__ import annotations

import hashlib
from typing import Any

from flowprov.capture.task_scope import task_scope
from flowprov.display import printable
from flowprov.environment.notebook import notebook_name
from flowprov.integrations.run import AdapterRun, callback

_HELP = "%flowprov cells: record each cell as a task; %flowprov off: no longer; %flowprov: where it records"


class _Answer(str):
    """A text that IPython shows as it is, without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


class _Extension:
    """What one shell loaded.

    Parameters
    ----------
    shell
        The shell of IPython.
    """

    def __init__(self, shell: Any) -> None:
        self.run = AdapterRun()
        self._shell = shell
        self._records_cells = False
        self._cell: task_scope | None = None

    def load(self) -> None:
        """Open the workflow, and listen to cells."""
        self.run.open(notebook_name() or "ipython")
        self._shell.events.register("pre_run_cell", self.begin_cell)
        self._shell.events.register("post_run_cell", self.end_cell)
        self._shell.register_magic_function(self.magic, magic_kind="line", magic_name="flowprov")

    def unload(self) -> None:
        """Take it all back, and close the workflow."""
        self._shell.events.unregister("pre_run_cell", self.begin_cell)
        self._shell.events.unregister("post_run_cell", self.end_cell)
        self.run.close()

    def magic(self, line: str) -> _Answer | None:
        """Choose whether each cell is a task; return where cells are recorded, which IPython shows."""
        asked = line.strip()
        if asked in ("cells", "off"):
            self._records_cells = asked == "cells"
            return None
        workflow_id = self.run.workflow_id
        where = "nothing is recorded" if workflow_id is None else f"workflow {printable(workflow_id)}"
        return _Answer(f"{where}\n{_HELP}")

    @callback
    def begin_cell(self, info: Any = None) -> None:
        """Begin a task, if each cell is one."""
        source = getattr(info, "raw_cell", None)
        if self._records_cells and isinstance(source, str):
            used: dict[str, Any] = {
                "cell": self._shell.execution_count,
                "lines": len(source.splitlines()),
                "source_sha256": hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest(),
            }
            self._cell = task_scope("cell", used=used).start()

    @callback
    def end_cell(self, result: Any = None) -> None:
        """End the task, with the exception that ended the cell."""
        cell, self._cell = self._cell, None
        if cell is not None:
            error = getattr(result, "error_in_exec", None) or getattr(result, "error_before_exec", None)
            cell.stop(error)


_loaded: dict[int, _Extension] = {}  # by shell


def load_ipython_extension(shell: Any) -> None:
    """Load the extension: IPython calls this for ``%load_ext flowprov``."""
    if id(shell) not in _loaded:
        _loaded[id(shell)] = extension = _Extension(shell)
        extension.load()


def unload_ipython_extension(shell: Any) -> None:
    """Unload it: IPython calls this for ``%unload_ext flowprov``."""
    extension = _loaded.pop(id(shell), None)
    if extension is not None:
        extension.unload()
