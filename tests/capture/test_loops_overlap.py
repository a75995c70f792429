"""Loops that do not nest, iterators that are not exhausted, and loops that are left again and again."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.runtime import context, runtime


@flowprov.task
def work(n: int) -> int:
    return n


def rows_of(buffer: Path, activity: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of tasks, or those of one activity."""
    rows = flowprov.read_buffer(buffer, return_df=False)
    return [row for row in rows if row["task_id"] and activity in (None, row["activity_id"])]


def assert_whole(buffer: Path) -> None:
    """Assert that every parent is there, and that nothing is open or wrong."""
    rows = rows_of(buffer)
    ids = [row["task_id"] for row in rows]
    assert len(ids) == len(set(ids))
    assert {row["parent_task_id"] for row in rows} - {None} <= set(ids)
    assert {row["status"] for row in rows} == {"FINISHED"}


def round_robin(loops: Iterable[Iterable[Any]]) -> Iterator[Any]:
    """Take one item of each loop in turn; each iterator is created when its turn comes first."""
    waiting = [loop.__iter__ for loop in loops]
    iterators: list[Iterator[Any]] = []
    for create in waiting:
        iterators.append(create())
        yield next(iterators[-1])
    while iterators:
        for iterator in list(iterators):
            try:
                yield next(iterator)
            except StopIteration:  # noqa: PERF203 - the recipe of itertools
                iterators.remove(iterator)


TURNS: dict[str, Callable[..., Iterator[Any]]] = {
    "zip": lambda a, b: (x for pair in zip(a, b, strict=False) for x in pair[:1]),
    "zip_longest": lambda a, b: (pair[0] for pair in itertools.zip_longest(a, b)),
    "round robin": lambda a, b: round_robin([a, b]),
    "map of two": lambda a, b: map(lambda x, _: x, a, b),
}


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize("lengths", [(3, 3), (3, 5), (5, 3)])
def test_loops_that_take_turns_are_nobody_s_parents(
    buffer: Path, name: str, lengths: tuple[int, int]
) -> None:
    with flowprov.workflow("w"), flowprov.task_scope("outer") as outer:
        a, b = (flowprov.Loop(n, name=x) for n, x in zip(lengths, "ab", strict=True))
        for _ in TURNS[name](a, b):
            work(1)
    assert_whole(buffer)
    for activity in ("a_iteration", "b_iteration"):
        rows = rows_of(buffer, activity)
        assert [row["used"]["i"] for row in rows] == list(range(len(rows)))
        assert {row["parent_task_id"] for row in rows} == {outer.task_id}
    iterations = {row["task_id"] for row in rows_of(buffer) if row["subtype"] == "iteration"}
    assert {row["parent_task_id"] for row in rows_of(buffer, "work")} <= iterations


def test_nested_loops_still_nest(buffer: Path) -> None:
    with flowprov.workflow("w"):
        for _ in flowprov.Loop(2, name="a"):
            for _ in flowprov.Loop(2, name="b"):
                work(1)
    assert_whole(buffer)
    outer = [row["task_id"] for row in rows_of(buffer, "a_iteration")]
    assert [row["parent_task_id"] for row in rows_of(buffer, "b_iteration")] == [
        parent for parent in outer for _ in range(2)
    ]


def first_of_kept_iterator(kept: list[Any]) -> None:
    iterator = iter(flowprov.BatchLoop(["x", "y"]))
    next(iterator)
    work(1)
    kept.append(iterator)


def islice_of_three(_: list[Any]) -> None:
    for _item in itertools.islice(flowprov.BatchLoop(itertools.count()), 1):
        work(1)


def left_by_break(_: list[Any]) -> None:
    for _item in flowprov.BatchLoop(itertools.count()):
        work(1)
        break


def left_by_break_with_the_iterator_kept(kept: list[Any]) -> None:
    iterator = iter(flowprov.BatchLoop(["x", "y"]))
    kept.append(iterator)
    for _item in iterator:
        work(1)
        break


