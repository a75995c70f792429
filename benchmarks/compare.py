"""The added cost of each event, side by side with Flowcept 1.0.3 in one run.

Each library runs in an environment and processes of its own, in turn; the medians of all rounds are compared.
Times are for scale; the ratio is what counts::

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

HERE = Path(__file__).resolve().parent
GOALS = {"task": 1 / 5, "loop": 1 / 3, "loop with two scalars": 2 / 3, "parent forward": 1 / 5}
PEER_SETTINGS = """
log: {log_file_level: disable, log_stream_level: disable}
project: {db_flush_mode: offline, dump_buffer: {enabled: true}, enrich_messages: true}
mq: {enabled: false}
kv_db: {enabled: false}
databases: {mongodb: {enabled: false}, lmdb: {enabled: false}}
telemetry_capture: {}
instrumentation:
  enabled: true
  torch: {what: parent_only, children_mode: null, epoch_loop: default, batch_loop: default,
          capture_epochs_at_every: 1, register_workflow: true}
experiment: {user: benchmark}
"""


def main() -> int:
    """Run both libraries in turn and print the table; the status says whether every goal was reached."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--peer-env", type=Path, default=HERE / ".flowcept-env", help="made if missing")
    options = arguments.parse_args()
    peer_python = _peer_environment(options.peer_env)
    ours: list[dict[str, float]] = []
    peers: list[dict[str, float]] = []
    for round_number in range(options.rounds):
        print(f"round {round_number + 1} of {options.rounds}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            ours.append(_run([sys.executable, str(HERE / "ours.py"), folder], folder))
            peers.append(_run([str(peer_python), str(HERE / "peer.py")], folder))
    return _print_table(ours, peers)


def _run(command: list[str], folder: str) -> dict[str, float]:
    settings = Path(folder) / "peer_settings.yaml"
    settings.write_text(PEER_SETTINGS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPROV")}
    environment["FLOWCEPT_SETTINGS_PATH"] = str(settings)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    measured: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def _print_table(ours: list[dict[str, float]], peers: list[dict[str, float]]) -> int:
    print(f"{'added to each':24}{'flowprov':>12}{'Flowcept':>12}{'ratio':>10}{'goal':>10}")
    reached = True
    for name, goal in GOALS.items():
        own = statistics.median(measured[name] for measured in ours)
        peer = statistics.median(measured[name] for measured in peers)
        reached &= own <= goal * peer
        print(f"{name:24}{own:9.2f} µs{peer:9.2f} µs{'1/%.1f' % (peer / own):>10}{'1/%.1f' % (1 / goal):>10}")
    return 0 if reached else 1


def _peer_environment(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "-q", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, "torch==2.13.0"], check=True)
        subprocess.run([*pip, "flowcept==1.0.3"], check=True)
    return python


if __name__ == "__main__":
    sys.exit(main())
