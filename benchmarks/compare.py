"""The added cost of each event, side by side with Flowcept 1.0.3 in one run.

The two libraries run in turn, each in an environment and processes of its own, and their medians are
compared. The cost of an event is the time that it adds to a program until its record is on disk. A record of
flowprov is on disk when the call returns, one of Flowcept when its session ends. The last column compares the
calls alone. The times depend on the machine; the ratio is the result::

    make benchmark
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.scenarios import TELEMETRY, mode_of

HERE = Path(__file__).resolve().parent
GOALS = {
    "task": 1 / 5,
    "loop": 1 / 3,
    "loop with two scalars": 2 / 3,
    "parent forward": 1 / 5,
    "and 3 children": 1 / 5,
    "and 3 inspected": 1 / 8,
    f"task{TELEMETRY}": 1 / 900,
    f"loop{TELEMETRY}": 1 / 1100,
    f"and 3 inspected{TELEMETRY}": 1 / 130,
}
PEER_SETTINGS = """
log: {log_file_level: disable, log_stream_level: disable}
project: {db_flush_mode: offline, dump_buffer: {enabled: true}, enrich_messages: true}
mq: {enabled: false}
kv_db: {enabled: false}
databases: {mongodb: {enabled: false}, lmdb: {enabled: false}}
telemetry_capture: {TELEMETRY}
instrumentation:
  enabled: true
  torch: {what: WHAT, children_mode: CHILDREN_MODE, epoch_loop: default, batch_loop: default,
          capture_epochs_at_every: 1, register_workflow: true}
experiment: {user: benchmark}
"""
PEER_TELEMETRY = "cpu: true, per_cpu: true, process_info: true, mem: true, disk: true, network: true"


def main() -> int:
    """Run both libraries in turn and print the table; return 0 if every goal was reached, else 1."""
    arguments = argparse.ArgumentParser(description="the added cost of each event, beside Flowcept 1.0.3")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--peer-env", type=Path, default=HERE / ".flowcept-env", help="made if missing")
    arguments.add_argument("--only", choices=GOALS, help="this event alone")
    options = arguments.parse_args()
    peer_python = _peer_environment(options.peer_env)
    heads = (f"{'flowprov':>17}", f"{'Flowcept':>17}", f"{'ratio':>8}", f"{'goal':>8}", f"{'in calls':>14}")
    print(f"{'µs added to each':32}{''.join(heads)}")
    reached = True
    for name in [options.only] if options.only else GOALS:
        own: list[dict[str, float]] = []
        peer: list[dict[str, float]] = []
        for _ in range(options.rounds):
            own.append(_run([sys.executable, "-m", "benchmarks.ours", name]))
            peer.append(_run([str(peer_python), "-m", "benchmarks.peer", name]))
        reached &= _print_row(name, GOALS[name], own, peer)
    return 0 if reached else 1


def _run(command: list[str]) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPROV")}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # on the file system of a user's buffer
        settings = Path(folder) / "peer_settings.yaml"
        what, mode = mode_of(command[-1])
        written = PEER_SETTINGS.replace("CHILDREN_MODE", mode or "null").replace("WHAT", what)
        kinds = PEER_TELEMETRY if command[-1].endswith(TELEMETRY) else ""
        settings.write_text(written.replace("TELEMETRY", kinds))
        environment["FLOWCEPT_SETTINGS_PATH"] = str(settings)
        environment["PYTHONPATH"] = str(HERE.parent)
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    measured: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def _print_row(name: str, goal: float, own: list[dict[str, float]], peer: list[dict[str, float]]) -> bool:
    ours, theirs = _middle(own, "total"), _middle(peer, "total")
    calls = _middle(peer, "capture")[0] / _middle(own, "capture")[0]
    ratio = theirs[0] / ours[0]
    spread = [f"{low:.1f}-{high:.1f}" for _, low, high in (ours, theirs)]
    print(
        f"{name:32}{ours[0]:7.2f} {spread[0]:>9}{theirs[0]:7.2f} {spread[1]:>9}"
        f"{f'1/{ratio:.1f}':>8}{f'1/{1 / goal:.1f}':>8}{f'1/{calls:.1f}':>14}"
    )
    return ratio >= 1 / goal


def _middle(measured: list[dict[str, float]], key: str) -> tuple[float, float, float]:
    """Return (median, lowest, highest)."""
    values = [each[key] for each in measured]
    return statistics.median(values), min(values), max(values)


def _peer_environment(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "-q", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, "torch==2.13.0"], check=True)
        subprocess.run([*pip, "flowcept[telemetry]==1.0.3"], check=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