@pytest.mark.parametrize(
    "leave",
    [first_of_kept_iterator, islice_of_three, left_by_break, left_by_break_with_the_iterator_kept],
)
def test_an_iteration_that_is_left_open_has_its_row_at_the_end_of_its_workflow(
    buffer: Path, leave: Callable[[list[Any]], None]
) -> None:
    kept: list[Any] = []
    with flowprov.workflow("w"):
        leave(kept)
    assert_whole(buffer)
    (iteration,) = rows_of(buffer, "train_batch_iteration")
    assert iteration["custom_metadata"] == {"left_early": True}
    assert [row["parent_task_id"] for row in rows_of(buffer, "work")] == [iteration["task_id"]]
    for iterator in kept:  # it goes on afterwards, and its first iteration is not recorded twice
        assert list(iterator) == ["y"]
    assert len(rows_of(buffer)) == 3 if kept else 2


def test_an_iterator_that_a_task_returns_leaves_nothing_current_behind(buffer: Path) -> None:
    @flowprov.task
    def prefetch() -> Iterator[int]:
        iterator = iter(flowprov.Loop(3))
        next(iterator)
        return iterator

    with flowprov.workflow("w"):
        iterator = prefetch()
        work(1)
        assert list(iterator) == [1, 2]
        work(2)
    assert_whole(buffer)
    assert [row["parent_task_id"] for row in rows_of(buffer, "work")] == [None, None]
    (task,) = rows_of(buffer, "prefetch")
    assert {row["parent_task_id"] for row in rows_of(buffer, "loop_iteration")} == {task["task_id"]}


def test_an_exception_ends_the_iterations_that_a_kept_iterator_holds_open(buffer: Path) -> None:
    kept = []
    with pytest.raises(ValueError, match="diverged"), flowprov.workflow("w"):
        iterator = iter(flowprov.Loop(3))
        kept.append(iterator)
        for _ in iterator:
            raise ValueError("diverged")
    (iteration,) = rows_of(buffer, "loop_iteration")
    assert (iteration["status"], iteration["error"]["message"]) == ("ERROR", "diverged")


def test_a_loop_in_another_thread_belongs_where_it_was_iterated(buffer: Path) -> None:
    with flowprov.workflow("w"), flowprov.task_scope("loading") as loading:
        iterator = iter(flowprov.Loop(3))
        thread = threading.Thread(target=lambda: list(map(work, iterator)))
        thread.start()
        thread.join()
    assert_whole(buffer)
    assert {row["parent_task_id"] for row in rows_of(buffer, "loop_iteration")} == {loading.task_id}


def test_what_is_kept_of_loops_that_were_left_does_not_grow(buffer: Path) -> None:
    with flowprov.workflow("w"):
        scope = context.current.get()
        assert scope is not None
        for _ in range(2_000):
            for _ in flowprov.Loop(3):
                break
        assert scope.left_early is not None
        assert len(scope.left_early) <= 200
        assert len(scope.journal.open_scopes) == 1
    assert len(rows_of(buffer)) == 2_000


class Failing:
    """A source that raises at its second item."""

    def __iter__(self) -> Iterator[int]:
        yield 1
        raise OSError("gone")


def test_a_source_that_raises_leaves_nothing_open(buffer: Path) -> None:
    def raise_at_once() -> Iterator[int]:
        raise OSError("gone")
        yield

    with flowprov.workflow("w") as workflow:
        for source in (Failing(), raise_at_once(), map(int, ["1", "x"])):
            with pytest.raises((OSError, ValueError)):
                list(flowprov.Loop(source))
        (journal,) = runtime.get().journals()
        assert set(journal.open_scopes) == {workflow.workflow_id}
    assert_whole(buffer)
    assert len(rows_of(buffer)) == 2


def test_a_generator_in_the_middle_of_a_loop_keeps_its_tasks_in_the_iteration(buffer: Path) -> None:
    @flowprov.task
    def produce() -> Iterator[int]:
        for n in flowprov.Loop(2):
            yield n
            work(n)

    with flowprov.workflow("w"):
        for _ in produce():
            work(10)
    assert_whole(buffer)
    iterations = [row["task_id"] for row in rows_of(buffer, "loop_iteration")]
    parents = {row["used"]["n"]: row["parent_task_id"] for row in rows_of(buffer, "work")}
    assert parents == {0: iterations[0], 1: iterations[1], 10: None}
