"""Readings of the host and the process: they agree with procfs, read by other means."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

import flowprov
from flowprov.runtime import runtime
from flowprov.telemetry import procfs_probes, psutil_probes
from flowprov.telemetry.probe import SLOW_EVERY, CompositeProbe, Probe
from tests.telemetry.support import ALL_HOST, await_samples, sampled

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = resource.getpagesize()
UNITS = ("_s", "_ms", "_bytes", "_count", "_mhz", "_packets")
PLAIN_COUNTS = {"errors", "dropped", "threads", "file_descriptors"}


def first_line(path: str) -> list[str]:
    return Path(path).read_text().splitlines()[0].split()


def procfs_cpu() -> dict[str, float]:
    """Seconds of all cores since the start of the machine; proc_stat(5)."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    return {f"{n}_s": int(t) / TICKS for n, t in zip(names, first_line("/proc/stat")[1:], strict=False)}


def procfs_memory() -> dict[str, int]:
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return {name: int(value.split()[0]) * 1024 for name, value in told.items()}


def procfs_disks() -> dict[str, int]:
    """Whole disks, in sectors of 512 bytes; Documentation/admin-guide/iostats.rst of Linux."""
    disks = [line.split() for line in Path("/proc/diskstats").read_text().splitlines()]
    whole = [each for each in disks if Path("/sys/block", each[2].replace("/", "!"), "device").exists()]
    return {
        "read_bytes": sum(int(fields[5]) for fields in whole) * 512,
        "write_bytes": sum(int(fields[9]) for fields in whole) * 512,
    }


def procfs_network() -> dict[str, int]:
    lines = [line.split(":") for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    rows = [counts.split() for name, counts in lines if name.strip() != "lo"]
    return {
        "received_bytes": sum(int(row[0]) for row in rows),
        "sent_bytes": sum(int(row[8]) for row in rows),
    }


def procfs_process() -> dict[str, float]:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return {"user_s": int(fields[11]) / TICKS, "system_s": int(fields[12]) / TICKS}


Kinds = Mapping[str, Callable[[], Probe]]


@pytest.fixture(params=[procfs_probes, psutil_probes], ids=["procfs", "psutil"])
def kinds(request: pytest.FixtureRequest) -> Kinds:
    """Both ways to read: Linux's own, and the one for other systems."""
    made: Kinds = request.param.KINDS
    return made


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("cpu", procfs_cpu),
        ("disk", procfs_disks),
        ("network", procfs_network),
        ("process", procfs_process),
    ],
)
def test_counters_lie_between_what_procfs_says_before_and_after(
    kinds: Kinds, kind: str, read: Callable[[], dict[str, float]]
) -> None:
    if kind == "disk" and kinds is psutil_probes.KINDS:
        pytest.skip("psutil counts what lies on top of disks as well")
    probe = kinds[kind]()
    before = read()
    told = probe.read()
    after = read()
    slack = 0.02 if kind in ("cpu", "process") else 0  # idle times of cores are rounded one by one
    for name, low in before.items():
        assert low - slack <= told[name] <= after[name] + slack, name


def test_memory_agrees_with_procfs(kinds: Kinds) -> None:
    told, known = kinds["mem"]().read(), procfs_memory()
    assert told["total_bytes"] == known["MemTotal"]
    assert abs(told["available_bytes"] - known["MemAvailable"]) < 0.05 * known["MemTotal"]


def test_swap_agrees_with_procfs(kinds: Kinds) -> None:
    told, known = kinds["swap"]().read(), procfs_memory()
    assert told["total_bytes"] == known["SwapTotal"]
    assert abs(told["used_bytes"] - (known["SwapTotal"] - known["SwapFree"])) <= 0.05 * known["MemTotal"]


def test_the_process_agrees_with_procfs(kinds: Kinds) -> None:
    told = kinds["process"]().read()
    resident = int(first_line("/proc/self/statm")[1]) * PAGE
    assert abs(told["rss_bytes"] - resident) < 50 << 20
    assert told["peak_rss_bytes"] >= told["rss_bytes"] - (1 << 20)
    assert told["threads"] == len(list(Path("/proc/self/task").iterdir()))
    assert abs(told["file_descriptors"] - len(os.listdir("/proc/self/fd"))) <= 2  # noqa: PTH208 - counted alike
    written = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    assert told["write_bytes"] <= int(written["write_bytes"])


def test_each_core_has_its_share_of_what_all_spent(kinds: Kinds) -> None:
    told = kinds["cpu"]().read()
    busy = sum(told[name] for name in ("user_s", "nice_s", "system_s", "irq_s", "softirq_s", "steal_s"))
    assert len(told["per_core_busy_s"]) == os.cpu_count()
    assert sum(told["per_core_busy_s"]) == pytest.approx(busy, abs=0.1)


@pytest.mark.parametrize("kind", procfs_probes.KINDS)
def test_names_tell_their_unit_and_values_are_json(kinds: Kinds, kind: str) -> None:
    told = kinds[kind]().read()
    assert told
    assert all(name.endswith(UNITS) or name in PLAIN_COUNTS for name in told)
    assert msgspec.json.decode(msgspec.json.encode(told)) == told


