"""The iterator of a loop hands out items as its source does: behind an exception, behind an end, to many."""

from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import operator
import pickle
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowprov
from flowprov.runtime import context, runtime
from tests.capture.capture_states import STATES, capture_in
from tests.interrupting import Interruption
from tests.support import tasks

LOOPS: dict[str, Callable[..., Any]] = {
    "Loop": flowprov.Loop,
    "EpochLoop": flowprov.EpochLoop,
    "BatchLoop": flowprov.BatchLoop,
}


class Own(BaseException):
    """An exception of the program that is no ``Exception``."""


class OwnStop(StopIteration):
    """A StopIteration of the program."""


KINDS: dict[str, type[BaseException]] = {
    kind.__name__: kind
    for kind in (ValueError, KeyError, RuntimeError, GeneratorExit, KeyboardInterrupt, Own)
}


@flowprov.task
def step(n: int) -> int:
    return n


# -- random sources ----------------------------------------------------------------------------------------

_numbers = st.integers(0, 9)
_acts = st.one_of(
    st.tuples(st.just("give"), _numbers),
    st.tuples(st.just("give"), _numbers),
    st.tuples(st.just("call"), _numbers),
    st.tuples(st.just("raise"), st.sampled_from(sorted(KINDS))),
    st.tuples(st.just("stop"), st.none() | _numbers),
    st.tuples(st.just("stop as own"), _numbers),
    st.tuples(st.just("ask again"), _numbers),
)
_drives = st.lists(
    st.one_of(
        st.just(("next", 0)),
        st.just(("next", 0)),
        st.tuples(st.just("for"), _numbers),
        st.tuples(st.just("unpack"), _numbers),
        st.just(("delegate", 0)),
    ),
    max_size=8,
)


class Scripted:
    """An iterator that does what a script says, one act for each item that it is asked for."""

    def __init__(self, script: list[tuple[str, Any]], log: list[Any]) -> None:
        self.script, self.log = list(script), log
        self.errors: list[BaseException] = []  # what it raised, so that identity can be compared
        self.asked: Any = self

    def __iter__(self) -> Scripted:
        return self

    def __next__(self) -> Any:
        act: str
        given_to_it: Any
        act, given_to_it = self.script.pop(0) if self.script else ("stop", None)
        self.log.append(act)
        if act == "ask again":  # as a signal handler does in the middle of it
            self.log.append(observe(self, lambda: next(self.asked)))
        if act == "call":
            step(given_to_it)
        if act == "raise":
            self.fail(KINDS[given_to_it]("scripted", given_to_it))
        if act == "stop":
            self.fail(StopIteration() if given_to_it is None else StopIteration(given_to_it))
        if act == "stop as own":
            self.fail(OwnStop(given_to_it))
        return given_to_it

    def fail(self, error: BaseException) -> None:
        """Raise an exception."""
        self.errors.append(error)
        del error  # its traceback refers to this frame
        raise self.errors[-1]


def observe(source: Scripted, act: Callable[[], Any]) -> tuple[Any, ...]:
    """Return what became of an act: what it returned, or raised."""
    try:
        return ("value", act())
    except BaseException as error:
        known = [number for number, raised in enumerate(source.errors) if raised is error]
        value = error.value if isinstance(error, StopIteration) else None
        causes = type(error.__cause__), type(error.__context__)
        return ("raised", type(error), error.args, known, value, causes)


def drive(source: Scripted, iterator: Any, operations: list[tuple[str, int]]) -> list[Any]:
    """Ask an iterator in several ways, again and again, and return what was observed, in its order."""
    source.asked = iterator

    def use(n: int) -> list[Any]:
        taken = []
        for item in iterator:
            taken.append(step(item))
            if len(taken) > n:
                break
        return taken

    def delegate() -> Generator[Any, None, Any]:
        return (yield from iterator)

    acts: dict[str, Callable[[int], Any]] = {
        "next": lambda _: next(iterator),
        "for": use,
        "unpack": lambda n: list(itertools.islice(iterator, n)),
        "delegate": lambda _: next(delegate()),
    }
    for name, number in operations:
        source.log.append(observe(source, lambda: acts[name](number)))  # noqa: B023 - called at once
    source.asked = None
    source.errors.clear()  # their tracebacks hold frames
    return source.log


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("loop", LOOPS)
def test_the_iterator_of_a_loop_does_what_its_source_does(tmp_path: Path, loop: str, state: str) -> None:
    @settings(max_examples=100 if state == "on" else 30)
    @given(script=st.lists(_acts, max_size=12), operations=_drives)
    def compare(script: list[tuple[str, Any]], operations: list[tuple[str, int]]) -> None:
        plain, captured = Scripted(script, []), Scripted(script, [])
        expected = drive(plain, plain, operations)
        assert drive(captured, iter(LOOPS[loop](captured, **options)), operations) == expected

    with capture_in(state, tmp_path / "buffer") as options:
        compare()


