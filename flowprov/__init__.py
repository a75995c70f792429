"""flowprov records the provenance of PyTorch and Dask campaigns.

The import has no effect and is fast: each public name is loaded when it is first used. With the first that
records, all are loaded that a program calls while it runs.
"""

from __future__ import annotations

from flowprov.lazy_imports import import_lazily

TYPE_CHECKING = False  # type checkers know the name; to import typing takes as long as all else here
if TYPE_CHECKING:
    from typing import Any

    from flowprov.capture.artifacts.calls import log_artifact, use_artifact
    from flowprov.capture.binding import bind
    from flowprov.capture.campaign import campaign
    from flowprov.capture.dask import DaskWorkerPlugin
    from flowprov.capture.data_commit import data_commit
    from flowprov.capture.handles import current_task, current_workflow
    from flowprov.capture.log_calls import log_metrics, log_params
    from flowprov.capture.log_config import log_config
    from flowprov.capture.loops import Loop
    from flowprov.capture.recipe import recipe
    from flowprov.capture.resume import resume_from
    from flowprov.capture.sampled import sampled
    from flowprov.capture.task import task
    from flowprov.capture.task_scope import task_scope
    from flowprov.capture.torch import torch_capture, torch_release
    from flowprov.capture.training_loops import BatchLoop, EpochLoop
    from flowprov.capture.workflow import workflow
    from flowprov.errors import FlowprovError, JournalError, MissingExtraError, SettingsError, UsageError
    from flowprov.read import Buffer, campaigns, diff, metrics, query, read_buffer, runs, samples, versions
    from flowprov.read.artifacts.questions import artifacts, lineage, whence
    from flowprov.runtime.configured import configured
    from flowprov.runtime.runtime import configure
    from flowprov.version import __version__

_MODULE_OF = {
    "__version__": "flowprov.version",
    "BatchLoop": "flowprov.capture.training_loops",
    "Buffer": "flowprov.read",
    "DaskWorkerPlugin": "flowprov.capture.dask",
    "EpochLoop": "flowprov.capture.training_loops",
    "FlowprovError": "flowprov.errors",
    "JournalError": "flowprov.errors",
    "Loop": "flowprov.capture.loops",
    "MissingExtraError": "flowprov.errors",
    "SettingsError": "flowprov.errors",
    "UsageError": "flowprov.errors",
    "artifacts": "flowprov.read.artifacts.questions",
    "bind": "flowprov.capture.binding",
    "campaign": "flowprov.capture.campaign",
    "campaigns": "flowprov.read",
    "configure": "flowprov.runtime.runtime",
    "configured": "flowprov.runtime.configured",
    "current_task": "flowprov.capture.handles",
    "current_workflow": "flowprov.capture.handles",
    "data_commit": "flowprov.capture.data_commit",
    "diff": "flowprov.read",
    "lineage": "flowprov.read.artifacts.questions",
    "load_ipython_extension": "flowprov.integrations.ipython",  # for IPython alone
    "log_artifact": "flowprov.capture.artifacts.calls",
    "log_config": "flowprov.capture.log_config",
    "log_metrics": "flowprov.capture.log_calls",
    "log_params": "flowprov.capture.log_calls",
    "metrics": "flowprov.read",
    "query": "flowprov.read",
    "read_buffer": "flowprov.read",
    "recipe": "flowprov.capture.recipe",
    "resume_from": "flowprov.capture.resume",
    "runs": "flowprov.read",
    "sampled": "flowprov.capture.sampled",
    "samples": "flowprov.read",
    "task": "flowprov.capture.task",
    "task_scope": "flowprov.capture.task_scope",
    "torch_capture": "flowprov.capture.torch",
    "torch_release": "flowprov.capture.torch",
    "unload_ipython_extension": "flowprov.integrations.ipython",
    "use_artifact": "flowprov.capture.artifacts.calls",
    "versions": "flowprov.read",
    "whence": "flowprov.read.artifacts.questions",
    "workflow": "flowprov.capture.workflow",
}

_STAND_INS = "flowprov.capture.unloaded"
# Later the files of the package may be gone or of another version, or no descriptor may be left to read them.
_LOADED_TOGETHER = (
    "BatchLoop",
    "EpochLoop",
    "Loop",
    "bind",
    "campaign",
    "configured",
    "current_task",
    "current_workflow",
    "log_metrics",
    "log_params",
    "sampled",
    "task",
    "task_scope",
    "workflow",
)

__all__ = [
    "BatchLoop",
    "Buffer",
    "DaskWorkerPlugin",
    "EpochLoop",
    "FlowprovError",
    "JournalError",
    "Loop",
    "MissingExtraError",
    "SettingsError",
    "UsageError",
    "__version__",
    "artifacts",
    "bind",
    "campaign",
    "campaigns",
    "configure",
    "configured",
    "current_task",
    "current_workflow",
    "data_commit",
    "diff",
    "lineage",
    "log_artifact",
    "log_config",
    "log_metrics",
    "log_params",
    "metrics",
    "query",
    "read_buffer",
    "recipe",
    "resume_from",
    "runs",
    "sampled",
    "samples",
    "task",
    "task_scope",
    "torch_capture",
    "torch_release",
    "use_artifact",
    "versions",
    "whence",
    "workflow",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'flowprov' has no attribute {name!r}")
    if not module.startswith("flowprov.capture."):
        return _load(name)
    _load_together()
    try:
        return globals()[name] if name in globals() else _load(name)
    except Exception as error:  # the guard: the program goes on, and the next use tries again
        return import_lazily(_STAND_INS).stand_in(name, error)


def _load_together() -> None:
    """Load what a program calls while it runs; what cannot be loaded is tried again at its own first use."""
    for name in _LOADED_TOGETHER:
        if name not in globals():
            try:
                _load(name)
            except Exception:  # noqa: S112 - the guard: another name was asked for
                continue
    try:
        import_lazily(_STAND_INS)
    except Exception:  # the guard
        return


def _load(name: str) -> Any:
    value = globals()[name] = getattr(import_lazily(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
