"""The sampler writes samples of what is in use, and neither blocks nor breaks the program."""

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
from tests.support import PATIENCE_S, lines, lines_of, of_type, only, run, wait_until
from tests.telemetry.support import (
    ALL_HOST,
    FakeProbe,
    all_samples,
    await_samples,
    full_samples_of,
    sampler_threads,
)

FAST = {**ALL_HOST, "interval": 0.02}


@pytest.fixture
def sampling(buffer: Path) -> Path:
    """A buffer into which this process samples, many times a second."""
    flowprov.configure(journal={"path": str(buffer)}, telemetry_capture=FAST)
    return buffer


def test_the_first_sample_of_a_journal_is_whole_and_the_next_hold_only_changes(sampling: Path) -> None:
    with flowprov.workflow("W"):
        await_samples(sampling, 4)
    runtime.reset()
    first, *others = of_type(lines(sampling), Sample)
    assert set(first.values) == set(ALL_HOST)
    assert first.changes is None
    assert all(sample.values is None and sample.changes is not None for sample in others)
    assert all(set(values) == set(ALL_HOST) for values in all_samples(sampling))


def test_samples_are_no_rows_and_are_not_counted(sampling: Path) -> None:
    with flowprov.workflow("W"):
        await_samples(sampling, 3)
    runtime.reset()
    footer = only(of_type(lines(sampling), Footer))
    assert footer.captured == footer.written == 2
    assert [row["type"] for row in flowprov.read_buffer(sampling, return_df=False)] == ["workflow"]


@pytest.mark.parametrize("telemetry", [None, {}, {"cpu": False}])
def test_without_telemetry_in_the_settings_nothing_is_sampled(
    buffer: Path, telemetry: dict[str, Any] | None
) -> None:
    flowprov.configure(journal={"path": str(buffer)}, telemetry_capture=telemetry)
    with flowprov.workflow("W"):
        pass
    runtime.reset()
    assert not of_type(lines(buffer), Sample)


def test_if_telemetry_is_off_there_is_no_sampler_thread(buffer: Path) -> None:
    with flowprov.workflow("W"):
        runtime.get().maintenance.wake()
        assert not sampler_threads()
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


def test_a_program_that_ends_at_once_has_a_sample_after_its_last_task(tmp_path: Path) -> None:
    run(
        """
        import flowprov
        flowprov.configure(telemetry_capture={"cpu": True, "process": True})
        flowprov.task(len)("abc")
        """,
        tmp_path,
    )
    records = lines(tmp_path)
    assert of_type(records, Sample)[-1].at >= of_type(records, Task)[-1].ended_at


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
        assert full_samples_of(path), "parent and child have samples of their own"
        assert of_type(lines_of(path), Footer)


def test_a_fork_that_interrupts_the_sampler_adds_and_costs_no_sample(buffer: Path) -> None:
    readings: list[int] = []

    def read() -> dict[str, int]:
        readings.append(1)
        return {"n": len(readings)}

    with flowprov.workflow("W"):
        sampler = Sampler(
            TelemetrySettings(interval=60), runtime.get().journals, probes=[FakeProbe("mem", read)]
        )
        sampler.start()
        await_samples(buffer, 1)
        for _ in range(10):
            assert sampler.stop(5)
            sampler.resume()
        assert sampler.end(5)
    assert len(readings) == 2, "the first and the last"


def test_every_journal_in_use_has_samples(sampling: Path) -> None:
    with flowprov.workflow("A", campaign_id="a"), flowprov.workflow("B", campaign_id="b"):
        pass
    runtime.reset()
    assert all(full_samples_of(path) for path in find_journals(sampling))
    assert len(find_journals(sampling)) == 2


