"""Exceptions from outside, at any instruction of an append: each reaches the program, and nothing is lost.

The programs here raise them by the hundred: from the handler of a timer, or from another thread. They know
which calls returned, and what was raised; a checker compares that with the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowprov.journal.format import find_journals
from flowprov.journal.summary import summarize
from flowprov.read.journal_report import report_on
from flowprov.read.verify import verify
from flowprov.records import Footer, Heartbeat, Task
from tests.support import lines_of, of_type, only, run

_PROGRAM = """
    import ctypes, json, random, signal, sys, threading, time
    from flowprov.journal import Identity, Journal, JournalMaintenance
    from flowprov.settings import JournalSettings

    class Custom(Exception): pass
    class Deadline(BaseException): pass

    KINDS = [TimeoutError, ValueError, Custom, Deadline, KeyboardInterrupt, MemoryError, RecursionError]
    KINDS += [OSError]
    writer, sync, rounds, seed, text = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), "x" * 900
    roll_bytes = int(sys.argv[5]) if sys.argv[5:] else None
    random.seed(seed)
    raised, arrived, acknowledged = [], [], []
    in_destructor = []  # what arrives in a destructor is lost to every program: raise it again
    sys.unraisablehook = lambda unraisable: in_destructor.append(unraisable.exc_type)
    numbers = iter(range(1 << 60)).__next__

    def create():
        settings = JournalSettings(
            path="buffer", writer=writer, heartbeat=0.05, sync=sync, roll_bytes=roll_bytes
        )
        return Journal(settings, Identity(campaign_id="c1", hostname="node-1"), maintenance)

    def append(journal, patience=20.0):
        until = time.monotonic() + patience
        while time.monotonic() < until:
            number = numbers()
            journal.append(b'{"type":"task","task_id":%d,"activity_id":"%s"}\\n' % (number, text.encode()))
            acknowledged.append(number)
            if in_destructor:
                raise in_destructor.pop()("alarm")
        sys.exit("an exception was swallowed")

    maintenance = JournalMaintenance()
"""

# Alarms in one long journal, so that they meet full segments and heartbeats.
_ALARMS = (
    _PROGRAM
    + """
    def on_alarm(number, frame):
        raised.append(random.choice(KINDS))
        raise raised[-1]("alarm")

    signal.signal(signal.SIGALRM, on_alarm)
    journals = [create()]
    for _ in range(rounds):
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-3))
            append(journals[0])
        except BaseException as error:
            assert str(error) == "alarm", repr(error)
            arrived.append(type(error))
"""
)

# Alarms in journals that are created at that very moment.
_RARE_ALARMS = _ALARMS.replace("2e-3", "1e-2")
_CREATING = (
    _PROGRAM
    + """
    def on_alarm(number, frame):
        raised.append(random.choice(KINDS))
        raise raised[-1]("alarm")

    signal.signal(signal.SIGALRM, on_alarm)
    journals = []
    for _ in range(rounds):
        journals.append(create())
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1.5e-3))
            append(journals[-1])
        except BaseException as error:
            assert str(error) == "alarm", repr(error)
            arrived.append(type(error))
"""
)

# What another thread asks the interpreter to raise; so do libraries that end functions after a time.
_ANOTHER_THREAD = (
    _PROGRAM
    + """
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc

    ready, swallowed = [], []

    def work():
        while len(arrived) < rounds:
            try:
                ready.append(True)  # only now is anything raised here
                append(journals[0])
            except BaseException as error:
                arrived.append(type(error))

    def wait_for(reports, number):
        until = time.monotonic() + 10
        while len(reports) < number:
            time.sleep(0)
            if time.monotonic() > until:
                # Nothing marks such an exception: one that arrives within the standard library, in a place
                # that flowprov did not call, is told from a fault by no one. It is rare.
                swallowed.append(raised.pop())
                assert len(swallowed) <= 3, f"{swallowed} were swallowed"
                return

    journals = [create()]
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while len(raised) < rounds:
        wait_for(ready, len(raised) + 1)
        time.sleep(random.uniform(1e-6, 2e-3))
        raised.append(random.choice(KINDS))
        raise_in(ctypes.c_ulong(thread.ident), ctypes.py_object(raised[-1]))
        wait_for(arrived, len(raised))
    thread.join()
"""
)

# A handler that records: a captured function that saves a checkpoint when the scheduler gives notice.
_RECORDING = (
    _PROGRAM
    + """
    def on_alarm(number, frame):
        for _ in range(3):
            append_once(journals[-1])
        handled.append(True)

    def append_once(journal):
        number = numbers()
        journal.append(b'{"type":"task","task_id":%d,"activity_id":"%s"}\\n' % (number, text.encode()))
        acknowledged.append(number)

    handled = []
    signal.signal(signal.SIGALRM, on_alarm)
    journals = [create()]
    for before in range(rounds):
        if before % 3 == 0:
            journals.append(create())
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-3))
        while len(handled) <= before:
            append_once(journals[-1])
"""
)

# The same in a program that knows nothing of journals.
_TASKS = (
    _PROGRAM
    + """
    import flowprov

    def on_alarm(number, frame):
        raised.append(random.choice(KINDS))
        raise raised[-1]("alarm")

    @flowprov.task
    def inner(number):
        return number

    @flowprov.task
    def outer(number):
        return inner(number)

    def work():
        until = time.monotonic() + 20
        while time.monotonic() < until:
            number = numbers()
            outer(number)
            acknowledged.append(number)
            if in_destructor:
                raise in_destructor.pop()("alarm")
        sys.exit("an exception was swallowed")

    signal.signal(signal.SIGALRM, on_alarm)
    with flowprov.workflow("W", campaign_id="c1"):
        for _ in range(rounds):
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-3))
                work()
            except BaseException as error:
                arrived.append(type(error))
    names = lambda kinds: [kind.__name__ for kind in kinds]
    print(json.dumps({"raised": names(raised), "arrived": names(arrived), "acknowledged": acknowledged}))
