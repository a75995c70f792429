"""Settings of Flowcept are rewritten; what has no counterpart is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from flowprov.cli import main
from flowprov.settings import load_settings
from flowprov.settings.flowcept import translate

FILE = """
flowcept_version: 1.0.3
project: {debug: true, db_flush_mode: offline, dump_buffer: {enabled: true, path: flowcept_buffer.jsonl}}
log: {log_path: default}
telemetry_capture: {gpu: [used, temperature], cpu: true, per_cpu: true, process_info: true, mem: ~}
instrumentation:
  enabled: true
  torch: {what: parent_and_children, children_mode: tensor_inspection, epoch_loop: lightweight, batch_loop: ~}
mq: {enabled: true, type: redis, host: queue.example, port: 6380, channel: interception}
kv_db: {enabled: true, host: localhost}
databases: {lmdb: {enabled: true}, mongodb: {enabled: true, host: db.example, port: 27018, db: ours}}
adapters:
  dask: {kind: dask, worker_should_get_input: true}
  tracking: {kind: mlflow, file_path: mlflow.db}
surprise: {key: 1}
"""


def migrate(folder: Path, text: str, *arguments: str) -> Result:
    """Run the command on a file."""
    (folder / "theirs.yaml").write_text(text)
    return CliRunner().invoke(main, ["migrate", str(folder / "theirs.yaml"), *arguments])


def values(text: str) -> dict[str, Any]:
    """Return our values for the text of a file."""
    return {".".join(path): value for path, (value, _) in translate(yaml.safe_load(text)).values.items()}


def test_keys_with_a_counterpart_keep_their_values(tmp_path: Path) -> None:
    result = migrate(tmp_path, FILE, "-o", str(tmp_path / "settings.yaml"))
    assert result.exit_code == 0
    loaded = load_settings(tmp_path / "settings.yaml", environ={})
    torch, telemetry = loaded.instrumentation.torch, loaded.telemetry_capture
    assert torch is not None
    assert telemetry is not None
    assert (torch.what, torch.children_mode) == ("parent_and_children", "tensor_inspection")
    assert (torch.epoch_loop, torch.batch_loop) == ("lightweight", None)
    assert (telemetry.cpu, telemetry.process, telemetry.gpu, telemetry.mem) == (True, True, True, False)
    assert loaded.sinks.redis.uri == "redis://queue.example:6380/0"
    assert loaded.sinks.mongodb.uri == "mongodb://db.example:27018/ours"
    assert loaded.dask.enabled


def test_what_has_no_counterpart_is_said_with_what_there_is_instead(tmp_path: Path) -> None:
    result = migrate(tmp_path, FILE)
    for key in ("project.debug", "project.db_flush_mode", "log", "kv_db", "databases.lmdb", "surprise.key"):
        assert f"\n{key} " in result.stderr
    assert "flowprov import mlflow" in result.stderr
    assert "DaskWorkerPlugin" in result.stderr
    assert result.stdout.startswith("flowprov: 1\n")


def test_a_queue_or_database_that_is_off_or_of_another_kind_becomes_no_sink() -> None:
    assert values("mq: {enabled: false, type: redis, host: a}\ndatabases: {mongodb: {enabled: false}}") == {}
    assert values("mq: {enabled: true, type: kafka}") == {}


def test_an_address_as_a_whole_is_taken_as_it_is() -> None:
    assert values("mq: {enabled: true, uri: 'rediss://u:p@h:1/2'}") == {
        "sinks.redis.uri": "rediss://u:p@h:1/2"
    }


def test_a_value_that_is_not_valid_here_is_left_out_and_said() -> None:
    found = translate({"instrumentation": {"torch": {"what": "everything", "capture_epochs_at_every": 2}}})
    assert [path[-1] for path in found.values] == ["capture_epochs_at_every"]
    assert "parent_only" in found.notes["instrumentation.torch.what"]


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "a: &a [*a]", "\x00", "? [1]\n: 2"])
def test_a_file_that_is_no_settings_is_reported_in_one_line(tmp_path: Path, text: str) -> None:
    result = migrate(tmp_path, text)
    assert result.exit_code in (0, 2)
    assert "Traceback" not in result.output
    if result.exit_code:
        assert result.output.count("\n") <= 2
        assert "theirs.yaml" in result.output


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("mine: 1\n")
    result = migrate(tmp_path, FILE, "-o", str(tmp_path / "settings.yaml"))
    assert result.exit_code == 2
    assert (tmp_path / "settings.yaml").read_text() == "mine: 1\n"
    assert "exists already" in result.output
