"""Code that runs inside flowprov calls captured functions: nothing hangs, and each call is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowprov.journal.format import find_journals
from flowprov.read.verify import verify
from flowprov.records import Task
from tests.support import lines_of, of_type, run

_PROGRAM = """
    import faulthandler, gc, json, signal, sys, weakref
    import flowprov

    faulthandler.dump_traceback_later(60, exit=True)  # a deadlock
    calls = [0]

    @flowprov.task
    def step(number, values=None):
        return number

    def nested(*_):
        calls[0] += 1
        step(-1, [1, 2])

    @flowprov.task
    def show(value):
        calls[0] += 1
        return value

    def end():
        flowprov.runtime.runtime.shutdown()
        counts = [journal.counts() for journal in flowprov.runtime.runtime.peek().journals()]
        print(json.dumps({"calls": calls[0], "counts": counts}))
"""

_INSIDE = {
    "a signal handler": """
    signal.signal(signal.SIGALRM, nested)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    work(3000)
    signal.setitimer(signal.ITIMER_REAL, 0)
    """,
    "a profiler": """
    busy = []
    def profile(frame, event, argument):
        if not busy:
            busy.append(1)
            nested()
            busy.pop()
    sys.setprofile(profile)
    work(100)
    sys.setprofile(None)
    """,
    "a tracer": """
    busy = []
    def trace(frame, event, argument):
        if not busy:
            busy.append(1)
            nested()
            busy.pop()
    sys.settrace(trace)
    work(100)
    sys.settrace(None)
    """,
    "a callback of the collector": """
    threshold = gc.get_threshold()
    gc.callbacks.append(nested)
    gc.set_threshold(20)
    work(300)
    gc.set_threshold(*threshold)
    gc.callbacks.clear()
    """,
    "a finalizer": """
    class Cycle:
        def __init__(self): self.me = self
        def __del__(self): nested()
    threshold = gc.get_threshold()
    gc.set_threshold(20)
    for _ in range(30):
        for _ in range(10): Cycle()
        work(10)
    gc.set_threshold(*threshold)
    """,
    "a callback of a weak reference": """
    class Cycle:
        def __init__(self): self.me = self
    kept = []
    threshold = gc.get_threshold()
    gc.set_threshold(20)
    for _ in range(30):
        for _ in range(10): kept.append(weakref.ref(Cycle(), nested))
        work(10)
    gc.set_threshold(*threshold)
    """,
}

# From the first record on: the journal is created while the nested call comes.
_WORK = """
    def work(number):
        with flowprov.workflow("W", campaign_id="c1"):
            for n in range(number):
                calls[0] += 1
                step(n, [n])
"""


@pytest.mark.parametrize("writer", ["mapped", "write"])
@pytest.mark.parametrize("where", _INSIDE)
def test_a_captured_call_from_within_an_append_is_recorded(tmp_path: Path, where: str, writer: str) -> None:
    program = _PROGRAM + _WORK + _INSIDE[where] + "\n    gc.collect()\n    end()\n"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    env = {"FLOWPROV__JOURNAL__WRITER": writer, "TMPDIR": str(temporary)}
    printed, warnings = run(program, tmp_path, env=env, timeout=100)
    told = json.loads(printed)
    assert not find_journals(temporary), "no record is stranded there"
    assert "Traceback" not in warnings
    recorded = dropped = 0
    for path in find_journals(tmp_path / "flowprov_buffer"):
        recorded += sum(task.activity_id == "step" for task in of_type(lines_of(path), Task) if task.ended_at)
    for captured, written, lost in told["counts"]:
        assert captured == written + sum(lost.values())
        dropped += sum(lost.values())
    assert recorded + dropped == told["calls"]
    assert dropped == 0


_VALUES = {
    "repr": "def __repr__(self): show(self); return 'Value'",
    "str": "def __str__(self): show(self); return 'Value'\n        __repr__ = __str__",
    "len": "def __len__(self): show(self); return 2",
    "iter": "def __iter__(self): show(self); return iter((1, 2))",
    "items": "def items(self): show(self); return [(1, 2)]\n        def keys(self): show(self); return [1]",
    "getattr": "def __getattr__(self, name): show(self); raise AttributeError(name)",
    "eq": "def __eq__(self, other): show(self); return True\n        __hash__ = None",
}


@pytest.mark.parametrize("base", ["object", "list", "dict", "collections.abc.Mapping"])
@pytest.mark.parametrize("method", _VALUES)
def test_a_captured_function_that_a_value_calls_with_itself_ends(
    tmp_path: Path, method: str, base: str
) -> None:
    program = (
        _PROGRAM
        + f"""
    import collections.abc

    class Value({base}):
        {_VALUES[method]}
        if {base} is collections.abc.Mapping:
            def __getitem__(self, key): return 1
            if {method!r} != "iter":
                def __iter__(self): return iter((1, 2))
            if {method!r} != "len":
                def __len__(self): return 2

    flowprov.configure()
    with flowprov.workflow("W", campaign_id="c1"):
        for _ in range(3):
            show(Value())
            with flowprov.task_scope("scope", used={{"value": Value()}}):
                pass
    end()
    """
    )
    printed, warnings = run(program, tmp_path, timeout=100)
    told = json.loads(printed)
    assert told["calls"] < 500, "each value is read once at a time"
    assert "Traceback" not in warnings
    [path] = find_journals(tmp_path / "flowprov_buffer")
    shown = [task for task in of_type(lines_of(path), Task) if task.activity_id == "show"]
    assert len(shown) == told["calls"], "every call is recorded, also those from within a value"
    assert verify(tmp_path / "flowprov_buffer").verdict == "COMPLETE"
