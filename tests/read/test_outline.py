"""The tree of a campaign that is read line by line is that of its rows, in memory that does not grow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import records
from flowprov.journal.reader import JournalReader
from flowprov.read import Buffer, tree
from flowprov.read.outline import Outline
from flowprov.read.source import Source
from flowprov.read.task_ids import TaskIds
from flowprov.records import Correction, Footer, Heartbeat, OpenTask, Record, Workflow
from tests.journal.support import NS, header, step, write
from tests.read.campaigns import Campaigns, record_campaigns
from tests.read.locations import SERVERS, Location

MANY = 1_000_000  # as siblings that are shown


def outline(source: str | Path, campaign_id: str | None = None, **options: Any) -> list[str]:
    chosen = Source(source)
    return list(Outline(chosen.require_campaign(campaign_id), **options).lines())


def tree_of_rows(source: str | Path, campaign_id: str | None = None, **options: Any) -> list[str]:
    rows = list(Buffer(source).records(campaign_id=campaign_id, merge=True))
    return tree(rows, **options).splitlines()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Campaigns:
    return record_campaigns(tmp_path_factory.mktemp("outline"))


OPTIONS: dict[str, dict[str, Any]] = {
    "all of it": {"most": MANY},
    "the last six": {},
    "the last one": {"most": 1},
    "counts only": {"most": 0},
    "two levels": {"depth": 2},
    "one level": {"depth": 1},
    "three levels of one": {"depth": 3, "most": 1},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_it_is_the_tree_of_the_rows(recorded: Campaigns, options: dict[str, Any]) -> None:
    for campaign_id in (recorded.everything, recorded.older):
        expected = tree_of_rows(recorded.folder, campaign_id, **options)
        assert outline(recorded.folder, campaign_id, fold_forwards=False, **options) == expected
    assert len(expected) > 0


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_has_the_same_tree(
    kind: str, recorded: Campaigns, location_of: Callable[[str], Location]
) -> None:
    location = location_of(kind)
    location.deliver(recorded.folder)
    assert outline(str(location.source), recorded.older) == outline(recorded.folder, recorded.older)


HARD_CASES: dict[str, list[list[Record]]] = {
    "parents that are not there": [
        [
            header("a"),
            step(0, 2, parent_task_id=99),
            step(1, 3, parent_task_id="x-1", workflow_id="w"),
            step(2, 4),
        ],
        [header("b"), Workflow(workflow_id="w", name="W", parent_workflow_id="gone", started_at=NS)],
    ],
    "children before and after their parents, in other journals": [
        [header("a"), step(1, 3, parent_task_id=0), step(0, 1, workflow_id="w")],
        [header("b", pid=2), step(0, 2, parent_task_id="a-0"), step(1, 2, parent_task_id="a-1")],
        [header("c", pid=3), Workflow(workflow_id="w", name="W", status="RUNNING", started_at=NS)],
    ],
    "a forked child that numbers on": [
        [header("a"), step(0, workflow_id="w"), Workflow(workflow_id="w", name="W", started_at=NS)],
        [header("b", pid=2, first_number=5, ancestors=[("a", 0)]), step(5, 2, parent_task_id=0)],
    ],
    "starts with and without ends": [
        [
            header("a"),
            step(0, status="RUNNING", ended_at=None, used={"x": 1}),
            step(1, 2, status="RUNNING", ended_at=None),
            step(0, generated={"y": 2}),
            OpenTask(task_id=2, activity_id="open", started_at=3 * NS, status="RUNNING"),
            OpenTask(task_id=3, activity_id="closed", started_at=NS, status="RUNNING"),
            step(3, 4, activity_id="closed"),
            Heartbeat(at=NS, captured=1, written=1, open=[2]),
        ],
    ],
    "corrections": [
        [
            header("a"),
            step(0, activity_id="s"),
            step(1, activity_id="s"),
            Correction(
                task_id=0, status="ERROR", error=records.Error(type="ValueError", message="late\\nmore")
            ),
            Correction(task_id=1, used={"x": 1}),
        ],
    ],
    "ids of other kinds": [
        [
            header("a"),
            step("01a222cc-7045-720f-b38b-ab691b29563b"),
            step("task-007", parent_task_id="01a222cc-7045-720f-b38b-ab691b29563b"),
            step("a-5", parent_task_id="task-007"),
            step("x", parent_task_id=5),
            step("-", parent_task_id="x"),
            step("y-99999999999999999999", parent_task_id="-"),
        ],
    ],
    "a workflow of several ranks": [
        [
            header(f"r{rank}", rank=rank, pid=rank),
            Workflow(workflow_id="w", name="W", status="RUNNING", started_at=NS, used={"lr": 1}),
            *(step(number, number, workflow_id="w", used={"i": number}) for number in range(4)),
            Workflow(workflow_id="w", status="ERROR" if rank else "FINISHED", ended_at=9 * NS),
            Footer(at=9 * NS, captured=6, written=6),
        ]
        for rank in range(3)
    ],
    "links in a circle": [[header("a"), step(0, parent_task_id=1), step(1, parent_task_id=0), step(2)]],
    "no times": [[header("a"), step(0, started_at=None, ended_at=None), step(1), step(2, submitted_at=5)]],
    "damaged lines": [[header("a"), step(0, used={"x": 1}), step(1)]],
    "nothing": [[header("a")]],
}


@pytest.mark.parametrize("journals", HARD_CASES.values(), ids=HARD_CASES)
@pytest.mark.parametrize("options", [{}, {"most": 1, "depth": 2}], ids=["all", "little"])
def test_hard_cases_have_the_tree_of_their_rows(
    journals: list[list[Record]], options: dict[str, Any], tmp_path: Path
) -> None:
    for records_of_one in journals:
        path = write(tmp_path, *records_of_one)  # type: ignore[arg-type]
        path.write_bytes(path.read_bytes() + b'{"type":"task","task_id":[1]}\n{"type":"task"\n')
    assert outline(tmp_path, fold_forwards=False, **options) == tree_of_rows(tmp_path, **options)


def record_epochs(folder: Path, epochs: int) -> None:
    """Write a run of some epochs, each with 100 batches, each with a forward and two inside it."""
    lines = [header("a"), Workflow(workflow_id="w", name="W", status="RUNNING", started_at=NS)]
    path = write(folder, *lines)  # type: ignore[arg-type]
    number = 0
    with path.open("ab") as file:
        for epoch in range(epochs):
            ids = iter(range(number, number + 401))
            outer = next(ids)
            for i in range(100):
                batch, forward, *inner = (next(ids) for _ in range(4))
                common: dict[str, Any] = {
                    "started_at": NS + batch,
                    "ended_at": NS + batch + 1,
                    "workflow_id": "w",
                }
                for child in inner:
                    file.write(
                        records.encode(
                            step(
                                child,
                                parent_task_id=forward,
                                activity_id="Linear",
                                subtype="child_forward",
                                **common,
                            )
                        )
                    )
                file.write(
                    records.encode(
                        step(
                            forward,
                            parent_task_id=batch,
                            activity_id="MLP",
                            subtype="parent_forward",
                            **common,
                        )
                    )
                )
                file.write(
                    records.encode(
                        step(batch, parent_task_id=outer, activity_id="batch", used={"i": i}, **common)
                    )
                )
            file.write(
                records.encode(
                    step(
                        outer, workflow_id="w", activity_id="epoch", used={"i": epoch}, started_at=NS + outer
                    )
                )
            )
            number += 401


def peak_memory(call: Callable[[], Any]) -> int:
    """Return the most bytes that Python objects take during a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.soak
