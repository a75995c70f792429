"""What artifacts cost: the call, a checkpoint of 1 GB every epoch beside a training, and a search.

``python -m benchmarks.artifacts`` prints the three.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

_STEPS = 60  # of the work between two looks at the clock of the thread


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=int, default=9, help="how many are logged")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="the size of one")
    parser.add_argument("--campaigns", type=int, default=1000, help="campaigns that are searched")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("FLOWPROV_BENCHMARK_FOLDER")) as folder:
        _calls(Path(folder))
        _training(Path(folder), options)
        _search(Path(folder), options.campaigns)


def _calls(folder: Path) -> None:
    """Print how long ``log_artifact`` takes to return."""
    import flowprov

    flowprov.configure(journal={"path": str(folder / "calls")})
    durations = []
    with flowprov.workflow("calls"):
        for number in range(1000):
            path = folder / f"file-{number % 50}"
            path.write_bytes(os.urandom(4096))
            began = time.perf_counter()
            artifact = flowprov.log_artifact(path)
            durations.append(time.perf_counter() - began)
            if number % 2:  # every second call finds the thread idle
                artifact.wait()
    durations.sort()
    print("log_artifact of a small file, microseconds until it returns")
    for name, share in (("median", 0.5), ("90 %", 0.9), ("99 %", 0.99), ("longest", 0.999)):
        print(f"  {name:8} {durations[int(share * len(durations))] * 1e6:8.0f}")


def _training(folder: Path, options: Any) -> None:
    """Print what a checkpoint adds to the thread that trains.

    Pieces of the same work are done by turns: with nothing beside them, and while a checkpoint is read. So a
    machine that is busy with other things is as busy in both.
    """
    import numpy as np

    import flowprov

    weights = np.random.default_rng(0).random((200, 200))

    def piece() -> float:
        began = time.thread_time()
        for _ in range(_STEPS):
            np.tanh(weights @ weights).sum()
            sum(range(3000))
        return time.thread_time() - began

    path = folder / "checkpoint.bin"
    size = int(options.gigabytes * 1e9)
    with path.open("wb") as file:
        block = os.urandom(1 << 20)
        for _ in range(size // len(block)):
            file.write(block)
    flowprov.configure(journal={"path": str(folder / "training")})
    added, calls, pieces = [], [], 0
    with flowprov.workflow("training"):
        for number in range(options.checkpoints):
            alone = [piece() for _ in range(40)]
            with path.open("r+b") as again:
                again.write(number.to_bytes(8, "little"))
            began = time.perf_counter()
            artifact = flowprov.log_artifact(path, kind="checkpoint")
            calls.append(time.perf_counter() - began)
            beside = []
            while artifact.state == "pending":
                beside.append(piece())
            alone += [piece() for _ in range(40)]
            added.append((statistics.mean(beside) - statistics.mean(alone)) * len(beside) / size * 1e9)
            pieces += len(beside)
            print(f"  {number}: {added[-1] * 1e3:+.0f} ms for each GB", flush=True)
    print(
        f"a checkpoint of {options.gigabytes:g} GB adds to the processor time of the training's thread, for"
    )
    print(
        f"each GB, {statistics.median(added) * 1e3:+.0f} ms (median of {len(added)}; {pieces} pieces of work)"
    )
    print(f"the calls of log_artifact took {statistics.median(calls) * 1e3:.2f} ms (median)")


def _search(folder: Path, campaigns: int) -> None:
    """Print how long it takes to find a file among many campaigns."""
    import flowprov
    from flowprov.records import Artifact, Digest, Footer, Workflow
    from tests.contents.files import sha256
    from tests.journal.support import NS, header, step, write

    buffer = folder / "many"
    for number in range(campaigns):
        records: list[Any] = [Workflow(workflow_id=f"w{number}", status="RUNNING", started_at=NS)]
        records += (step(index, workflow_id=f"w{number}", used={"x": index}) for index in range(2400))
        for index in range(4):
            digest = sha256(f"{number} {index}".encode())
            common: dict[str, Any] = {
                "workflow_id": f"w{number}",
                "role": "generated",
                "kind": "file",
                "at": NS,
            }
            records.append(Artifact(number=2400 + index, **common))
            records.append(Digest(number=2400 + index, state="digested", digests={"sha256": digest}, at=NS))
        footer = Footer(at=NS, captured=len(records), written=len(records))
        write(buffer, header(f"{number:032x}", f"c{number}"), *records, footer)
    size = sum(path.stat().st_size for path in buffer.rglob("*.jsonl"))
    (folder / "file").write_bytes(f"{campaigns // 2} 3".encode())
    durations = []
    for _ in range(5):
        began, cpu = time.perf_counter(), time.process_time()
        assert flowprov.whence(folder / "file", buffer) is not None
        durations.append((time.perf_counter() - began, time.process_time() - cpu))
    wall, cpu = min(durations)
    print(
        f"whence among {campaigns} campaigns, {size / 1e6:.0f} MB of journals: {wall:.2f} s, {cpu:.2f} s CPU"
    )


if __name__ == "__main__":
    main()
