"""What versions cost a program in a repository of many files.

``python -m benchmarks.versions [FILES] [PAIRS]``; the default is 50,000 files and 15 pairs.

Pairs of processes run the same program, one with versions and one without, in turn. Printed are the medians
of the differences: of the time to open a workflow, the first of a process and a later one; of the work that
follows; and of the time that the process takes at its end. Where other programs run too, only the processor
time of the program's own thread tells something.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_PROGRAM = """
import json, sys, time
import flowprov
began = time.perf_counter()
flowprov.configure()
def opened():
    begun, cpu = time.perf_counter(), time.thread_time()
    workflow = flowprov.workflow("W").start()
    return workflow, time.perf_counter() - begun, time.thread_time() - cpu
outer, first, first_cpu = opened()
cpu = time.thread_time()
begun = time.perf_counter()
total = 0
for i in range(3_000_000):
    total += i
work, work_cpu = time.perf_counter() - begun, time.thread_time() - cpu
inner, later, later_cpu = opened()
inner.stop()
outer.stop()
begun = time.perf_counter()
from flowprov.runtime import runtime
runtime.shutdown()
end = time.perf_counter() - begun
found = {"first": first, "first_cpu": first_cpu, "later": later, "later_cpu": later_cpu}
print(json.dumps({**found, "work": work, "work_cpu": work_cpu, "end": end}))
"""
# Git must not tidy up in the background while it is measured.
_SETTINGS = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "gc.auto=0", "-c", "maintenance.auto=false")
_NAMES = {
    "first": "opening the first workflow",
    "first_cpu": "the same, processor time of the thread",
    "later": "opening a later one",
    "later_cpu": "the same, processor time of the thread",
    "work": "a second of work right behind it, by the clock",
    "work_cpu": "the same, processor time of the thread",
    "end": "the end of the process",
}


def main() -> None:
    """Make the repository, run the pairs, and print the medians."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 15
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        _make_repository(folder, files)
        _run(folder, versions=True)
        differences: dict[str, list[float]] = {name: [] for name in _NAMES}
        for pair in range(pairs):
            order = (True, False) if pair % 2 else (False, True)
            found = {versions: _run(folder, versions=versions) for versions in order}
            for name, values in differences.items():
                values.append(found[True][name] - found[False][name])
    print(f"{files} files, {pairs} pairs: median of the differences (middle half), in ms")
    for name, values in differences.items():
        low, middle, high = (1000 * one for one in statistics.quantiles(values, n=4))
        print(f"  {_NAMES[name]:<48} {middle:7.2f}  ({low:.2f} to {high:.2f})")


def _make_repository(folder: Path, files: int) -> None:
    for number in range(files):
        path = folder / f"package_{number // 500}" / f"module_{number}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"x = {number}\n")
    (folder / "program.py").write_text(_PROGRAM)
    (folder / ".gitignore").write_text("flowprov_buffer\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run(
            [shutil.which("git") or "git", *_SETTINGS, *command],
            cwd=folder,
            check=True,
        )


def _run(folder: Path, *, versions: bool) -> dict[str, float]:
    switch = {} if versions else {"FLOWPROV__VERSIONS": "~"}
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder,
        env={**os.environ, **switch, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        check=True,
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


if __name__ == "__main__":
    main()
