"""What is known of the tasks and workflows of a graph beside their artifacts: names, parameters, metrics.

Flows in: sources and the campaigns of a graph. Flows out: a description for each task and workflow, with the
code and the data on which it ran; of what generated an artifact, with the metrics of that moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.contents import Contents, read_contents, read_runs
from flowprov.read.answers.kept_versions import KeptVersion, Versions, version_at_start
from flowprov.read.answers.run_search import TaskTree
from flowprov.read.answers.series import Value, values_of
from flowprov.read.answers.tables import Line, run_lines, runs_with_attempts
from flowprov.read.artifacts.catalog import GENERATED, Sighting
from flowprov.read.campaign_names import campaign_of
from flowprov.read.labels import ITERATION
from flowprov.read.source import Source
from flowprov.records import Campaign, Task, Version, Workflow

_CODE = ("commit", "branch", "remote")
_DATA = ("path", "md5", "state")
_MANY_BYTES = 40_000_000  # of journals; of larger campaigns only the runs are read


class Description(msgspec.Struct):
    """A task or workflow, as a person wants to know it.

    Attributes
    ----------
    name, status, started_at, ended_at
        Of its record; None where that is not known.
    campaign, workflow, kept_version
        The name of its campaign, the record of its workflow, and on which version that ran.
    run
        The line of its run: parameters and metrics.
    metrics_then
        The metrics of its run when it generated an artifact; None if it used it, or if they are not known.
    """

    name: str | None = None
    status: str | None = None
    started_at: int | None = None
    ended_at: int | None = None
    campaign: str | None = None
    workflow: Workflow | None = None
    kept_version: KeptVersion | None = None
    run: Line | None = None
    metrics_then: Line | None = None

    @property
    def version(self) -> Version | None:
        """The record of the version."""
        return None if self.kept_version is None else self.kept_version.record

    def packages(self) -> list[str]:
        """Return the packages that were installed, as ``name==version``, as far as they are known."""
        return (None if self.kept_version is None else self.kept_version.packages()) or []

    def parameters(self) -> Line:
        """Return the parameters of its run."""
        return self._of_run("params.")

    def metrics(self) -> Line:
        """Return the metrics of its run, of each the last value at its end."""
        found = self._of_run("metrics.")
        return {name: value for name, value in found.items() if not name.endswith((".min", ".max"))}

    def _of_run(self, prefix: str) -> Line:
        run = self.run or {}
        return {name.removeprefix(prefix): value for name, value in run.items() if name.startswith(prefix)}

    def code(self) -> Line:
        """Return with which code it ran, as far as that is known."""
        known = {} if self.workflow is None else self.workflow.code_repository or {}
        if self.version is not None and self.version.code:
            known = {**known, **self.version.code}
        code = {name: known[name] for name in _CODE if isinstance(known.get(name), str)}
        dirty = known.get("dirty")
        if code and isinstance(dirty, bool):
            code["state"] = "with changes that are not committed" if dirty else "clean"
        return code

    def data(self) -> list[str]:
        """Return which data DVC declared when it began: path, digest and state."""
        declared = [] if self.version is None else self.version.data or []
        return [
            "  ".join(str(one[name]) for name in _DATA if one.get(name) is not None)
            for one in declared
            if isinstance(one, dict)
        ]


class Background:
    """Descriptions of tasks and workflows, read campaign by campaign as they are asked for."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._campaigns: dict[str, _Campaign] = {}

    def describe(self, sighting: Sighting) -> Description:
        """Return what is known of who used or generated an artifact."""
        campaign = self._campaign(sighting.campaign_id)
        workflow = campaign.workflows.get(sighting.workflow_id)
        record: Task | Workflow | None = workflow
        if sighting.task_id is not None:
            record = campaign.tasks.get(sighting.task_id)
        described = Description(campaign=campaign.name, workflow=workflow)
        attempt = None if workflow is None else workflow.attempt
        described.kept_version = version_at_start(campaign.versions, sighting.workflow_id, attempt)
        if record is not None:
            described.name = record.activity_id if isinstance(record, Task) else record.name
            described.status = record.status
            described.started_at, described.ended_at = record.started_at, record.ended_at
        for run_id in (*sighting.around, sighting.workflow_id):
            if run_id in campaign.runs:
                described.run = campaign.runs[run_id]
                described.metrics_then = campaign.metrics_then(run_id, sighting)
                break
        return described

    def run_of(self, sighting: Sighting) -> str:
        """Return the id of the run in which an artifact was used or generated."""
        runs = self._campaign(sighting.campaign_id).runs
        return next((one for one in sighting.around if one in runs), sighting.workflow_id)

    def parents(self, campaign_ids: Iterable[str]) -> dict[str, str]:
        """Return the workflow around each workflow of some campaigns."""
        found = {}
        for campaign_id in campaign_ids:
            for name, workflow in self._campaign(campaign_id).workflows.items():
                if workflow.parent_workflow_id is not None:
                    found[name] = workflow.parent_workflow_id
        return found

    def _campaign(self, campaign_id: str) -> _Campaign:
        if campaign_id not in self._campaigns:
            journals: list[JournalSummary] = []
            for source in self._sources:
                journals += source.campaign(campaign_id)
            self._campaigns[campaign_id] = _Campaign(journals)
        return self._campaigns[campaign_id]


