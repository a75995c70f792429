"""A forked child waits for no lock that a thread of its parent held at the fork: that thread is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowprov.records import Footer
from tests.support import lines, of_type, run, tasks

# A thread stands in the middle of the work that a lock guards when the program forks.
_FORKED = """
    import os, signal, threading, flowprov
    thread, inside, forked = None, threading.Event(), threading.Event()

    def hold():
        if threading.current_thread() is thread:
            inside.set()
            assert forked.wait(60)

    {record}
    thread = threading.Thread(target=record)
    thread.start()
    assert inside.wait(60)
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        record()
        flowprov.runtime.runtime.shutdown()
        os._exit(0)
    forked.set()
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0
"""
_FIRST_EVENT = """
    from flowprov.capture import workflow_records
    name_of_program = workflow_records._program_name
    workflow_records._program_name = lambda: (hold(), name_of_program())[1]

    @flowprov.task
    def record():
        return 1
"""
_FIRST_FORWARD = """
    import torch

    class Slow(torch.nn.Linear):
        def named_modules(self, *args, **kwargs):
            hold()
            return super().named_modules(*args, **kwargs)

    workflow = flowprov.workflow("w")
    workflow.__enter__()
    model = flowprov.torch_capture(torch.nn.Sequential(Slow(2, 2)), what="parent_and_children")

    def record():
        model(torch.ones(1, 2))
"""


@pytest.mark.parametrize("record", [_FIRST_EVENT, _FIRST_FORWARD], ids=["first-event", "first-forward"])
def test_a_child_records_what_a_thread_of_its_parent_was_just_beginning_to_record(
    tmp_path: Path, record: str
) -> None:
    run(_FORKED.replace("    {record}\n", record), tmp_path)
    recorded = tasks(tmp_path)
    assert len({task.pid for task in recorded}) == 2
    assert len(of_type(lines(tmp_path), Footer)) == 2


# Every lock of every module and object of flowprov is held in turn by another thread when the program forks.
_EACH_LOCK = """
    import gc, json, os, sys, threading, types, flowprov
    import torch, flowprov.capture.dask.plugin, flowprov.integrations.optuna

    from flowprov.threads import AutoResetEvent

    LOCKS = type(threading.Lock()), type(threading.RLock())
    gc.freeze()  # what was imported is found from its module

    def is_ours(one):
        of = one.__name__ if isinstance(one, types.ModuleType) else type(one).__module__
        return str(of).partition(".")[0] == "flowprov"

    def locks():
        gc.collect()  # a forked child has replaced some objects
        modules = list(filter(is_ours, sys.modules.values()))
        values = [value for module in modules for value in vars(module).values()]
        found = {}
        for one in [*modules, *filter(is_ours, [*values, *gc.get_objects()])]:
            if isinstance(one, AutoResetEvent):  # its lock is taken while it is unset, and no thread holds it
                continue
            of = one.__name__ if isinstance(one, types.ModuleType) else type(one).__qualname__
            for name in [*getattr(one, "__dict__", ()), *getattr(type(one), "__slots__", ())]:
                if isinstance(lock := getattr(one, name, None), LOCKS):
                    found[f"{of}.{name}"] = lock
        return found

    @flowprov.task
    def function():
        return 1

    model = flowprov.torch_capture(torch.nn.Sequential(torch.nn.Linear(2, 2)), what="parent_and_children")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with flowprov.workflow("w"):
        flowprov.log_artifact(__file__).wait()
        for _ in flowprov.Loop([1]):
            function()
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
        first, free, waited = locks(), {}, []
        for name, lock in first.items():
            if not lock.acquire(blocking=False):
                continue  # its own thread holds it while it sleeps
            lock.release()
            inside, forked = threading.Event(), threading.Event()

            def hold():
                with lock:
                    inside.set()
                    if not forked.wait(0.5):
                        waited.append(name)  # the fork itself waits for who holds it

            thread = threading.Thread(target=hold)
            thread.start()
            inside.wait(60)
            pid = os.fork()
            if pid == 0:
                held = [one for one in locks().values() if one.acquire(blocking=False) is False]
                os._exit(len(held))
            forked.set()
            thread.join()
            free[name] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps([free, waited]))
"""


def test_no_lock_that_a_thread_holds_is_held_in_a_child_that_was_forked_meanwhile(tmp_path: Path) -> None:
    free, _ = json.loads(run(_EACH_LOCK, tmp_path)[0])
    assert {"flowprov.capture.workflow_records._implicit_lock", "Model.first_forward_lock"} <= set(free)
    assert {name: held for name, held in free.items() if held} == {}