def test_a_probe_that_fails_costs_only_its_own_kind_and_is_logged_once(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> dict[str, Any]:
        raise OSError("the sensor is gone")

    with flowprov.workflow("W"):
        sampler = _sampler([FakeProbe("cpu", broken), FakeProbe("mem", lambda: {"used_bytes": 7})])
        for _ in range(3):
            sampler._take_sample()
    assert all_samples(buffer)[-1] == {"mem": {"used_bytes": 7}}
    assert [record.message for record in caplog.records if "sensor" in record.message] == [
        "flowprov cannot read cpu of telemetry (OSError: the sensor is gone); all other telemetry goes on."
    ]


def test_a_probe_that_hangs_blocks_neither_the_program_nor_its_end(buffer: Path) -> None:
    release, reading = threading.Event(), threading.Event()

    def hangs() -> dict[str, Any]:
        reading.set()
        release.wait(60)
        return {}

    with flowprov.workflow("W"):
        runtime.get().sampler = sampler = _sampler([FakeProbe("gpu", hangs)])
        sampler.start()
        assert reading.wait(10)
        assert flowprov.task(len)("abc") == 3
    started = time.monotonic()
    runtime.reset()
    assert time.monotonic() - started < 30, "it is waited for a second, and not for its minute"
    release.set()
    records = lines(buffer)
    assert only(of_type(records, Footer)).written == 3


def test_after_a_sample_that_a_full_journal_refused_the_next_one_is_whole(buffer: Path) -> None:
    values = iter([{"n": 1, "m": 5}, {"n": 2, "m": 5}, {"n": 3, "m": 5}])
    with flowprov.workflow("W"):
        sampler = _sampler([FakeProbe("mem", lambda: next(values))])
        journal = only(runtime.get().journals())
        sampler._take_sample()
        writer, journal._writer = journal._writer, _FullWriter()
        sampler._take_sample()
        journal._writer = writer
        sampler._take_sample()
    assert all_samples(buffer) == [{"mem": {"n": 1, "m": 5}}, {"mem": {"n": 3, "m": 5}}]
    assert of_type(lines(buffer), Sample)[-1].values is not None


def test_replacing_the_settings_leaves_no_thread_behind(buffer: Path) -> None:
    for _ in range(20):
        flowprov.configure(journal={"path": str(buffer)}, telemetry_capture=FAST)
        with flowprov.workflow("W"):
            pass
    runtime.reset()
    assert not sampler_threads()


def test_the_machine_is_described_once_and_again_only_if_something_changes(
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
    assert [machine.values for machine in of_type(lines(buffer), Machine)] == [
        {"torch": {"seed": 0}},
        {"torch": {"seed": 42}},
    ]


@pytest.mark.parametrize("telemetry", [{}, {"cpu": True}])
def test_each_process_describes_the_machine_that_it_runs_on(buffer: Path, telemetry: dict[str, Any]) -> None:
    flowprov.configure(journal={"path": str(buffer)}, telemetry_capture=telemetry)
    with flowprov.workflow("W"):
        pass
    runtime.reset()
    values = of_type(lines(buffer), Machine)[0].values
    assert values["memory_bytes"] > 0
    assert values["python"]


def test_without_procfs_and_psutil_one_line_says_what_to_install(
    tmp_path: Path,
) -> None:
    _, errors = run(
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
    assert 'needs psutil to read cpu, mem: pip install "flowprov[telemetry]"' in errors
    assert len(errors.strip().splitlines()) == 1
    records = lines(tmp_path)
    assert of_type(records, Task)
    assert of_type(records, Workflow)


def test_samples_are_taken_while_the_main_thread_is_busy(sampling: Path) -> None:
    with flowprov.workflow("W"):
        deadline = time.monotonic() + PATIENCE_S
        while len(of_type(lines(sampling), Sample)) < 3:
            assert time.monotonic() < deadline
            sum(range(100_000))


def test_an_internal_error_of_the_sampler_is_logged_once_and_the_thread_goes_on(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = []

    def journals() -> list[Any]:
        calls.append(1)
        raise RuntimeError("a fault of ours")

    caplog.set_level(logging.WARNING)
    sampler = Sampler(TelemetrySettings(interval=0.01), journals, probes=[FakeProbe("mem", dict)])
    sampler.start()
    wait_until(lambda: len(calls) >= 3)
    sampler.stop(5)
    assert caplog.text.count("met a fault of its own while sampling telemetry") == 1


def _sampler(probes: list[Any]) -> Sampler:
    return Sampler(TelemetrySettings(interval=0.02), runtime.get().journals, probes=probes)


class _FullWriter:
    def append(self, _line: bytes) -> None:
        raise OSError(28, "No space left on device")
