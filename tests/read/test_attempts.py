"""A workflow that ran again is one row per attempt; ranks that ran at the same time are one row."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import records
from flowprov.read import Buffer, ancestors, children, read_buffer, tree
from flowprov.records import Footer, Launch, Task, Workflow
from tests.journal.support import NS, header, step, write
from tests.read.locations import KINDS, Location
from tests.read.samples import counter_samples, rows_of, workflow
from tests.support import only, run

LocationOf = Callable[[str], Location]

_TRAINING = """
    import os, signal, sys
    import flowprov

    @flowprov.task
    def step(number):
        return number * 2

    rate, ending = float(sys.argv[1]), sys.argv[2]
    options = {"campaign_id": "c1", "workflow_id": "w", "used": {"rate": rate}}
    with flowprov.workflow("train", **options) as training:
        with flowprov.workflow("evaluation"):
            step(rate)
        if ending == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if ending == "raise":
            raise ValueError("diverged")
        training.set_generated(loss=rate / 2)
"""
_ENDINGS = {"kill": (-signal.SIGKILL, "INTERRUPTED"), "raise": (1, "ERROR"), "end": (0, "FINISHED")}


def _train(folder: Path, *attempts: tuple[float, str]) -> None:
    for rate, ending in attempts:
        run(_TRAINING, folder, str(rate), ending, status=_ENDINGS[ending][0])


def _attempts(rows: list[dict[str, Any]], workflow_id: str = "w") -> list[dict[str, Any]]:
    return [row for row in rows if row["type"] == "workflow" and row["workflow_id"] == workflow_id]


@pytest.mark.parametrize(
    "endings", [("kill", "end"), ("raise", "end"), ("end", "end"), ("kill", "kill", "raise")]
)
def test_a_workflow_that_is_resumed_by_its_id_has_a_row_for_each_attempt(
    tmp_path: Path, endings: tuple[str, ...]
) -> None:
    _train(tmp_path, *((0.1 * number, ending) for number, ending in enumerate(endings, 1)))
    rows = _attempts(read_buffer(tmp_path / "flowprov_buffer", return_df=False))
    assert [row["attempt"] for row in rows] == list(range(1, len(endings) + 1))
    assert [row["status"] for row in rows] == [_ENDINGS[ending][1] for ending in endings]
    assert [row["used"]["rate"] for row in rows] == [0.1 * number for number in range(1, len(endings) + 1)]
    for row, ending in zip(rows, endings, strict=True):
        assert row["generated"] == ({"loss": row["used"]["rate"] / 2} if ending == "end" else None)
        assert (row["error"] is not None) == (ending == "raise")
        assert (row["ended_at"] is None) == (ending == "kill")


def test_what_ran_inside_belongs_to_its_attempt(tmp_path: Path) -> None:
    _train(tmp_path, (0.1, "kill"), (0.2, "end"))
    rows = read_buffer(tmp_path / "flowprov_buffer")
    steps = rows[rows["activity_id"] == "step"]
    assert steps["attempt"].tolist() == [1, 1], "each is in an evaluation that ran once"
    inner = rows[rows["name"] == "evaluation"]["workflow_id"].tolist()
    assert children(rows, "w") == inner
    for task_id, evaluation in zip(steps["task_id"], inner, strict=True):
        assert ancestors(rows, task_id) == [evaluation, "w"]
    lines = [line.strip() for line in tree(rows).splitlines()]
    assert [line.split("  ")[0] for line in lines] == ["train", "evaluation", "step"] * 2
    assert lines[0].startswith("train  INTERRUPTED")
    assert lines[3].startswith("train  attempt 2  FINISHED")


@pytest.mark.parametrize("kind", KINDS)
def test_the_attempts_are_the_same_from_every_source(
    tmp_path: Path, location_of: LocationOf, kind: str
) -> None:
    folder = tmp_path / "journals"
    _write_attempts(folder)
    location = location_of(kind)
    location.deliver(folder)
    rows = read_buffer(location.source, campaign_id="c1", return_df=False)
    found = [(row["attempt"], row["status"], row["used"]) for row in _attempts(rows)]
    assert found == [(1, "INTERRUPTED", {"try": 1}), (2, "FINISHED", {"try": 2})]
    assert [(row["attempt"], row["used"]) for row in rows if row["type"] == "task"] == [
        (1, {"n": 1}),
        (2, {"n": 2}),
    ]


def _write_attempts(folder: Path) -> None:
    for number, ended in ((1, False), (2, True)):
        at = 20 * number
        inside = step(0, at + 1, workflow_id="w", used={"n": number})
        write(
            folder,
            header(f"{number:032x}", pid=number, started_at=at * NS),
            *workflow(at, at + 10 if ended else None, used={"try": number}),
            inside,
            *([Footer(at=(at + 10) * NS, captured=3, written=3)] if ended else []),
        )


def test_one_process_can_open_a_workflow_again(buffer: Path) -> None:
    for rate in (1, 2, 3):
        with flowprov.workflow("train", workflow_id="w", used={"rate": rate}), flowprov.task_scope("step"):
            pass
    rows = read_buffer(return_df=False)
    assert [(row["attempt"], row["used"]["rate"]) for row in _attempts(rows)] == [(1, 1), (2, 2), (3, 3)]
    assert [row["attempt"] for row in rows if row["type"] == "task"] == [1, 2, 3]


def test_a_task_of_a_forked_child_belongs_to_the_attempt_of_its_parent(tmp_path: Path) -> None:
    code = """
        import os, time
        import flowprov

        for attempt in (1, 2):
            with flowprov.workflow("train", workflow_id="w"):
                child = os.fork()
                if child == 0:
                    with flowprov.task_scope(f"in {attempt}"):
                        pass
                    os._exit(0)
                os.waitpid(child, 0)
    """
    run(code, tmp_path)
    rows = read_buffer(tmp_path / "flowprov_buffer", return_df=False)
    assert [(row["activity_id"], row["attempt"]) for row in rows if row["type"] == "task"] == [
        ("in 1", 1),
        ("in 2", 2),
    ]


# Ranks. ---------------------------------------------------------------------------------------------------


def _run_of(
    folder: Path,
    name: str,
    period: tuple[float, float | None],
    *,
    rank: int | None,
    launch: Launch | None = None,
    process: tuple[float, float] | None = None,
) -> None:
    """Write the journal of a process that had the workflow open for a time."""
    start, end = period
    process_start, process_end = process or (start - 1, (end or start) + 1)
    first = header(
        name,
        pid=abs(hash(name)) % 100_000,
        rank=rank,
        world_size=2,
        launch=launch,
        started_at=round(start * NS),
        monotonic_ns=round((start - process_start) * NS),
        process_started_at="0",
    )
    footer = [] if end is None else [Footer(at=round(process_end * NS), captured=2, written=2)]
    write(folder, first, *workflow(start, end, used={"by": name}), *footer)


def _rank_of_attempt(
    folder: Path, attempt: int, rank: int, *, ended: bool, launch: Launch | None = None
) -> None:
    """Write the journal of a rank that was launched together with the others, and opened a little later."""
    launched = 10 + 30 * attempt
    start = launched + 1 + rank / 2
    end = start + 10 if ended else None
    lifetime = (launched, start + 11)
    _run_of(folder, f"a{attempt}r{rank}", (start, end), rank=rank, launch=launch, process=lifetime)


def _groups(folder: Path) -> list[tuple[int | None, str | None, int | None]]:
    rows = [row for row in Buffer(folder).records() if isinstance(row, Workflow)]
    return [(row.attempt, row.status, row.rank) for row in rows]


def test_ranks_that_ran_at_the_same_time_are_one_attempt(tmp_path: Path) -> None:
    for rank in range(3):
        _run_of(tmp_path, f"r{rank}", (10 + rank, 20 + rank), rank=rank)
    assert _groups(tmp_path) == [(1, "FINISHED", 0)]


def test_a_rank_that_was_done_before_another_one_began_is_of_the_same_attempt(tmp_path: Path) -> None:
    _run_of(tmp_path, "r0", (10, 11), rank=0, process=(8, 20))
    _run_of(tmp_path, "r1", (15, 16), rank=1, process=(8, 20))
    assert _groups(tmp_path) == [(1, "FINISHED", 0)]


def test_the_same_ranks_at_another_time_are_another_attempt(tmp_path: Path) -> None:
    for number in range(3):
        for rank in range(2):
            _rank_of_attempt(tmp_path, number, rank, ended=number == 2)
    assert _groups(tmp_path) == [(1, "INTERRUPTED", 0), (2, "INTERRUPTED", 0), (3, "FINISHED", 0)]


def test_one_rank_twice_at_the_same_time_is_two_attempts(tmp_path: Path) -> None:
    _run_of(tmp_path, "a", (10, 20), rank=0)
    _run_of(tmp_path, "b", (11, 21), rank=0)
    assert [number for number, _, _ in _groups(tmp_path)] == [1, 2]


def test_a_job_that_slurm_requeued_is_another_attempt_even_if_clocks_disagree(tmp_path: Path) -> None:
    _run_of(tmp_path, "r0", (10, None), rank=0, launch=Launch(job="j"))
    _run_of(tmp_path, "r1", (9, 30), rank=1, launch=Launch(job="j", restart=1))
    assert [number for number, _, _ in _groups(tmp_path)] == [1, 2]


def test_ranks_of_one_launch_are_one_attempt_even_if_clocks_disagree(tmp_path: Path) -> None:
    _run_of(tmp_path, "r0", (10, 11), rank=0, launch=Launch(job="j"))
    _run_of(tmp_path, "r1", (1000, 1001), rank=1, launch=Launch(job="j"))
    assert _groups(tmp_path) == [(1, "FINISHED", 0)]


@pytest.mark.parametrize("counts", [((0, 0), (1, 1)), ((0, 0), (1, 0)), ((0, 0), (0, 1)), ((1, 0), (2, 0))])
def test_agents_need_not_agree_on_the_number_of_restarts(
    tmp_path: Path, counts: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    """As in pytorch#108158: where one node fails, the count of the others stays."""
    for attempt, of_agents in enumerate(counts):
        for rank in range(4):
            agent = rank // 2
            launch = Launch(job="j", agent=f"agent {agent}", agent_restart=of_agents[agent])
            _rank_of_attempt(tmp_path, attempt, rank, ended=attempt == 1, launch=launch)
    assert _groups(tmp_path) == [(1, "INTERRUPTED", 0), (2, "FINISHED", 0)]


