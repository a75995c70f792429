"""What a report is made of.

Flows in: nothing. Flows out: dataclasses. They hold texts and places in drawings, so that a template has
nothing to compute; texts are recorded ones, cut and as one line, but not yet escaped as HTML or Markdown.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flowprov.report.scales import Tick


@dataclass(frozen=True)
class Fact:
    """A label, what it is, and what is to be said of it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, by what it is sorted (None: last), and the whole text if that was cut."""

    text: str
    key: float | str | None = None
    title: str = ""


@dataclass(frozen=True)
class Column:
    """A column: how people and filters call it, and whether it holds numbers."""

    title: str
    name: str
    numeric: bool = False


@dataclass(frozen=True)
class RunRow:
    """A run: its number in the report, its color (1 to 7, 0 for none), and its cells."""

    number: int
    run_id: str
    label: str
    status: str
    color: int
    cells: list[Cell]


@dataclass(frozen=True)
class RunTable:
    """The runs, the best ones first; ``total`` is how many there are, ``goal`` by what they are sorted."""

    columns: list[Column]
    rows: list[RunRow]
    total: int
    goal: str = ""


@dataclass(frozen=True)
class Best:
    """The best run: its number, its value of a metric, and the parameters in which runs differ."""

    number: int
    label: str
    run_id: str
    metric: str
    value: str
    direction: str
    params: list[Fact]
    facts: list[Fact]


@dataclass(frozen=True)
class Curve:
    """The values of a metric in one run: ``path`` is in the units of the values."""

    run: int
    color: int
    label: str
    path: str


@dataclass(frozen=True)
class Chart:
    """The curves of one metric.

    ``transform`` leads from values to places; the curves of runs that have a color come last.
    """

    name: str
    curves: list[Curve]
    transform: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ParallelAxis:
    """An axis of parallel coordinates."""

    title: str
    at: float
    ticks: list[Tick]


@dataclass(frozen=True)
class ParallelLine:
    """A run in parallel coordinates; ``shade`` is 0 to 4, the best fifth is 4."""

    run: int
    color: int
    shade: int
    label: str
    points: str


@dataclass(frozen=True)
class Parallel:
    """Parameters against a metric, which is the last axis."""

    axes: list[ParallelAxis]
    lines: list[ParallelLine]
    width: int
    notes: list[str]


@dataclass(frozen=True)
class Bar:
    """A task in a timeline; ``color`` is 1 to 5 by its activity, 0 for all others."""

    x: float
    y: float
    width: float
    color: int
    failed: bool
    text: str


@dataclass(frozen=True)
class Lane:
    """A process in a timeline."""

    label: str
    y: float
    height: float


@dataclass(frozen=True)
class Strip:
    """A series of telemetry under a timeline: its label, its largest value, and its line."""

    label: str
    top: str
    y: float
    line: str


@dataclass(frozen=True)
class Timeline:
    """Tasks over the processes in which they ran, with telemetry beneath."""

    lanes: list[Lane]
    bars: list[Bar]
    strips: list[Strip]
    ticks: list[Tick]
    legend: list[tuple[int, str]]
    height: float
    lanes_bottom: float
    notes: list[str]


@dataclass(frozen=True)
class TreeLine:
    """A line of the tree; a line without a status stands for many, and has no id."""

    level: int
    title: str
    status: str
    duration: str
    rest: str
    id: str = ""


@dataclass(frozen=True)
class Activity:
    """What all calls of one function, module or loop took together; ``share`` is a percentage of the most."""

    name: str
    kind: str
    calls: int
    total: str
    mean: str
    longest: str
    share: float
    errors: int


@dataclass(frozen=True)
class FailureGroup:
    """Failures of one kind: where it began, how often, and the traceback of the last one."""

    error: str
    message: str
    activity: str
    when: str
    place: str
    times: int
    ended: int
    traceback: str
    id: str


@dataclass(frozen=True)
class Node:
    """An artifact, a task or a workflow in a lineage graph."""

    x: float
    y: float
    kind: str
    label: str
    detail: str
    title: str


@dataclass(frozen=True)
class LineageGraph:
    """What was made of what; ``edges`` are paths."""

    nodes: list[Node]
    edges: list[str]
    width: float
    height: float
    notes: list[str]


@dataclass(frozen=True)
class CodeFacts:
    """A state of the code, and the workflows that ran on it."""

    facts: list[Fact]
    workflows: str


@dataclass(frozen=True)
class CodeAndMachines:
    """Code, machines, settings and packages of a campaign."""

    code: list[CodeFacts]
    machines: list[list[Fact]]
    packages: list[str]
    settings: str


@dataclass(frozen=True)
class JournalRow:
    """A journal: what its process counted, and what is there."""

    name: str
    where: str
    state: str
    captured: str
    written: str
    dropped: str
    found: str
    fault: str


@dataclass(frozen=True)
class RecordCheck:
    """How complete the record of a campaign is, and what it takes."""

    verdict: str
    sentence: str
    facts: list[Fact]
    journals: list[JournalRow]
    journals_left_out: int
    findings: list[str]


@dataclass(frozen=True)
class CampaignPart:
    """What a report says of one campaign."""

    number: int
    name: str
    campaign_id: str
    status: str
    facts: list[Fact]
    timeline: Timeline | None
    tree: list[TreeLine]
    tree_left_out: int
    activities: list[Activity]
    failures: list[FailureGroup]
    failures_total: int
    open_items: list[str]
    surroundings: CodeAndMachines
    lineage: LineageGraph | None
    check: RecordCheck
    notes: list[str]


@dataclass(frozen=True)
class Report:
    """A report on runs of one campaign or several."""

    title: str
    status: str
    made_at: str
    version: str
    facts: list[Fact]
    best: Best | None
    why_no_best: str
    runs: RunTable
    charts: list[Chart]
    parallel: Parallel | None
    campaigns: list[CampaignPart]
    notes: list[str]
