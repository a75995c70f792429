"""The sampler: what it writes, when it writes nothing, and what it never does to the program."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.journal.format import find_journals
from flowprov.records import Footer, Machine, Sample, Task, Workflow
from flowprov.runtime import runtime
from flowprov.settings import TelemetrySettings
from flowprov.telemetry.sampler import Sampler
from tests.support import lines, lines_of, of_type, only, run
from tests.telemetry.support import ALL_HOST, Told, await_samples, sampled, threads, unfolded

FAST = {**ALL_HOST, "interval": 0.02}


@pytest.fixture
def sampling(buffer: Path) -> Path:
    """A buffer into which this process samples, many times a second."""
    flowprov.configure(journal={"path": str(buffer)}, telemetry_capture=FAST)
    return buffer


def test_samples_stand_in_the_journal_whole_at_first_and_then_as_changes(sampling: Path) -> None:
    with flowprov.workflow("W"):
        await_samples(sampling, 4)
    runtime.reset()
    first, *others = of_type(lines(sampling), Sample)
    assert set(first.values) == set(ALL_HOST)
    assert first.changes is None
    assert all(each.values is None and each.changes is not None for each in others)
    assert all(set(values) == set(ALL_HOST) for values in sampled(sampling))


def test_samples_are_no_rows_and_are_not_counted(sampling: Path) -> None:
    with flowprov.workflow("W"):
        await_samples(sampling, 3)
    runtime.reset()
    footer = only(of_type(lines(sampling), Footer))
    assert footer.captured == footer.written == 2
    assert [row["type"] for row in flowprov.read_buffer(sampling, return_df=False)] == ["workflow"]


@pytest.mark.parametrize("telemetry", [None, {}, {"cpu": False}])
def test_nothing_is_sampled_that_nobody_asked_for(buffer: Path, telemetry: dict[str, Any] | None) -> None:
    flowprov.configure(journal={"path": str(buffer)}, telemetry_capture=telemetry)
    with flowprov.workflow("W"):
        pass
    runtime.reset()
    assert not of_type(lines(buffer), Sample)


def test_where_telemetry_is_off_there_is_no_thread(buffer: Path) -> None:
    with flowprov.workflow("W"):
        runtime.get().maintenance.wake()
        assert not threads()
    assert runtime.get().sampler is None


def test_a_process_that_records_nothing_samples_nothing(sampling: Path) -> None:
    with flowprov.workflow("W"):
        pass
    journal = only(runtime.get().journals())
    sampler = runtime.get().sampler
    assert sampler is not None
    sampler.stop(5)  # what follows is done by hand, without its thread
    sampler._take_sample()
    before = len(of_type(lines(sampling), Sample))
    sampler._take_sample()
    assert not journal.open_scopes
    assert len(of_type(lines(sampling), Sample)) == before


def test_a_program_that_ends_at_once_has_a_sample_behind_its_last_task(tmp_path: Path) -> None:
    run(
        """
        import flowprov
        flowprov.configure(telemetry_capture={"cpu": True, "process": True})
        flowprov.task(len)("abc")
        """,
        tmp_path,
    )
    found = lines(tmp_path)
    assert of_type(found, Sample)[-1].at >= of_type(found, Task)[-1].ended_at


def test_each_process_samples_itself(tmp_path: Path) -> None:
    run(
        """
        import os
        import flowprov
        from flowprov.runtime import runtime
        flowprov.configure(telemetry_capture={"process": True, "interval": 0.02})
        step = flowprov.task(lambda x: x, activity_id="step")
        with flowprov.workflow("W"):
            step(1)
            child = os.fork()
            if not child:
                step(2)
                runtime.shutdown()
                os._exit(0)
            os.waitpid(child, 0)
            step(3)
        """,
        tmp_path,
    )
    journals = find_journals(tmp_path)
    assert len(journals) == 2
    for path in journals:
        assert unfolded(path), "parent and child have samples of their own"
        assert of_type(lines_of(path), Footer)


def test_a_fork_that_interrupts_it_costs_no_sample(buffer: Path) -> None:
    taken: list[int] = []

    def read() -> dict[str, int]:
        taken.append(1)
        return {"n": len(taken)}

    with flowprov.workflow("W"):
        sampler = Sampler(TelemetrySettings(interval=60), runtime.get().journals, probes=[Told("mem", read)])
        sampler.start()
        await_samples(buffer, 1)
        for _ in range(10):
            assert sampler.stop(5)
            sampler.resume()
        assert sampler.end(5)
    assert len(taken) == 2, "the first, and the last"


def test_every_journal_that_is_in_use_has_samples(sampling: Path) -> None:
    with flowprov.workflow("A", campaign_id="a"), flowprov.workflow("B", campaign_id="b"):
        pass
    runtime.reset()
    assert all(unfolded(path) for path in find_journals(sampling))
    assert len(find_journals(sampling)) == 2


def test_a_probe_that_fails_costs_its_own_kind_alone_and_is_said_once(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> dict[str, Any]:
        raise OSError("the sensor is gone")

    with flowprov.workflow("W"):
        sampler = _sampler([Told("cpu", broken), Told("mem", lambda: {"used_bytes": 7})])
        for _ in range(3):
            sampler._take_sample()
    assert sampled(buffer)[-1] == {"mem": {"used_bytes": 7}}
    assert [record.message for record in caplog.records if "sensor" in record.message] == [
        "flowprov cannot read cpu of telemetry (OSError: the sensor is gone); all other telemetry goes on."
    ]


def test_a_probe_that_hangs_holds_up_neither_the_program_nor_its_end(buffer: Path) -> None:
    release, met = threading.Event(), threading.Event()

    def hangs() -> dict[str, Any]:
        met.set()
        release.wait(60)
        return {}

    with flowprov.workflow("W"):
        runtime.get().sampler = sampler = _sampler([Told("gpu", hangs)])
        sampler.start()
        assert met.wait(10)
        assert flowprov.task(len)("abc") == 3
    began = time.monotonic()
    runtime.reset()
    assert time.monotonic() - began < 5, "it is waited for a second"
    release.set()
    found = lines(buffer)
    assert only(of_type(found, Footer)).written == 3


def test_what_a_full_journal_refused_is_made_up_for_by_a_whole_sample(buffer: Path) -> None:
    values = iter([{"n": 1, "m": 5}, {"n": 2, "m": 5}, {"n": 3, "m": 5}])
    with flowprov.workflow("W"):
        sampler = _sampler([Told("mem", lambda: next(values))])
        journal = only(runtime.get().journals())
        sampler._take_sample()
        writer, journal._writer = journal._writer, _Full()
        sampler._take_sample()
        journal._writer = writer
        sampler._take_sample()
    assert sampled(buffer) == [{"mem": {"n": 1, "m": 5}}, {"mem": {"n": 3, "m": 5}}]
    assert of_type(lines(buffer), Sample)[-1].values is not None


def test_settings_that_are_replaced_leave_no_thread_behind(buffer: Path) -> None:
    for _ in range(20):
        flowprov.configure(journal={"path": str(buffer)}, telemetry_capture=FAST)
        with flowprov.workflow("W"):
            pass
    runtime.reset()
    assert not threads()


def test_the_machine_is_described_once_and_again_where_something_changed(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = [0]
    monkeypatch.setattr("flowprov.telemetry.sampler.machine_values", lambda _: {"torch": {"seed": seed[0]}})
    with flowprov.workflow("W"):
        sampler = _sampler([])
        sampler._take_sample()
        sampler._take_sample()  # nothing changed
        seed[0] = 42
        sampler.end(5)
    assert [each.values for each in of_type(lines(buffer), Machine)] == [
        {"torch": {"seed": 0}},
        {"torch": {"seed": 42}},
    ]


@pytest.mark.parametrize("telemetry", [{}, {"cpu": True}])
def test_each_process_says_what_it_runs_on(buffer: Path, telemetry: dict[str, Any]) -> None:
    flowprov.configure(journal={"path": str(buffer)}, telemetry_capture=telemetry)
    with flowprov.workflow("W"):
        pass
    runtime.reset()
    told = of_type(lines(buffer), Machine)[0].values
    assert told["memory_bytes"] > 0
    assert told["python"]


def test_without_procfs_and_psutil_one_line_says_what_to_install(
    tmp_path: Path,
) -> None:
    _, complained = run(
        """
        import sys
        from pathlib import Path
        sys.modules["psutil"] = None
        exists = Path.exists
        Path.exists = lambda path, **kwargs: str(path) != "/proc/self/stat" and exists(path, **kwargs)
        import flowprov
        flowprov.configure(telemetry_capture={"cpu": True, "mem": True})
        with flowprov.workflow("W"):
            flowprov.task(len)("abc")
        """,
        tmp_path,
    )
    assert 'needs psutil to read cpu, mem: pip install "flowprov[telemetry]"' in complained
    assert len(complained.strip().splitlines()) == 1
    found = lines(tmp_path)
    assert of_type(found, Task)
    assert of_type(found, Workflow)


def test_samples_go_on_under_a_busy_main_thread(sampling: Path) -> None:
    with flowprov.workflow("W"):
        deadline = time.monotonic() + 20
        while len(of_type(lines(sampling), Sample)) < 3:
            assert time.monotonic() < deadline
            sum(range(100_000))


def test_faults_of_the_sampler_are_counted_and_the_thread_goes_on(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turns = []

    def journals() -> list[Any]:
        turns.append(1)
        raise RuntimeError("a fault of ours")

    caplog.set_level(logging.WARNING)
    sampler = Sampler(TelemetrySettings(interval=0.01), journals, probes=[Told("mem", dict)])
    sampler.start()
    deadline = time.monotonic() + 10
    while len(turns) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    sampler.stop(5)
    assert caplog.text.count("met a fault of its own while sampling telemetry") == 1


def _sampler(probes: list[Any]) -> Sampler:
    return Sampler(TelemetrySettings(interval=0.02), runtime.get().journals, probes=probes)


class _Full:
    def append(self, _line: bytes) -> None:
        raise OSError(28, "No space left on device")