def test_ranks_may_change_places_when_a_job_is_restarted(tmp_path: Path) -> None:
    for attempt, ranks in enumerate(((0, 1), (1, 0))):
        for agent, rank in enumerate(ranks):
            launch = Launch(job="j", agent=f"agent {agent}", agent_restart=attempt)
            _rank_of_attempt(tmp_path, attempt, rank, ended=attempt == 1, launch=launch)
    assert _groups(tmp_path) == [(1, "INTERRUPTED", 0), (2, "FINISHED", 0)]


def test_processes_that_share_a_workflow_by_its_id_are_one_attempt_while_they_overlap(tmp_path: Path) -> None:
    _run_of(tmp_path, "a", (10, 20), rank=None)
    _run_of(tmp_path, "b", (15, 25), rank=None)
    _run_of(tmp_path, "c", (40, 45), rank=None)
    assert [number for number, _, _ in _groups(tmp_path)] == [1, 2]


# What is added up. ----------------------------------------------------------------------------------------


def test_the_energy_of_an_attempt_is_that_of_its_own_time() -> None:
    first = [*workflow(10, 12), *counter_samples([(10, 0), (11, 100), (12, 200)])]
    second = [*workflow(20, 22), *counter_samples([(20, 500), (21, 510), (22, 520)])]
    rows = [row for row in rows_of(first, second) if isinstance(row, Workflow)]
    joules = [(row.telemetry_at_end or {})["gpu_energy"]["joules"] for row in rows]
    assert joules == [200, 20]
    assert [(row.telemetry_at_start or {})["sampled_at"] for row in rows] == [10 * NS, 20 * NS]


