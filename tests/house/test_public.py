"""The public names of flowprov and their arguments are a contract."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import flowprov
from tests.support import REPOSITORY

NAMES = [
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

# The arguments and their defaults, as the contract has them.
SIGNATURES = {
    "runs": "(source=None, *, campaign_id=None, attempts=False)",
    "metrics": "(source=None, *, campaign_id=None, run_id=None, names=None, attempts=False)",
    "campaigns": "(source=None)",
    "data_commit": "(*paths, message=None)",
    "versions": "(source=None, *, campaign_id=None)",
    "diff": "(a, b, source=None, *, forwards=False)",
    "query": "(sql, source=None, *, campaign_id=None)",
    "artifacts": "(source=None, *, campaign_id=None)",
    "lineage": "(what, source=None, *, up=True, down=False, depth=None)",
    "whence": "(path, source=None)",
    "log_artifact": (
        "(path_or_object, name=None, *, kind=None, epoch=None, step=None, metadata=None, keep=False)"
    ),
    "use_artifact": "(path_or_object, name=None, *, kind=None, metadata=None)",
    "log_params": "(params=None, /, **more)",
    "log_metrics": "(metrics=None, /, *, step=None, **more)",
    "resume_from": "(checkpoint=None, *, step=None, epoch=None, workflow_id=None)",
    "sampled": "(loader_or_sampler, /, name=None)",
    "samples": "(run_id, source=None)",
    "log_config": "(values, *, file=None, overrides=None, defaults=None)",
    "recipe": "(cls=None, *, phases=None, config=None, checkpoints=None)",
    "campaign": "(name=None, *, campaign_id=None)",
    "workflow": (
        "(name=None, *, campaign_id=None, workflow_id=None, parent_workflow_id=None, used=None, "
        "subtype=None, custom_metadata=None, dask_client=None)"
    ),
    "task_scope": "(name, *, used=None, subtype=None, tags=None, custom_metadata=None)",
    "Loop": (
        "(items, *, name='loop', item_name='item', total=None, parent_task_id=None, workflow_id=None, "
        "capture_enabled=True)"
    ),
    "EpochLoop": "(items, model=None, *, parent_task_id=None, workflow_id=None, capture_enabled=True)",
    "BatchLoop": (
        "(items, epoch_loop=None, *, step='train', total=None, parent_task_id=None, workflow_id=None, "
        "capture_enabled=True)"
    ),
    "torch_capture": (
        "(cls_or_model=None, *, name=None, what=None, children_mode=None, depth=None, include=None, "
        "exclude=None, get_profile=None)"
    ),
    "torch_release": "(model)",
    "DaskWorkerPlugin": "()",
    "bind": "(function)",
    "read_buffer": (
        "(source=None, *, campaign_id=None, workflow_id=None, merge=False, return_df=True, flat=False)"
    ),
    "Buffer": "(source=None)",
    "configured": "(**overrides)",
    "configure": "(settings_or_path=None, **overrides)",
}


def _public(name: str) -> Any:
    """Return a public object; skip the test if it is for torch and torch is missing."""
    if name.startswith("torch_"):
        pytest.importorskip("torch")
    return getattr(flowprov, name)


def test_the_public_names_are_these() -> None:
    assert sorted(flowprov.__all__) == NAMES
    assert dir(flowprov) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = _public(name)
    if name != "__version__":
        assert value.__doc__


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_the_arguments_are_those_of_the_contract(name: str) -> None:
    parameters = inspect.signature(_public(name)).parameters.values()
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    assert str(inspect.Signature(bare)) == SIGNATURES[name]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tusk'"):
        _ = flowprov.tusk


def test_the_citation_has_the_version_of_the_package() -> None:
    assert f"\nversion: {flowprov.__version__}\n" in (REPOSITORY / "CITATION.cff").read_text()