def test_a_task_that_computes_for_a_known_time_shows_it(buffer: Path) -> None:
    flowprov.configure(
        journal={"path": str(buffer)}, telemetry_capture={"process": True, "mode": "exact", "interval": 60}
    )

    @flowprov.task
    def burn(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    burn(0.5)
    spent = _spent(buffer, "user_s") + _spent(buffer, "system_s")
    assert 0.45 <= spent <= 0.75


def test_a_task_that_allocates_a_known_amount_shows_it(buffer: Path) -> None:
    flowprov.configure(
        journal={"path": str(buffer)}, telemetry_capture={"process": True, "mode": "exact", "interval": 60}
    )
    kept = []

    @flowprov.task
    def allocate(size: int) -> None:
        kept.append(b"\1" * size)

    allocate(200 << 20)
    assert 190 << 20 <= _spent(buffer, "rss_bytes") <= 220 << 20


def test_the_sampled_memory_follows_what_the_program_holds(buffer: Path) -> None:
    flowprov.configure(journal={"path": str(buffer)}, telemetry_capture={"process": True, "interval": 0.02})
    with flowprov.workflow("W"):
        flowprov.task(len)("")
        await_samples(buffer, 2)
        held = b"\1" * (200 << 20)
        await_samples(buffer, len(sampled(buffer)) + 2)
    resident = [each["process"]["rss_bytes"] for each in sampled(buffer)]
    assert max(resident) - resident[0] > 190 << 20
    assert held


@pytest.mark.parametrize("kind", procfs_probes.KINDS)
def test_each_part_of_a_kind_fails_alone(kinds: Kinds, kind: str) -> None:
    whole = kinds[kind]()
    assert isinstance(whole, CompositeProbe)
    parts = {**whole._parts, **whole._slow_parts}
    complete = set(whole.read())
    for broken in parts:

        def fail() -> Any:
            raise PermissionError("hidden")

        probe = CompositeProbe(kind, {name: fail if name == broken else part for name, part in parts.items()})
        lost = complete - set(probe.read())
        assert lost
        assert len(parts) == 1 or lost < complete


def test_both_ways_to_read_tell_the_same_names() -> None:
    for kind, make in procfs_probes.KINDS.items():
        assert set(make().read()) == set(psutil_probes.KINDS[kind]().read())


def test_what_a_machine_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda **_: None)
    monkeypatch.setattr(psutil, "net_io_counters", lambda **_: {})
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    assert psutil_probes.KINDS["disk"]().read() == {}
    assert psutil_probes.KINDS["network"]().read() == {}
    assert "frequency_mhz" not in psutil_probes.KINDS["cpu"]().read()


def test_a_file_that_fails_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    file = procfs_probes.ProcfsFile(str(path))
    with pytest.raises(FileNotFoundError):
        file.read()
    path.write_bytes(b"1")
    assert file.read() == b"1"
    assert file._descriptor is not None
    os.close(file._descriptor)  # as if somebody had closed all descriptors
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.read()
    assert file.read() == b"1"


def test_a_descriptor_that_became_another_file_is_left_alone() -> None:
    file = procfs_probes.ProcfsFile("/proc/self/stat")
    file.read()
    assert file._descriptor is not None
    os.close(file._descriptor)  # a program that becomes a daemon closes all that it finds
    reader, writer = os.pipe()
    os.dup2(reader, file._descriptor)
    number = file._descriptor
    with pytest.raises(OSError, match="Illegal seek"):
        file.read()
    os.fstat(number)  # it is still open
    assert file.read()
    for descriptor in {reader, writer, number}:
        os.close(descriptor)


@pytest.mark.parametrize("size", [0, 1, 2047, 2048, 5000, 40_000, 100_000])
def test_files_of_every_size_are_read_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "numbers"
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path.write_bytes(content)
    file = procfs_probes.ProcfsFile(str(path))
    assert file.read() == content
    assert file.read() == content


def test_files_that_the_kernel_gives_in_pieces_are_read_whole() -> None:
    assert procfs_probes.ProcfsFile("/proc/kallsyms").read() == Path("/proc/kallsyms").read_bytes()


def test_counters_stand_still_and_go_on_with_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "dev", procfs_probes.ProcfsFile
    monkeypatch.setattr(procfs_probes, "ProcfsFile", lambda _path: real(str(path)))
    probe = procfs_probes.network()
    told = []
    for received in (7, 7, 8, 7):
        counts = [received, 1, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0, 0, 0, 0]
        path.write_text(f"of all\ninterfaces\n eth0: {' '.join(map(str, counts))}\n", encoding="ascii")
        told.append(probe.read()["received_bytes"])
    assert told == [7, 7, 8, 7]


def test_a_number_that_the_kernel_does_not_tell_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, real = tmp_path / "meminfo", procfs_probes.ProcfsFile
    path.write_text("MemTotal: 1 kB\n", encoding="ascii")
    monkeypatch.setattr(procfs_probes, "ProcfsFile", lambda _path: real(str(path)))
    assert procfs_probes.mem().read() == {}
    assert "the kernel does not report MemFree" in caplog.text


def test_what_changes_slowly_is_read_seldom() -> None:
    calls: list[int] = []

    def seldom() -> dict[str, int]:
        calls.append(1)
        return {"n_count": len(calls)}

    probe = CompositeProbe("cpu", {}, {"slow": seldom})
    assert [probe.read()["n_count"] for _ in range(2 * SLOW_EVERY)] == [1] * SLOW_EVERY + [2] * SLOW_EVERY


def test_no_word_of_the_command_line_or_the_environment_is_sampled(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "marker-of-a-secret")
    monkeypatch.setattr("sys.argv", ["program", "--password=marker-of-a-secret"])
    flowprov.configure(journal={"path": str(buffer)}, telemetry_capture=ALL_HOST)
    with flowprov.workflow("W"):
        pass
    runtime.reset()
    assert sampled(buffer)
    assert not any(b"marker-of-a-secret" in path.read_bytes() for path in buffer.rglob("*.jsonl"))


def _spent(buffer: Path, name: str) -> float:
    row = next(row for row in flowprov.read_buffer(buffer, return_df=False) if row["type"] == "task")
    spent: float = row["telemetry_at_end"]["process"][name] - row["telemetry_at_start"]["process"][name]
    return spent