def test_memory_does_not_grow_with_the_number_of_tasks(tmp_path: Path) -> None:
    peaks = {}
    for epochs in (40, 160):
        record_epochs(tmp_path / str(epochs), epochs)
        outline(tmp_path / str(epochs))  # what is loaded once
        peaks[epochs] = peak_memory(lambda n=epochs: outline(tmp_path / str(n)))  # type: ignore[misc]
    more_tasks = 120 * 401
    assert peaks[160] - peaks[40] < 8 * more_tasks  # bytes: a record takes more than a hundred times of that
    rows = peak_memory(lambda: tree_of_rows(tmp_path / "160"))
    assert peaks[160] < rows / 5


def test_forwards_are_one_line_with_their_count(tmp_path: Path) -> None:
    record_epochs(tmp_path, 2)
    lines = outline(tmp_path, most=1)
    assert [line.split("  FINISHED")[0] for line in lines] == [
        "W  INTERRUPTED",
        "  ... 1 earlier epoch",
        "  epoch",
        "    ... 99 earlier batch",
        "    batch",
        "      MLP (forward)",
        "        Linear (forward) \N{MULTIPLICATION SIGN}2",
    ]
    assert lines[-1].endswith("0.002 µs in all")
    assert sum("Linear" in line for line in outline(tmp_path, most=1, fold_forwards=False)) == 2