"""
)

# A process of its own: what others add to the garbage, and to its collection, may swallow exceptions, too.
_LOST_FILE = """
    import ctypes, functools, gc, operator, signal
    from pathlib import Path
    from flowprov.journal.own_file import OwnFile

    def on_alarm(number, frame):
        raise TimeoutError("alarm")

    signal.signal(signal.SIGALRM, on_alarm)
    raise_signal = functools.partial(getattr(ctypes.PyDLL(None), "raise"), signal.SIGALRM)
    cycle = [OwnFile(Path("lost"))]
    cycle.append(cycle)
    del cycle
    try:
        # No Python code runs between the two: the interpreter looks for signals afterwards.
        list(map(operator.call, [raise_signal, gc.collect]))
    except TimeoutError as error:
        print(error)
"""

_END = """
    maintenance.stop()
    for journal in journals:
        journal.append(b'{"type":"task","task_id":%d}\\n' % numbers())  # recording goes on
        journal.close()
    names = lambda kinds: [kind.__name__ for kind in kinds]
    print(json.dumps({"raised": names(raised), "arrived": names(arrived), "acknowledged": acknowledged,
                      "stopped": [journal._stoppage.reason for journal in journals if journal._stoppage],
                      "journals": len(journals)}))
"""


def _play(tmp_path: Path, program: str, *arguments: str) -> dict[str, Any]:
    printed, warnings = run(program + _END, tmp_path, *arguments, timeout=300)
    told: dict[str, Any] = json.loads(printed)
    assert told["arrived"] == told["raised"], "each exception reached the program, with its class"
    assert told["stopped"] == []
    assert "stops recording" not in warnings
    return told


def _check(tmp_path: Path, told: dict[str, Any], *, rolls: bool = False) -> None:
    """Compare what the files hold with what the program knows, and with what they say themselves."""
    found: list[Any] = []
    paths = find_journals(tmp_path / "buffer")
    assert len(paths) > told["journals"] if rolls else len(paths) == told["journals"]
    for path in paths:
        lines = lines_of(path)
        tasks = of_type(lines, Task)
        found += [task.task_id for task in tasks]
        summary = summarize(path)
        assert summary is not None
        report = report_on(summary)
        assert report.damages == []
        footer = only(of_type(lines, Footer))
        assert footer.written == len(tasks) == report.found
        assert footer.captured == footer.written + sum((footer.dropped or {}).values())
        assert set(footer.dropped or {}) <= {"interrupted"}
    assert len(found) == len(set(found)), "no event is there twice"
    assert set(told["acknowledged"]) <= set(found), "what was acknowledged is there"
    assert b"\0" not in b"".join(path.read_bytes()[-4096:] for path in paths)


@pytest.mark.parametrize("sync", ["off", "record"])
@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_alarms_within_a_journal(tmp_path: Path, writer: str, sync: str) -> None:
    told = _play(tmp_path, _ALARMS, writer, sync, "300", "1")
    _check(tmp_path, told)
    assert len(set(told["arrived"])) == 8
    beats = of_type(lines_of(only(find_journals(tmp_path / "buffer"))), Heartbeat)
    assert beats, "the maintenance goes on"
    assert all(beat.captured == beat.written + sum((beat.dropped or {}).values()) for beat in beats)


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_alarms_while_journals_are_created(tmp_path: Path, writer: str) -> None:
    _check(tmp_path, _play(tmp_path, _CREATING, writer, "off", "300", "2"))


@pytest.mark.soak  # by chance one is told from a fault by nobody: tests/capture tries the common places
@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_exceptions_that_another_thread_sets(tmp_path: Path, writer: str) -> None:
    _check(tmp_path, _play(tmp_path, _ANOTHER_THREAD, writer, "off", "300", "3"))


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_a_signal_handler_may_record_events_itself(tmp_path: Path, writer: str) -> None:
    told = _play(tmp_path, _RECORDING, writer, "off", "300", "4")
    _check(tmp_path, told)


@pytest.mark.parametrize("program", [_RARE_ALARMS, _RECORDING], ids=["alarms", "recording"])
@pytest.mark.parametrize("writer", ["mapped", "write", "queued"])
def test_alarms_while_journals_roll(tmp_path: Path, writer: str, program: str) -> None:
    told = _play(tmp_path, program, writer, "off", "60", "6", "16384")
    _check(tmp_path, told, rolls=True)


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_alarms_in_a_program_of_tasks(tmp_path: Path, writer: str) -> None:
    env = {"FLOWPROV__JOURNAL__WRITER": writer, "FLOWPROV__JOURNAL__HEARTBEAT": "0.05"}
    printed, warnings = run(_TASKS, tmp_path, writer, "off", "300", "5", env=env)
    told = json.loads(printed)
    assert told["arrived"] == told["raised"]
    assert "stops recording" not in warnings
    check = only(verify(tmp_path / "flowprov_buffer").journals)
    assert not [reason for reason in check.reasons if "interrupted" not in reason]
    found = [task for task in of_type(lines_of(check.report.path), Task) if task.used]
    inside = {task.used["number"] for task in found if task.activity_id == "inner"}
    around = {task.used["number"] for task in found if task.activity_id == "outer"}
    assert set(told["acknowledged"]) <= inside & around


def test_a_signal_that_arrives_before_a_lost_file_is_collected_is_not_lost(tmp_path: Path) -> None:
    printed, _ = run(_LOST_FILE, tmp_path)
    assert printed == "alarm\n"