class _Campaign:
    """What is known of a campaign."""

    def __init__(self, journals: Sequence[JournalSummary]) -> None:
        self.name: str | None = None
        self.tasks: dict[str, Task] = {}
        self.workflows: dict[str, Workflow] = {}
        self.runs: dict[str, Line] = {}
        self.versions: Versions = {}
        self._whole: Contents | None = None
        self._values: dict[str, list[Value]] = {}
        if not journals:
            return
        campaign = campaign_of(journals)
        self.name = campaign.name
        contents, is_whole = _contents(campaign, journals)
        self._whole = contents if is_whole else None
        self.versions = contents.versions
        for row in contents.rows:
            if isinstance(row, Task):
                self.tasks[str(row.task_id)] = row
            else:
                self.workflows[row.workflow_id] = row
        self.runs = {str(line["run_id"]): line for line in run_lines(contents)}

    def metrics_then(self, run_id: str, sighting: Sighting) -> Line | None:
        """Return the metrics of a run when an artifact was generated in it; None if they are not known.

        An iteration says what it measured after its checkpoint as a rule, and that counts. Of other metrics
        the last value before the artifact counts.
        """
        if sighting.role != GENERATED or self._whole is None:
            return None
        around = (one for one in sighting.around if one in self.tasks)
        iteration = next((one for one in around if self.tasks[one].subtype == ITERATION), None)
        then: Line = {}
        for value in self._values_of(run_id, self._whole):
            is_of_it = iteration is not None and value.task_id == iteration
            if is_of_it or (value.at or 0) <= sighting.at:
                then[value.name] = value.value
        return {name: then[name] for name in sorted(then)}

    def _values_of(self, run_id: str, contents: Contents) -> list[Value]:
        """Return the values of all attempts of a run in the order of their times."""
        if not self._values:
            tree = TaskTree(contents)
            for group in runs_with_attempts(contents, attempts=False):
                values = [value for run in group for value in values_of([run], tree)]
                self._values[group[0].run_id] = sorted(values, key=lambda value: value.at or 0)
        return self._values.get(run_id, [])


def _contents(campaign: Campaign, journals: Sequence[JournalSummary]) -> tuple[Contents, bool]:
    """Read a campaign; return what it holds, and whether that is all of it."""
    try:
        is_whole = sum(journal.path.stat().st_size for journal in journals) < _MANY_BYTES
    except OSError:  # one went away meanwhile
        is_whole = True
    return (read_contents if is_whole else read_runs)(campaign, journals), is_whole