def test_a_set_of_ids_takes_a_bit_for_each_number() -> None:
    ids = TaskIds()
    assert not ids
    for name in ("a-0", "a-4096", "b-0", "a-00", "x", "-1", "a-", "a-9999999999", "a-\u0661"):
        assert name not in ids
        ids.add(name)
        assert name in ids
    assert "b-1" not in ids

    def fill() -> None:
        for number in range(100_000):
            ids.add(f"j-{number}")

    assert peak_memory(fill) < 2_000_000


def test_a_running_campaign_can_be_drawn_again_and_again(buffer: Path) -> None:
    with flowprov.workflow("W"):
        for number in flowprov.Loop(3, name="step"):
            assert [line.split("  ")[-1] for line in outline(buffer)][:1] == ["RUNNING"]
            assert len(outline(buffer)) >= number


def _chain(folder: Path, depth: int) -> Path:
    tasks = (step(n, n, parent_task_id=n - 1 if n else None, activity_id="recurse") for n in range(depth))
    write(folder, header("a"), *tasks)
    return folder


@pytest.mark.parametrize("depth", [5, 21, 300])
def test_a_chain_of_any_depth_is_the_tree_of_its_rows(depth: int, tmp_path: Path) -> None:
    folder = _chain(tmp_path, depth)
    drawn = outline(folder)
    assert drawn == tree_of_rows(folder)
    assert len(drawn) == depth + (depth > 21)


def test_a_deep_chain_names_its_levels_instead_of_indenting_them(tmp_path: Path) -> None:
    drawn = outline(_chain(tmp_path, 12_000))
    assert drawn[21].startswith(f"{'  ' * 20}[level 22] recurse")
    assert drawn[-2].startswith(f"{'  ' * 20}[level 12000] recurse")
    assert drawn[-1] == "... 12000 levels deep"
    assert sum(map(len, drawn)) < 1_500_000


def test_a_deep_chain_is_read_a_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _chain(tmp_path, 2_000)
    count = 0
    real = JournalReader._decode_lines

    def decode_lines(self: Any, start: int, data: bytes) -> Any:
        nonlocal count
        count += data.count(b"\n")
        return real(self, start, data)

    monkeypatch.setattr(JournalReader, "_decode_lines", decode_lines)
    outline(folder)
    assert count < 20 * 2_000


def test_memory_for_a_deep_chain_is_linear(tmp_path: Path) -> None:
    few, many = _chain(tmp_path / "few", 1_000), _chain(tmp_path / "many", 4_000)
    assert peak_memory(lambda: outline(many)) < 6 * peak_memory(lambda: outline(few))


def test_siblings_inside_a_deep_chain_are_counted(tmp_path: Path) -> None:
    def chain() -> Iterator[Record]:
        for level in range(30):
            parent = 100 * (level - 1) if level else None
            yield step(100 * level, 1, activity_id="recurse", parent_task_id=parent)
            for n in range(1, 20):
                yield step(100 * level + n, 2, activity_id="leaf", parent_task_id=100 * level)

    write(tmp_path, header("a"), *chain())
    drawn = outline(tmp_path, most=2)
    assert drawn == tree_of_rows(tmp_path, most=2)
    assert sum("... 17 earlier leaf" in line for line in drawn) == 30


def test_a_task_with_two_parents_is_drawn_inside_both_and_opened_once(tmp_path: Path) -> None:
    inside = step(1, 2, parent_task_id=0, activity_id="b")
    again = step(0, 1, parent_task_id=1, activity_id="a")
    write(tmp_path, header("a"), step(0, 1, activity_id="a"), inside, again)
    assert len(outline(tmp_path)) <= 3


def test_workflows_in_a_circle_are_shown(tmp_path: Path) -> None:
    write(
        tmp_path,
        header("a"),
        *(
            Workflow(
                workflow_id=f"w{n}", name=f"w{n}", parent_workflow_id=f"w{(n + 1) % 3}", started_at=n + 1
            )
            for n in range(3)
        ),
        step(0, workflow_id="w1"),
    )
    drawn = outline(tmp_path)
    assert drawn == tree_of_rows(tmp_path)
    assert len(drawn) == 4
