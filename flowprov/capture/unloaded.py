"""What stands for a function that cannot be loaded any more: the program goes on, and nothing is recorded.

Flows in: the name of the function, and why it could not be loaded. Flows out: a function that returns what
the other one would have returned.

What programs call all the time is loaded at once, before anything is recorded. What is left is loaded at its
first use. That may be hours later: flowprov was installed anew by then, or no descriptor is left.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from flowprov import guard
from flowprov.runtime import runtime
from flowprov.values import as_name


class UnrecordedArtifact:
    """A file or object of which nothing is recorded; otherwise as the handle of an artifact.

    Parameters
    ----------
    role
        ``"used"`` or ``"generated"``.
    given
        What the program gave: a path or an object.
    name, kind
        As the program gave them.
    """

    artifact_id = size = digest = weights = content = None
    state = "skipped"

    def __init__(self, role: str, given: Any, name: Any, kind: Any) -> None:
        self.role, self.name, self.kind = role, as_name(name), as_name(kind, "file")
        self.path: str | None = None
        with guard.guarded("looking at an artifact"):
            if isinstance(given, (str, os.PathLike)) and "://" not in (text := os.fsdecode(given)):
                self.path = os.path.abspath(text)  # noqa: PTH100 - links stay as they are

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - there is nothing to wait for
        """Return True."""
        return True

    def __fspath__(self) -> str:
        if self.path is None:
            raise TypeError("this artifact is an object and has no path")
        return self.path

    def __repr__(self) -> str:
        return f"<flowprov artifact {self.path or self.name or self.kind} ({self.role}, {self.state})>"


def _log_artifact(given: Any, name: Any = None, *, kind: Any = None, **_: Any) -> UnrecordedArtifact:
    return UnrecordedArtifact("generated", given, name, kind)


def _use_artifact(given: Any, name: Any = None, *, kind: Any = None, **_: Any) -> UnrecordedArtifact:
    return UnrecordedArtifact("used", given, name, kind)


def _log_config(values: Any, **_: Any) -> Any:
    return values


def _resume_from(*_: Any, **__: Any) -> None:
    return None


_INSTEAD: dict[str, Callable[..., Any]] = {
    "log_artifact": _log_artifact,
    "log_config": _log_config,
    "resume_from": _resume_from,
    "use_artifact": _use_artifact,
}


def stand_in(name: str, error: Exception) -> Callable[..., Any]:
    """Return what stands for a function that could not be loaded; the fault is counted and logged.

    Parameters
    ----------
    name
        Its public name.
    error
        What loading it raised.

    Raises
    ------
    Exception
        ``error``, if nothing can stand for that function.
    """
    if name not in _INSTEAD:
        raise error
    if not runtime.disabled():
        guard.report_internal_error(f"loading flowprov.{name}", error)
    return _INSTEAD[name]
