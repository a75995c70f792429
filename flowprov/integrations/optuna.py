"""``FlowprovCallback`` for studies of Optuna: a trial is a run.

Flows in: trials that ended, and objectives that are tracked. Flows out: a workflow for each trial, with its
parameters, values and intermediate values. A trial that was pruned did not fail.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from flowprov import guard
from flowprov.capture.control_flow import add_control_flow
from flowprov.capture.log_calls import log_metrics_of
from flowprov.capture.workflow import workflow
from flowprov.capture.workflow_records import add_to_workflow, new_workflow_id, write_ending, write_opening
from flowprov.errors import MissingExtraError
from flowprov.integrations.run import callback
from flowprov.locks import create_lock
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope

try:
    import optuna as _optuna  # noqa: F401 - only to say in time that it is missing
except ModuleNotFoundError as error:
    if error.name != "optuna":
        raise  # Optuna is installed, and something that it needs is not: its own message says what
    raise MissingExtraError("optuna", "optuna", "follow its studies") from error

_TRIAL_PRUNED = "optuna.exceptions.TrialPruned"

F = TypeVar("F", bound=Callable[..., Any])

_NAME = "trial"
_SUBTYPE = "optuna_trial"
_FAILED, _PRUNED = "FAIL", "PRUNED"


class FlowprovCallback:
    """Record each trial of a study: ``study.optimize(objective, callbacks=[FlowprovCallback()])``.

    A trial is a workflow inside the one that is open. Optuna calls when a trial has ended. So what the
    objective itself records belongs to the trial only if the objective is tracked.
    """

    def __init__(self) -> None:
        self._tracked: dict[tuple[str, int], Scope] = {}
        self._lock = create_lock()

    def track(self, objective: F) -> F:
        """Return an objective each call of which is the workflow of its trial.

        Use it as a decorator, or as ``study.optimize(callback.track(objective), callbacks=[callback])``.
        """

        @functools.wraps(objective)
        def tracked(trial: Any, *args: Any, **kwargs: Any) -> Any:
            with workflow(_NAME, subtype=_SUBTYPE) as run:
                with guard.guarded("beginning a trial"):
                    scope = run._scope  # noqa: SLF001 - its own package
                    if scope is not None:
                        # Of loops and trainings inside, it is no failure either.
                        add_control_flow(_TRIAL_PRUNED)
                        with self._lock:
                            self._tracked[trial.study.study_name, trial.number] = scope
                return objective(trial, *args, **kwargs)

        return tracked  # type: ignore[return-value]

    @callback
    def __call__(self, study: Any, trial: Any) -> None:
        """Record a trial that ended."""
        with self._lock:
            scope = self._tracked.pop((study.study_name, trial.number), None)
        if scope is None:
            _record_past(study, trial)
        else:
            _record(scope, study, trial)


def _record_past(study: Any, trial: Any) -> None:
    """Record the workflow of a trial that ended and was not tracked."""
    active = runtime.get()
    if runtime.disabled() or not active.capturing:
        return

    def keep(scope: Scope) -> None:
        _record(scope, study, trial)
        write_ending(scope, error=Exception("the trial failed") if trial.state.name == _FAILED else None)

    parent = context.current_scope()
    campaign_id = active.campaign_id() if parent is None else parent.journal.identity.campaign_id
    start = trial.datetime_start
    write_opening(
        active.journal(campaign_id, None if parent is None else parent.journal.settings.path),
        new_workflow_id(campaign_id, _NAME),
        name=_NAME,
        parent_workflow_id=None if parent is None else parent.workflow_id,
        subtype=_SUBTYPE,
        started_at=None if start is None else int(start.timestamp() * 1e9),
        keep=keep,
    )


def _record(scope: Scope, study: Any, trial: Any) -> None:
    facts: dict[str, Any] = {
        "study": study.study_name,
        "number": trial.number,
        "state": trial.state.name,
        "directions": [direction.name for direction in study.directions],
        "user_attrs": dict(trial.user_attrs),
    }
    metadata: dict[str, Any] = {"optuna": facts}
    if trial.state.name == _PRUNED:
        metadata["ended_by"] = _TRIAL_PRUNED
    add_to_workflow(scope, used=dict(trial.params), custom_metadata=metadata)
    for step, value in sorted(trial.intermediate_values.items()):
        log_metrics_of(scope, {"intermediate_value": value}, step)
    if trial.values is not None:
        log_metrics_of(scope, dict(zip(_names(study, len(trial.values)), trial.values, strict=True)), None)


def _names(study: Any, count: int) -> list[str]:
    named = study.metric_names
    if named is not None and len(named) == count:
        return list(named)
    return ["value"] if count == 1 else [f"value_{number}" for number in range(count)]
