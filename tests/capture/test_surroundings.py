"""A program runs on and is recorded whatever surrounds it: folders, clocks, names, limits, missing parts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowprov
from flowprov.journal.format import find_journals
from flowprov.read.verify import verify
from flowprov.records import Header, Workflow
from tests.support import clean_environment, lines_of, of_type, only, run, tasks

_STEPS = """
import flowprov
@flowprov.task
def step(i):
    return i * 2
with flowprov.workflow("W", used={"a": 1}):
    for i in flowprov.Loop(3, name="l"):
        step(i)
with open(os.environ["REACHED"], "w"):
    pass
"""
# All modules, for a program that gives up the right to read them, or the descriptors.
_IMPORT_ALL = """
import encodings.ascii, encodings.idna, encodings.latin_1, getpass, importlib, pkgutil, pwd, flowprov
for found in pkgutil.walk_packages(flowprov.__path__, "flowprov."):
    if found.name.split(".")[1] in ("journal", "runtime", "settings", "shipping", "values", "environment"):
        if not found.name.endswith(".service"):
            importlib.import_module(found.name)
import flowprov.capture.task, flowprov.capture.loops, flowprov.capture.workflow
"""


def record(
    tmp_path: Path, before: str = "", *, env: dict[str, str] | None = None, without: tuple[str, ...] = ()
) -> tuple[str, list[Path]]:
    """Run the program, which must reach its end; return its standard error and the journals."""
    temporary = tmp_path / "temporary"
    temporary.mkdir(mode=0o1777)
    for folder in (tmp_path, temporary):
        folder.chmod(0o777)
    unset = "".join(f"os.environ.pop({name!r}, None)\n" for name in without)
    reached = tmp_path / "temporary" / "reached"
    environment = {"TMPDIR": str(temporary), "REACHED": str(reached), **(env or {})}
    _, stderr = run(f"import os, sys\n{unset}{before}\n{_STEPS}", tmp_path, env=environment)
    assert reached.exists()
    return stderr, [*find_journals(tmp_path / "flowprov_buffer"), *find_journals(temporary)]


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Return a folder that every user may reach; that of pytest belongs to one user."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def assert_complete(journals: list[Path]) -> None:
    assert len(journals) == 1
    assert len(tasks(journals[0].parent)) == 6
    assert verify(journals[0]).verdict == "COMPLETE"
    assert len(flowprov.read_buffer(journals[0])) == 7


@pytest.mark.parametrize(
    "text",
    [
        "dask: {scheduler: tcp://host:8786}",
        "dask:\n  - 1",
        "sinks: {splunk: {level: info}}",
        "journal: {level: info}",
        "journal: {path: $NOT_SET/x}",
        "privacy: strict",
        "telemetry_capture: {statsd: true}\nprivacy: {gdpr: true}",
        "flowprov: {enabled: true}\nother: 1",
        "flowprov:\n  on: true",
        "flowprov: [1]",
    ],
)
def test_the_settings_of_another_program_are_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    stderr, journals = record(tmp_path)
    assert_complete(journals)
    if "flowprov" not in text:
        assert "flowprov does not use" in stderr
        assert '"flowprov: 1" as its first line' in stderr


@pytest.mark.parametrize("how", ["argument", "variable", "mark"])
def test_settings_that_somebody_names_or_that_name_themselves_must_be_right(tmp_path: Path, how: str) -> None:
    name = "settings.yaml" if how == "mark" else "named.yaml"
    mark = "flowprov: 1\n" if how == "mark" else ""
    (tmp_path / name).write_text(f"{mark}dask: {{scheduler: x}}")
    before = "import flowprov\nflowprov.configure('named.yaml')" if how == "argument" else ""
    env = {"FLOWPROV_SETTINGS_PATH": "named.yaml"} if how == "variable" else {}
    _, stderr = run(f"import os\n{before}\n{_STEPS}", tmp_path, env={"REACHED": "/dev/null", **env}, status=1)
    assert "SettingsError" in stderr
    assert "dask.scheduler: unknown key" in stderr


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ("os.mkdir('x'); os.chdir('x'); os.rmdir('../x')", "is gone"),
        ("os.mkdir(b'\\xff'); os.chdir(b'\\xff')", "is not UTF-8"),
        ("os.environ['FLOWPROV__JOURNAL__PATH'] = 'mine'; os.mkdir(b'\\xff'); os.chdir(b'\\xff')", "mine"),
    ],
    ids=["deleted", "not UTF-8", "not UTF-8, and a relative path"],
)
def test_a_current_folder_that_cannot_be_named_costs_no_record(tmp_path: Path, before: str, why: str) -> None:
    stderr, journals = record(tmp_path, before)
    assert_complete(journals)
    assert why in stderr
    assert str(journals[0].parents[2]) in stderr


@pytest.fixture(scope="module")
def clock_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).parent.parent / "faults" / "clock.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.mark.parametrize("year", [-1200, 1677, 1969, 1970, 2038, 2262, 2500, 11000])
def test_any_clock_is_recorded(tmp_path: Path, clock_library: Path, year: int) -> None:
    offset = tmp_path / "offset"
    offset.write_text(str((year - 2026) * 31_556_952))
    stderr, journals = record(
        tmp_path, env={"LD_PRELOAD": str(clock_library), "CLOCK_OFFSET_FILE": str(offset)}
    )
    assert_complete(journals)
    assert "panicked" not in stderr
    rows = flowprov.read_buffer(journals[0], return_df=False)
    assert all(row["started_at"] <= row["ended_at"] for row in rows if row["type"] == "task")


@pytest.mark.parametrize(
    "before",
    [
        "del sys.argv",
        "sys.argv = None",
        "sys.argv = []",
        "sys.argv = [b'\\xff/x.py']",
        "sys.argv = [7]",
        "sys.argv = ['\\udcff.py']",
        "sys.argv = ['a\\0b']",
        "sys.frozen = True; sys.executable = ''",
        "sys.executable = None",
        "sys.stdin = sys.stdout = sys.stderr = None",
        "os.close(0); os.close(1); os.close(2)",
        "del sys.modules['__main__'].__file__",
        "def fail(*_): raise OSError('no')\nos.getlogin = fail",
        "import socket; socket.gethostname = lambda: 'h\\udcff'",
        "import locale; locale.setlocale(locale.LC_ALL, 'C')",
    ],
)
def test_a_process_that_lacks_a_part_is_recorded(tmp_path: Path, before: str) -> None:
    _, journals = record(tmp_path, before)
    assert_complete(journals)


@pytest.mark.parametrize(
    "env",
    [
        {"TMPDIR": "/nonexistent"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONSAFEPATH": "1"},
        {"HOME": "/nonexistent"},
    ],
    ids=["no temporary folder", "locale C", "safe path", "no home"],
)
def test_a_strange_environment_is_recorded(tmp_path: Path, env: dict[str, str]) -> None:
    _, journals = record(tmp_path, env=env)
    assert_complete(journals)


def test_a_user_without_name_home_and_entry_is_recorded(shared_folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become a user that does not exist")
    names = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")
    _, journals = record(shared_folder, f"{_IMPORT_ALL}\nos.setgid(54321); os.setuid(54321)", without=names)
    assert_complete(journals)


@pytest.mark.parametrize(
    ("limit", "value"),
    [("RLIMIT_NOFILE", "8"), ("RLIMIT_FSIZE", "100_000"), ("RLIMIT_CORE", "0"), ("RLIMIT_NPROC", "1")],
)
def test_a_process_under_limits_is_recorded(shared_folder: Path, limit: str, value: str) -> None:
    become = "os.setgid(54321); os.setuid(54321)" if limit == "RLIMIT_NPROC" and os.getuid() == 0 else ""
    before = f"{_IMPORT_ALL}\nimport resource\nresource.setrlimit(resource.{limit}, ({value}, {value}))"
    _, journals = record(shared_folder, f"{before}\n{become}")
    assert_complete(journals)


@pytest.mark.parametrize(("limit", "value"), [("RLIMIT_NOFILE", "3"), ("RLIMIT_FSIZE", "0")])
def test_a_process_that_can_write_nothing_runs_on_and_says_so(tmp_path: Path, limit: str, value: str) -> None:
    before = f"{_IMPORT_ALL}\nimport resource\nresource.setrlimit(resource.{limit}, ({value}, {value}))"
    _, stderr = run(
        f"import os\n{before}\n{_STEPS.partition('with open')[0]}\nos.write(2, b'reached')", tmp_path
    )
    assert "flowprov stops recording" in stderr
    assert "reached" in stderr


@pytest.mark.parametrize("mount", ["umount -l /proc", "mount -t tmpfs none /proc"], ids=["absent", "hidden"])
def test_a_process_without_proc_is_recorded(tmp_path: Path, mount: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"import os\n{_STEPS}")
    command = f"{mount} || exit 77; exec {sys.executable} {program}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command],
        cwd=tmp_path,
        env=clean_environment(REACHED=str(tmp_path / "reached")),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this user cannot hide /proc")
    assert done.returncode == 0, done.stderr
    assert_complete(find_journals(tmp_path / "flowprov_buffer"))


def test_names_that_are_not_utf_8_are_recorded(tmp_path: Path) -> None:
    odd = {"USER": "u\udcff", "LOGNAME": "u\udcff", "CONDA_DEFAULT_ENV": "e\udcff", "PWD": "/\udcff"}
    launched = {"SLURM_JOB_ID": "\udcff", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
    before = """
