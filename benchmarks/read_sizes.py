"""What answers cost by the size of the buffer: CPU seconds and peak memory of each command.

The buffers are synthetic: trainings of a small model, with the lines that flowprov writes. Each command runs
in a process of its own, first on journals alone, then after ``flowprov compact``.

    python -m benchmarks.read_sizes                        # 10 thousand and 1 million records
    python -m benchmarks.read_sizes --records 10000000     # takes an hour and 12 GB
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flowprov.journal.format import journal_path

_LINES_OF_BATCH = 3  # the values of the iteration when they come, the forward, the iteration when it ends
_BATCHES = 200  # of an epoch
_BEGAN = 1_795_000_000_000_000_000
_MS = 1_000_000
_TENSOR = '{"type":"torch.Tensor","shape":[32,4],"dtype":"float32","device":"cpu","nbytes":512}'


class Layout(NamedTuple):
    """Over how many journals and campaigns the records are spread."""

    journals: int
    campaigns: int


LAYOUTS = (Layout(1, 1), Layout(100, 1), Layout(5_000, 400))


class Cost(NamedTuple):
    """What one command took."""

    seconds: float
    megabytes: float
    status: int


def make_buffer(folder: Path, records: int, layout: Layout) -> None:
    """Write a buffer with about this number of records."""
    per_journal = max(records // layout.journals, 40)
    for number in range(layout.journals):
        campaign = f"campaign-{number * layout.campaigns // layout.journals:03d}"
        journal_id = f"{number:032x}"
        path = journal_path(folder, campaign, "node", 1000 + number, journal_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            file.writelines(_lines(campaign, journal_id, number, per_journal))
            file.truncate()


def _lines(campaign: str, journal_id: str, number: int, records: int) -> Iterator[str]:
    began = _BEGAN + number * 1_000 * _MS
    workflow = f"workflow-{number}"
    settings = json.dumps({"journal": {"path": "/data"}, "instrumentation": {"torch": {"what": "x" * 2_000}}})
    yield (
        f'{{"type":"header","schema":1,"journal_id":"{journal_id}","campaign_id":"{campaign}",'
        f'"hostname":"node","pid":{1000 + number},"started_at":{began},"monotonic_ns":0}}\n'
    )
    yield f'{{"type":"campaign","campaign_id":"{campaign}","name":"search","started_at":{began}}}\n'
    yield (
        f'{{"type":"workflow","workflow_id":"{workflow}","name":"train","used":{{"lr":{0.1 / (number + 1)},'
        f'"layers":{number % 4}}},"settings":{settings},"user":"someone","started_at":{began},'
        f'"status":"RUNNING"}}\n'
    )
    written, task, epoch = 1, 0, 0
    while written < records - 8:
        batches = min(_BATCHES, (records - written - 4) // 2)
        epoch_task, at, task = task, began + written * _MS, task + 1
        for batch in range(batches):
            loss = 1 / (1 + epoch + batch / batches)
            yield from _batch(
                workflow, journal_id, (epoch_task, epoch), (batch, task), at + batch * _MS, loss
            )
            task += 2
        written += 2 * batches + 1
        end = at + batches * _MS
        yield (
            f'{{"type":"metrics","at":{end},"workflow_id":"{workflow}","task_id":{epoch_task},'
            f'"values":{{"accuracy":{epoch / (epoch + 1)}}}}}\n'
        )
        yield (
            f'{{"type":"task","task_id":{epoch_task},"workflow_id":"{workflow}",'
            f'"activity_id":"epoch_iteration","subtype":"iteration","started_at":{at},'
            f'"used":{{"i":{epoch},"epoch":{epoch}}},"status":"FINISHED","ended_at":{end},'
            f'"generated":{{"val_loss":{1 / (epoch + 1)}}}}}\n'
        )
        epoch += 1
    end = began + (written + 1) * _MS
    yield f'{{"type":"workflow","workflow_id":"{workflow}","ended_at":{end},"status":"FINISHED"}}\n'
    yield f'{{"type":"footer","at":{end},"captured":{written + 1},"written":{written + 1}}}\n'


def _batch(
    workflow: str, journal_id: str, epoch: tuple[int, int], batch: tuple[int, int], at: int, loss: float
) -> Iterator[str]:
    """Yield what an iteration leaves in its journal: two events, and a control record before."""
    index, task = batch
    shared = (
        f'"task_id":{task},"workflow_id":"{workflow}","parent_task_id":"{journal_id}-{epoch[0]}",'
        f'"activity_id":"train_batch_iteration","subtype":"iteration","started_at":{at},'
        f'"used":{{"i":{index},"batch":{_TENSOR}}},"status":'
    )
    yield (
        f'{{"type":"task","task_id":{task + 1},"workflow_id":"{workflow}","parent_task_id":{task},'
        f'"activity_id":"Sequential","subtype":"parent_forward","started_at":{at + 1000},'
        f'"used":{{"input":{_TENSOR}}},"status":"FINISHED","ended_at":{at + 400_000},'
        f'"generated":{{"output":{_TENSOR}}},"custom_metadata":{{"is_training":true,"epoch":{epoch[1]}}}}}\n'
    )
    yield f'{{"type":"open_task",{shared}"RUNNING","generated":{{"loss":{loss}}}}}\n'
    yield (f'{{"type":"task",{shared}"FINISHED","ended_at":{at + 900_000},"generated":{{"loss":{loss}}}}}\n')


_COMMANDS: dict[str, list[str]] = {
    "ls": ["ls"],
    "runs": ["runs", "--json"],
    "show": ["show", "{buffer}"],
    "query, a filter": [
        "query",
        """select task_id, started_at from tasks where activity_id = 'epoch_iteration'
        and ended_at > timestamp '2026-11-18 12:00:00' limit 100""",
    ],
    "query, group by": ["query", "select activity_id, status, count(*) from tasks group by all"],
    "query, a value": [
        "query",
        """select avg(cast(generated->>'$.loss' as double)) from tasks
        where activity_id = 'train_batch_iteration'""",
    ],
    "metrics of one campaign": ["-c", "import flowprov; flowprov.metrics({buffer!r}, campaign_id={last!r})"],
    "read_buffer of one campaign": [
        "-c",
        "import flowprov; flowprov.read_buffer({buffer!r}, campaign_id={last!r})",
    ],
    "verify": ["verify", "{buffer}"],
    "report": ["report", "-o", "{report}"],
}
_OF_ONE = ("metrics of one campaign", "read_buffer of one campaign")
_MANY = 2_000_000  # of which frames are not made
# Else the first command has the journals compacted in the background, and the others read Parquet files.
_ENVIRONMENT = {**os.environ, "FLOWPROV__JOURNAL__COMPACT": "off"}


def measure(command: list[str], buffer: Path) -> Cost:
    """Run a command of flowprov, or Python code, on a buffer; return what it took."""
    last = max(path.name for path in buffer.iterdir())
    report = str(buffer.with_name("report.html"))
    arguments = [part.replace("{buffer}", str(buffer)).replace("{report}", report) for part in command]
    if command[0] == "-c":
        arguments = ["-c", command[1].format(buffer=str(buffer), last=last)]
    else:
        source = [] if "{buffer}" in command else ["--source", str(buffer)]
        arguments = ["-m", "flowprov", *arguments, *source]
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=_ENVIRONMENT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, process.returncode)


def measure_all(buffer: Path, names: list[str]) -> dict[str, Cost]:
    """Return what each command took."""
    found = {}
    for name in names:
        found[name] = measure(_COMMANDS[name], buffer)
        print(f"  {name}: {_shown(found[name])}", file=sys.stderr, flush=True)
    return found


def _shown(cost: Cost) -> str:
    return f"{cost.seconds:.2f} s, {cost.megabytes:.0f} MB" + (
        f" (status {cost.status})" if cost.status else ""
    )


def main() -> None:
    """Measure, and print a table in Markdown for each number of records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="*", default=[10_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where the buffers are written; removed at the end")
    parser.add_argument("--later", action="store_true", help="only after flowprov compact")
    parser.add_argument("--journals", type=int, nargs="*", help="only layouts with these numbers of journals")
    parser.add_argument("--only", nargs="*", default=list(_COMMANDS), metavar="COMMAND", help="by its name")
    options = parser.parse_args()
    for records in options.records:
        columns: list[tuple[str, dict[str, Cost]]] = []
        for layout in LAYOUTS:
            if options.journals and layout.journals not in options.journals:
                continue
            folder = Path(tempfile.mkdtemp(prefix="flowprov-read-sizes-", dir=options.folder))
            try:
                print(f"{records} records, {layout}", file=sys.stderr, flush=True)
                columns += _measure_layout(folder / "buffer", records, layout, options)
            finally:
                shutil.rmtree(folder)
        _print_table(records, columns)


def _measure_layout(
    buffer: Path, records: int, layout: Layout, options: argparse.Namespace
) -> list[tuple[str, dict[str, Cost]]]:
    make_buffer(buffer, records, layout)
    names = [name for name in options.only if name not in _OF_ONE or records // layout.campaigns < _MANY]
    title = f"{layout.journals} in {layout.campaigns}"
    first = {} if options.later else measure_all(buffer, names)
    compacting = measure(["compact"], buffer)
    print(f"  compact: {_shown(compacting)}", file=sys.stderr, flush=True)
    return [(title, {**first, "compact": compacting}), (f"{title}, compacted", measure_all(buffer, names))]


def _print_table(records: int, columns: list[tuple[str, dict[str, Cost]]]) -> None:
    names = [*_COMMANDS, "compact"]
    print(f"\n{records:,} records: CPU seconds, peak MB\n")
    print("| | " + " | ".join(title for title, _ in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in names:
        cells = [costs.get(name) for _, costs in columns]
        print(
            f"| {name} | "
            + " | ".join(
                "" if cost is None else f"{cost.seconds:.2f}, {cost.megabytes:.0f}" for cost in cells
            )
            + " |"
        )


if __name__ == "__main__":
    main()
