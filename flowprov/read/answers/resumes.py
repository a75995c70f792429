"""Which workflows went on from others: the attempts of a run that have ids of their own.

Flows in: what programs said with ``resume_from``. Flows out: for each workflow the one with which its run
began, and where the counts of a later attempt begin.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flowprov.records import RESUMED_FROM, Workflow

_EPOCH = "epoch"


class Resume(NamedTuple):
    """From where a workflow went on.

    Attributes
    ----------
    workflow_id
        The workflow of the attempt before; None if that is not known.
    step, epoch
        How many the attempts before had done; None if that was not said.
    at
        When the checkpoint was written, in nanoseconds since the epoch; None if that is not known.
    used, generated
        Ids of the artifact that it went on from, as it used it, and as the attempt before generated it; None
        if they are not known.
    """

    workflow_id: str | None
    step: int | None
    epoch: int | None
    at: int | None = None
    used: str | None = None
    generated: str | None = None


def resume_of(workflow: Workflow) -> Resume | None:
    """Return from where a workflow went on; None if it began anew."""
    given = (workflow.custom_metadata or {}).get(RESUMED_FROM)
    if not isinstance(given, dict):
        return None
    checkpoint = given.get("checkpoint")
    used = checkpoint.get("$artifact") if isinstance(checkpoint, dict) else None
    earlier, generated = given.get("workflow_id"), given.get("generated")
    return Resume(
        earlier if isinstance(earlier, str) else None,
        _count(given.get("step")),
        _count(given.get(_EPOCH)),
        _count(given.get("at")),
        used if isinstance(used, str) else None,
        generated if isinstance(generated, str) else None,
    )


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


class Chains:
    """The workflows that are attempts of one run.

    Parameters
    ----------
    workflows
        All that are known.
    """

    def __init__(self, workflows: Iterable[Workflow]) -> None:
        known = list(workflows)
        ids = {one.workflow_id for one in known}
        self._earlier: dict[str, str] = {}
        for one in known:
            resume = resume_of(one)
            if resume is not None and resume.workflow_id in ids and resume.workflow_id != one.workflow_id:
                self._earlier[one.workflow_id] = str(resume.workflow_id)

    def first(self, workflow_id: str) -> str:
        """Return the workflow with which the run of a workflow began: maybe itself."""
        seen = set()
        while workflow_id in self._earlier and workflow_id not in seen:
            seen.add(workflow_id)  # whatever journals hold: a circle ends where it is met again
            workflow_id = self._earlier[workflow_id]
        return min(seen) if workflow_id in seen else workflow_id

    def joined(self) -> set[str]:
        """Return the workflows that begin a run of several."""
        return {self.first(one) for one in self._earlier}


class Began(NamedTuple):
    """When a value of a metric began to be measured.

    ``loop`` is the name of its loop, empty for what was logged; ``epoch`` the item of a loop over epochs.
    """

    at: int
    loop: str
    epoch: int | None = None


class ResumedCounts:
    """Where the counts of metrics go on after a resume.

    Parameters
    ----------
    resume
        From where the attempt went on.
    earlier
        For each metric the values of the attempts before, in their order. Values that a later attempt made
        again count once.
    """

    def __init__(self, resume: Resume, earlier: Mapping[str, Sequence[Began]]) -> None:
        self._resume = resume
        self._earlier = earlier
        self._at = resume.at if resume.at is not None else self._moment()

    def first(self, name: str, began: Began) -> int:
        """Return the number of the first value of a metric in the attempt.

        Parameters
        ----------
        name
            The metric.
        began
            That value.
        """
        resume, values = self._resume, self._earlier.get(name, ())
        is_of_epochs = began.loop == _EPOCH
        if resume.epoch is not None and is_of_epochs:
            return resume.epoch
        count = len(values) if self._at is None else bisect_left([one.at for one in values], self._at)
        if is_of_epochs and count and values[count - 1].epoch == began.epoch is not None:
            return count - 1  # it went on in the middle of this epoch
        # A checkpoint may be written before or behind the count of its step.
        return resume.step if resume.step is not None and abs(resume.step - count) <= 1 else count

    def _moment(self) -> int | None:
        """Return when the step or epoch began from which it went on; None if no attempt came so far."""
        resume = self._resume
        loops = [values for values in self._earlier.values() if values[0].loop != _EPOCH]
        epochs = [values for values in self._earlier.values() if values[0].loop == _EPOCH]
        for count, series in ((resume.step, loops), (resume.epoch, epochs)):
            longest = max(series, key=len, default=())
            if count is not None and count < len(longest):
                return longest[count].at
        return None
