"""Exceptions that are control flow: what they end is FINISHED, with their name."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import records
from flowprov.errors import SettingsError
from tests.support import lines, of_type, only, run, tasks


class Pruned(Exception):  # noqa: N818 - no error, as optuna's TrialPruned
    """As optuna has it."""


class PrunedLate(Pruned):
    """A subclass."""


class Study:
    """Has an exception class of its own."""

    class Stop(Exception):  # noqa: N818 - as above
        """A nested class."""


def _configure(buffer: Path, *names: str) -> None:
    flowprov.configure(
        journal={"path": str(buffer)}, instrumentation={"control_flow_exceptions": list(names)}
    )


def _workflow(raise_it: Callable[[], None]) -> None:
    with flowprov.workflow("W"):
        raise_it()


@flowprov.workflow()
def _decorated(raise_it: Callable[[], None]) -> None:
    raise_it()


@flowprov.task(custom_metadata={"kept": 1})
def _task(raise_it: Callable[[], None]) -> None:
    raise_it()


@flowprov.task
async def _coroutine(raise_it: Callable[[], None]) -> None:
    await asyncio.sleep(0)
    raise_it()


@flowprov.task
def _generator(raise_it: Callable[[], None]) -> Iterator[int]:
    yield 1
    raise_it()


def _task_scope(raise_it: Callable[[], None]) -> None:
    with flowprov.task_scope("scope"):
        raise_it()


def _loop(raise_it: Callable[[], None]) -> None:
    for _ in flowprov.Loop(3):
        raise_it()


def _nested_loops(raise_it: Callable[[], None]) -> None:
    for _ in flowprov.EpochLoop(2):
        for _ in flowprov.BatchLoop([0.5]):
            raise_it()


WAYS: list[Callable[[Callable[[], None]], object]] = [
    _workflow,
    _decorated,
    _task,
    lambda raise_it: asyncio.run(_coroutine(raise_it)),
    lambda raise_it: list(_generator(raise_it)),
    _task_scope,
    _loop,
    _nested_loops,
]


def _outcomes(buffer: Path) -> set[tuple[Any, Any, Any]]:
    """Return status, ``ended_by`` and type of the error of every row."""
    rows = flowprov.read_buffer(buffer, return_df=False)
    return {
        (row["status"], (row["custom_metadata"] or {}).get("ended_by"), (row["error"] or {}).get("type"))
        for row in rows
    }


def _raising(error: BaseException) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("codes", [(), (0,), (None,), (False,)])
def test_leaving_with_success_is_no_error(
    buffer: Path, way: Callable[[Any], object], codes: tuple[Any, ...]
) -> None:
    with pytest.raises(SystemExit) as caught, flowprov.workflow("outer"):
        way(lambda: sys.exit(*codes))
    assert caught.value.code == (codes[0] if codes else None)
    assert _outcomes(buffer) == {("FINISHED", "SystemExit", None)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("code", [1, -1, True, 256, "went wrong", "", 0.0, [0]])
def test_leaving_with_a_failure_is_an_error(buffer: Path, way: Callable[[Any], object], code: Any) -> None:
    with pytest.raises(SystemExit), flowprov.workflow("outer"):
        way(lambda: sys.exit(code))
    assert _outcomes(buffer) == {("ERROR", None, "SystemExit")}


@pytest.mark.parametrize(("status", "recorded"), [(0, "FINISHED"), (3, "ERROR")])
def test_a_program_exits_with_its_own_status(tmp_path: Path, status: int, recorded: str) -> None:
    run(
        f"""
        import sys, flowprov
        with flowprov.workflow("W"):
            for _ in flowprov.Loop(2):
                sys.exit({status})
        """,
        tmp_path,
        status=status,
    )
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False)
    assert {row["status"] for row in rows} == {recorded}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("error", [Pruned("at step 3"), PrunedLate()])
def test_an_exception_that_the_settings_name_is_no_error(
    buffer: Path, way: Callable[[Any], object], error: BaseException
) -> None:
    _configure(buffer, "tests.capture.test_control_flow.Pruned", "nowhere.to.be.Found")
    with pytest.raises(Pruned) as caught, flowprov.workflow("outer"):
        way(_raising(error))
    assert caught.value is error
    assert _outcomes(buffer) == {("FINISHED", f"{__name__}.{type(error).__name__}", None)}


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("queue.Empty", queue.Empty()),  # its own module is _queue
        ("asyncio.CancelledError", asyncio.CancelledError()),
        ("asyncio.exceptions.CancelledError", asyncio.CancelledError()),
        ("concurrent.futures.TimeoutError", TimeoutError()),
        ("KeyboardInterrupt", KeyboardInterrupt()),
        ("builtins.KeyboardInterrupt", KeyboardInterrupt()),
        ("LookupError", KeyError("k")),
        (f"{__name__}.Study.Stop", Study.Stop()),
    ],
)
def test_a_class_is_found_by_each_of_its_names(buffer: Path, name: str, error: BaseException) -> None:
    import concurrent.futures  # noqa: F401 - a module is there before one of its exceptions is raised

    _configure(buffer, name)
    with pytest.raises(type(error)):
        _task(_raising(error))
    row = only(tasks(buffer))
    assert row.status == "FINISHED"
    assert row.custom_metadata["kept"] == 1
    assert row.custom_metadata["ended_by"].endswith(type(error).__qualname__)


def test_no_module_is_imported_to_find_a_class(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "__init__.py").write_text(
        "from study.errors import Stop\ndef __getattr__(name): raise RuntimeError(name)\n"
    )
    (tmp_path / "study" / "errors.py").write_text("class Stop(Exception): pass\n")
    (tmp_path / "never.py").write_text("raise SystemExit('imported')\n")
    run(
        """
        import flowprov, study
        names = ["study.Stop", "study.Missing", "never.Error"]
        flowprov.configure(instrumentation={"control_flow_exceptions": names})
        @flowprov.task
        def step(error):
            raise error
        for error in (study.Stop("pruned"), ValueError("wrong")):
            try:
                step(error)
            except Exception as raised:
                assert raised is error
        """,
        tmp_path,
    )
    assert [task.status for task in tasks(tmp_path)] == ["FINISHED", "ERROR"]
    assert tasks(tmp_path)[0].custom_metadata == {"ended_by": "study.errors.Stop"}


def test_other_exceptions_remain_errors(buffer: Path) -> None:
    _configure(buffer, f"{__name__}.PrunedLate")
    for way in WAYS:
        with pytest.raises(Pruned), flowprov.workflow("outer"):
            way(_raising(Pruned()))
    assert _outcomes(buffer) == {("ERROR", None, f"{__name__}.Pruned")}


def test_a_study_goes_on_after_a_trial_that_was_pruned(buffer: Path) -> None:
    _configure(buffer, f"{__name__}.Pruned")
    with flowprov.workflow("study"):
        for trial in flowprov.Loop(3, name="trial"):
            with contextlib.suppress(Pruned), flowprov.workflow(f"trial {trial}"):
                for epoch in flowprov.EpochLoop(4):
                    if epoch == trial:
                        raise Pruned
    rows = flowprov.read_buffer(buffer, return_df=False)
    assert {row["status"] for row in rows} == {"FINISHED"}
    pruned = [row for row in rows if (row["custom_metadata"] or {}).get("ended_by")]
    assert [row["name"] or row["used"]["epoch"] for row in pruned] == [
        "trial 0", 0, "trial 1", 1, "trial 2", 2,
    ]  # fmt: skip


def test_a_generator_that_is_closed_ends_what_is_open_in_it(buffer: Path) -> None:
    def batches() -> Iterator[int]:
        with flowprov.workflow("W"), flowprov.task_scope("reading"):
            yield from range(10)

    for batch in batches():
        if batch == 3:
            break
    rows = flowprov.read_buffer(buffer, return_df=False)
    assert [(row["status"], row["custom_metadata"]["ended_by"]) for row in rows] == [
        ("FINISHED", "GeneratorExit"),
        ("FINISHED", "GeneratorExit"),
    ]


def test_a_coroutine_that_is_closed_ends_what_is_open_in_it(buffer: Path) -> None:
    async def forever() -> None:
        with flowprov.workflow("W"):
            await _waiting()

    coroutine = forever()
    coroutine.send(None)
    coroutine.close()
    assert _outcomes(buffer) == {("FINISHED", "GeneratorExit", None)}


@flowprov.task
async def _waiting() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    "names",
    [["optuna TrialPruned"], ["optuna."], [".Pruned"], [""], [3], "optuna.TrialPruned", {"a": 1}, ["a-b"]],
)
def test_what_is_no_list_of_classes_is_refused(names: Any) -> None:
    with pytest.raises(SettingsError, match="control_flow_exceptions") as caught:
        flowprov.configure(instrumentation={"control_flow_exceptions": names})
    assert "a list of classes of exceptions with their modules, as in [optuna.TrialPruned]" in str(
        caught.value
    )


def test_the_environment_names_classes_too(tmp_path: Path) -> None:
    run(
        """
        import flowprov
        with flowprov.workflow("W"):
            raise EOFError
        """,
        tmp_path,
        status=1,
        env={"FLOWPROV__INSTRUMENTATION__CONTROL_FLOW_EXCEPTIONS": "[EOFError]"},
    )
    ending = of_type(lines(tmp_path), records.Workflow)[-1]
    assert (ending.status, ending.custom_metadata) == ("FINISHED", {"ended_by": "EOFError"})