def test_the_energy_inside_a_workflow_counts_for_the_attempt_that_held_it() -> None:
    outer = [[*workflow(10 * n, 10 * n + 5, name="outer")] for n in (1, 2)]
    inner = [
        [
            *workflow(10 * n + 1, 10 * n + 4, name=f"inner {n}", parent_workflow_id="outer"),
            *counter_samples([(10 * n + second, 100 * n * second) for second in range(6)]),
        ]
        for n in (1, 2)
    ]
    rows = [
        row for row in rows_of(*outer, *inner) if isinstance(row, Workflow) and row.workflow_id == "outer"
    ]
    joules = [(row.telemetry_at_end or {})["gpu_energy"]["joules"] for row in rows]
    assert joules == [500, 1000]


def test_an_addition_goes_to_the_attempt_in_which_it_was_written(tmp_path: Path) -> None:
    addition = [Workflow(workflow_id="w", custom_metadata={"flops": n}) for n in (1, 2)]
    journal = [*workflow(10, 20), addition[0], *workflow(30, 40), addition[1]]
    rows = [row for row in rows_of(journal) if isinstance(row, Workflow)]
    assert [row.custom_metadata for row in rows] == [{"flops": 1}, {"flops": 2}]


def test_every_row_has_the_column_attempt(tmp_path: Path, buffer: Path) -> None:
    with flowprov.workflow("W"), flowprov.task_scope("step"):
        pass
    assert read_buffer()["attempt"].tolist() == [1, 1]
    assert [row["attempt"] for row in read_buffer(return_df=False)] == [1, 1]
    written = [record for record in Buffer().messages() if isinstance(record, (Task, Workflow))]
    assert {record.attempt for record in written} == {None}, "a message does not know it"
    schema = records.json_schema()["$defs"]
    assert "attempt" in schema["Workflow"]["properties"]
    assert only([row for row in Buffer().records() if isinstance(row, Task)]).attempt == 1
