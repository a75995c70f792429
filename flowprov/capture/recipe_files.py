"""The checkpoints that a recipe loads and saves.

Flows in: its configuration, and its checkpoint folder before and after it saved. Flows out: artifacts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from flowprov.capture.artifacts.calls import log_artifact, use_artifact
from flowprov.capture.artifacts.handle import Artifact
from flowprov.capture.recipe_state import value_of
from flowprov.runtime import runtime

_MAX_FILES = 10_000
_MAX_RECORDED = 200
_FOLDERS = (("checkpointer", "output_dir"), ("output_dir",), ("checkpoint_dir",))
_KIND = "checkpoint"

_Stat = tuple[int, int, int]


class CheckpointFolder:
    """A folder of checkpoints, as it was before a phase.

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._before = dict(_files_in(path))

    @classmethod
    def find(cls, given: Any, instance: Any, config: Any) -> CheckpointFolder | None:
        """Return the folder of a recipe; None if it is not known."""
        if callable(given):
            given = given(instance)
        elif isinstance(given, str) and given in getattr(instance, "__dict__", {}):
            given = instance.__dict__[given]
        if given is None:
            given = next(filter(None, (value_of(config, *path) for path in _FOLDERS)), None)
        return cls(os.fspath(given)) if isinstance(given, (str, os.PathLike)) else None

    def changed(self) -> list[str]:
        """Return the files that are new or different, sorted."""
        return sorted(path for path, stat in _files_in(self._path) if self._before.get(path) != stat)


def log_saved(folder: CheckpointFolder, attributes: Mapping[str, Any], epoch: Any) -> None:
    """Record the files that a phase saved as generated."""
    epoch = epoch if type(epoch) is int else attributes.get("epochs_run")
    for path in folder.changed()[:_MAX_RECORDED]:
        log_artifact(path, kind=_KIND, epoch=epoch, step=attributes.get("global_step"))


def use_loaded(config: Any) -> list[Artifact]:
    """Record the files that the configuration names as used, those of the model first."""
    folder = value_of(config, "checkpointer", "checkpoint_dir")
    names = value_of(config, "checkpointer", "checkpoint_files")
    listed = [names] if isinstance(names, str) else _items(names)
    listed += [value_of(config, "checkpointer", name) for name in ("adapter_checkpoint", "recipe_checkpoint")]
    folders = [
        one for one in (folder, value_of(config, "checkpointer", "output_dir")) if isinstance(one, str)
    ]
    used: list[Artifact] = []
    for name in listed[:_MAX_RECORDED]:
        candidates = (
            [path for one in folders for path in _joined(one, [name])] if isinstance(name, str) else []
        )
        path = next(filter(os.path.isfile, candidates), None)
        if path is not None:
            used.append(use_artifact(path, kind=_KIND))
    return used


def _items(values: Any) -> list[Any]:
    is_list = not isinstance(values, (str, bytes, Mapping)) and hasattr(values, "__iter__")
    return list(values) if is_list else []


def _files_in(folder: str) -> Iterator[tuple[str, _Stat]]:
    """Yield the files in a folder, without our buffer, each with what tells that it changed."""
    for path in islice(_walk(folder, os.path.realpath(runtime.get().settings.journal.path)), _MAX_FILES):
        with contextlib.suppress(OSError):
            status = os.stat(path)  # noqa: PTH116 - as the paths are recorded
            yield path, (status.st_ino, status.st_size, status.st_mtime_ns)


def _walk(folder: str, buffer: str) -> Iterator[str]:
    # A folder that is not there, or went away, has no files.
    for place, folders, names in os.walk(folder):
        if os.path.realpath(place) == buffer:
            folders.clear()
        else:
            yield from _joined(place, names)


def _joined(folder: str, names: list[str]) -> list[str]:
    return [os.path.join(folder, name) for name in names]  # noqa: PTH118 - as they are recorded