import socket, sys
socket.gethostname = lambda: "host\\udcff"
os.makedirs(b"r\\xff/.git/refs/heads")
open(b"r\\xff/.git/HEAD", "wb").write(b"ref: refs/heads/branch\\xff")
open(b"r\\xff/.git/refs/heads/branch\\xff", "w").write("0" * 40)
open(b"r\\xff/.git/config", "wb").write(b'[remote "origin"]\\nurl = https://user:password@host/\\xff.git')
sys.argv = ["r\\udcff/script\\udcff.py", "argument\\udcff"]
"""
    campaign = {"FLOWPROV_CAMPAIGN_ID": "campaign\udcff"}
    _, journals = record(tmp_path, before, env={**odd, **launched, **campaign})
    assert_complete(journals)
    header = only(of_type(lines_of(journals[0]), Header))
    assert (header.hostname, header.campaign_id) == ("host\\udcff", "campaign\\udcff")
    assert header.program == "script\\udcff.py"
    opening = of_type(lines_of(journals[0]), Workflow)[0]
    assert (opening.user, opening.environment_id) == ("u\\udcff", "e\\udcff")
    repository = opening.code_repository
    assert repository["folder"].endswith("r\\udcff")
    assert (repository["branch"], repository["commit"]) == ("branch\\udcff", "0" * 40)
    assert repository["remote"] == "https://***@host/\\udcff.git"


@pytest.mark.parametrize("number", ["\u00b2", "\u0663", "1" * 5000, "-1", "", "1.0", "\udcff"])
def test_a_rank_that_is_no_number_is_none(tmp_path: Path, number: str) -> None:
    _, journals = record(tmp_path, env={"RANK": number, "WORLD_SIZE": "2", "SLURM_RESTART_COUNT": number})
    assert_complete(journals)
    assert only(of_type(lines_of(journals[0]), Header)).rank is None


def test_a_program_of_a_name_that_is_not_utf_8_is_recorded_with_its_children(tmp_path: Path) -> None:
    before = """
import subprocess, sys
if len(sys.argv) == 1:
    import flowprov
    with flowprov.workflow("outer \\udcff", campaign_id="c\\udcff"), flowprov.task_scope("t\\udcff"):
        os.link(__file__, b"child\\xff.py")
        subprocess.run([sys.executable, b"child\\xff.py", b"\\xfe"], check=True)
    sys.exit()
"""
    run(f"import os\n{before}\n{_STEPS}", tmp_path, env={"REACHED": str(tmp_path / "reached")})
    journals = find_journals(tmp_path / "flowprov_buffer")
    assert {journal.parents[1] for journal in journals} == {journals[0].parents[1]}
    assert len(journals) == 2
    assert len(tasks(tmp_path / "flowprov_buffer")) == 7
    assert verify(tmp_path / "flowprov_buffer").verdict == "COMPLETE"