def test_an_iteration_is_recorded_for_each_item_behind_an_exception_and_behind_an_end(buffer: Path) -> None:
    script = [("give", 5), ("raise", "ValueError"), ("give", 6), ("stop", 1), ("give", 7)]
    source = Scripted(script, [])
    with flowprov.workflow("w"):
        drive(source, iter(loop := flowprov.Loop(source)), [("next", 0)] * 6)
        assert loop.current_task_id is None
    recorded = tasks(buffer)
    assert [task.used for task in recorded if task.activity_id != "step"] == [
        {"i": position, "item": item} for position, item in enumerate([5, 6, 7])
    ]
    assert {task.status for task in recorded} == {"FINISHED"}
    assert len({task.group_id for task in recorded}) == 1


# -- asked twice at once -----------------------------------------------------------------------------------


class Waiting:
    """An iterator whose first step waits until another thread has made the second one."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.entered, self.left = threading.Event(), threading.Event()

    def __iter__(self) -> Waiting:
        return self

    def __next__(self) -> int:
        number = next(self.numbers)
        if number == 0:
            self.entered.set()
            assert self.left.wait(60)
        return number


def test_a_thread_gets_an_item_while_another_one_waits_for_its_own(buffer: Path) -> None:
    source = Waiting()
    with flowprov.workflow("w"):
        iterator = iter(flowprov.Loop(source))
        first: list[int] = []
        thread = threading.Thread(target=lambda: first.extend(itertools.islice(iterator, 1)))
        thread.start()
        assert source.entered.wait(60)
        assert next(iterator) == 1
        source.left.set()
        thread.join()
        assert (first, next(iterator)) == ([0], 2)
    (journal,) = runtime.get().journals()
    captured, written, dropped = journal.counts()
    assert dropped == {"reentered": 1}
    assert captured == written + 1
    assert [task.used for task in tasks(buffer)] == [{"i": 0, "item": 0}, {"i": 1, "item": 2}]


def test_threads_that_share_an_iterator_get_each_item_once(buffer: Path) -> None:
    got: list[int] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            got.extend(iterator)
        except BaseException as error:  # reported below
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with flowprov.workflow("w"):
            iterator = iter(flowprov.Loop(4_000))
            threads = [threading.Thread(target=work) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []
    assert sorted(got) == list(range(4_000))
    (journal,) = runtime.get().journals()
    captured, written, dropped = journal.counts()
    assert set(dropped) <= {"reentered"}
    assert captured == written + sum(dropped.values())
    assert len(tasks(buffer)) + sum(dropped.values()) == 4_000


@pytest.mark.parametrize("items", [range(6), list("abcdef")])
def test_a_signal_handler_may_ask_for_an_item_at_every_point(buffer: Path, items: Any) -> None:
    with flowprov.workflow("w"):
        scope = context.current.get()
        for position in itertools.count(1):
            got: list[Any] = []
            iterator = iter(flowprov.Loop(items))

            def handler(*_: Any) -> None:
                got.extend(itertools.islice(iterator, 1))  # noqa: B023 - called in this turn

            interruption = Interruption(position, handler)
            sys.settrace(interruption)
            try:
                got.extend(itertools.islice(iterator, 4))
            finally:
                sys.settrace(None)
            got.extend(iterator)
            assert sorted(got) == list(items)
            assert context.current.get() is scope
            if interruption.left > 0:
                break
        assert position > 10
    (journal,) = runtime.get().journals()
    assert set(journal.counts()[2]) <= {"reentered"}


def test_an_alarm_may_ask_for_items_of_a_running_loop(buffer: Path) -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: got.append(next(iterator)))
    try:
        with flowprov.workflow("w"):
            iterator = iter(flowprov.Loop(itertools.count()))
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            for number in iterator:
                if len(got) >= 20:
                    break
                assert number < 10**7, "the alarm comes"
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert sorted(set(got)) == sorted(got)


# -- what is held, and for how long ------------------------------------------------------------------------


class Batch:
    """Something large."""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_holds_no_item_that_the_program_let_go_of(buffer: Path, loop: str) -> None:
    alive: list[weakref.ref[Batch]] = []

    def batches() -> Iterator[Batch]:
        for _ in range(4):
            assert [reference() for reference in alive] == [None] * len(alive)
            batch = [Batch()]
            alive.append(weakref.ref(batch[0]))
            yield batch.pop()

    gc.disable()
    try:
        with flowprov.workflow("w"):
            for batch in LOOPS[loop](batches()):
                inner = flowprov.BatchLoop(1)
                for _ in inner:
                    pass
                del batch
                assert alive[-1]() is None
            assert len(alive) == 4
    finally:
        gc.enable()


def test_an_end_and_an_exception_of_the_source_leave_no_cycle(buffer: Path) -> None:
    def caught(iterator: Iterator[Any]) -> weakref.ref[BaseException]:
        try:
            next(iterator)
        except BaseException as error:
            return weakref.ref(error)
        raise AssertionError

    class Failing:
        """Raises one exception after the other."""

        def __init__(self) -> None:
            self.errors: list[type[BaseException]] = [Own, OwnStop, Own]

        def __iter__(self) -> Failing:
            return self

        def __next__(self) -> int:
            raise self.errors.pop()

    gc.disable()
    try:
        with flowprov.workflow("w"):
            iterator = iter(flowprov.Loop(Failing()))
            assert [caught(iterator)() for _ in range(3)] == [None] * 3
    finally:
        gc.enable()


def test_an_exception_that_the_program_keeps_keeps_no_iteration_open(buffer: Path) -> None:
    kept = []
    with flowprov.workflow("w"):
        iterator = iter(flowprov.Loop(Scripted([("raise", "ValueError"), ("give", 0)], [])))
        for _ in range(2):
            try:
                next(iterator)
            except ValueError as error:  # noqa: PERF203 - it is asked again
                kept.append(error)
        assert flowprov.current_task() is not None
        del iterator
        assert flowprov.current_task() is None
    assert len(kept) == 1


# -- what else programs do with an iterator ----------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_an_iterator_knows_how_many_items_are_left(buffer: Path, state: str) -> None:
    with capture_in(state, buffer) as options:
        iterator = iter(flowprov.Loop([1, 2, 3], **options))
        assert operator.length_hint(iterator) == 3
        next(iterator)
        assert operator.length_hint(iterator) == 2
        assert operator.length_hint(iter(flowprov.Loop(map(abs, [1]), **options)), 7) == 7
        del iterator


def test_a_loop_that_is_closed_ends_its_iteration_and_can_be_read_on_as_a_list_can(buffer: Path) -> None:
    with flowprov.workflow("w"):
        iterator: Any = iter(flowprov.Loop([1, 2, 3]))
        with contextlib.closing(iterator):
            next(iterator)
        assert flowprov.current_task() is None
        assert list(iterator) == [2, 3]
    first, *others = tasks(buffer)
    assert (first.status, first.custom_metadata) == ("FINISHED", {"left_early": True})
    assert [task.used for task in others] == [{"i": 1, "item": 2}, {"i": 2, "item": 3}]


@pytest.mark.parametrize("state", STATES)
def test_a_generator_that_delegates_to_a_loop_reaches_a_generator_behind_it(buffer: Path, state: str) -> None:
    def answering(log: list[Any]) -> Iterator[Any]:
        try:
            for number in itertools.count():
                try:
                    log.append((yield number))
                except ValueError as error:  # noqa: PERF203 - thrown in
                    log.append(error.args)
        finally:
            log.append("closed")

    def run(wrap: Callable[[Any], Any]) -> list[Any]:
        log: list[Any] = []
        source = answering(log)

        def delegate() -> Iterator[Any]:
            yield from wrap(source)

        outer: Any = delegate()
        log += [next(outer), outer.send("sent"), next(outer), outer.throw(ValueError("thrown")), next(outer)]
        outer.close()
        return [*log, list(source)]

    with capture_in(state, buffer) as options:
        assert run(lambda source: flowprov.Loop(source, **options)) == run(iter)


@pytest.mark.parametrize("attempt", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_running_iterator_cannot_be_copied(buffer: Path, attempt: Callable[[Any], Any]) -> None:
    with flowprov.workflow("w"):
        iterator = iter(flowprov.Loop(3))
        for _ in range(2):
            with pytest.raises(TypeError, match="generator"):
                attempt(iterator)
            next(iterator)
        assert list(iterator) == [2]


@pytest.mark.parametrize("prepare", [lambda loader: loader, flowprov.sampled], ids=["plain", "sampled"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_behind_a_corrupt_sample(
    buffer: Path, prepare: Callable[[Any], Any], workers: int
) -> None:
    pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    from tests.capture.corrupt_samples import Corrupt

    trained: list[Any] = []
    with flowprov.workflow("train") as workflow:
        batches = iter(
            flowprov.BatchLoop(prepare(DataLoader(Corrupt(), batch_size=2, num_workers=workers)))  # type: ignore[arg-type]
        )
        for _ in range(4):
            try:
                trained.append(next(batches).tolist())
            except ValueError:  # noqa: PERF203 - a program that skips what it cannot read
                trained.append("skipped")
        assert list(batches) == []
    assert trained == [[0, 1], "skipped", [4, 5], [6, 7]]
    positions = [task.used["i"] for task in tasks(buffer) if task.used]
    assert positions == [0, 1, 2]
    if prepare is flowprov.sampled:
        frame = flowprov.samples(workflow.workflow_id).frame()
        assert [group["sample"].tolist() for _, group in frame.groupby("step")] == [[0, 1], [4, 5], [6, 7]]
