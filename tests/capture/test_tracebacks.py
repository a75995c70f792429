"""The traceback in a record: what Python prints, without opening what is no file, and at little cost."""

from __future__ import annotations

import linecache
import sys
import time
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.capture.error_description import describe_exception
from tests.support import printed_without_carets, run, tasks

needs_groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no groups")

RAISES = {
    "itself": "raise ValueError('no')",
    "a cause": "raise KeyError('of it') from ValueError('no')",
    "in a group": "raise ExceptionGroup('both', [ValueError('no'), caught()])",
    "of syntax": "raise SyntaxError('invalid syntax', (name, 1, 1, None))",
}


@pytest.mark.parametrize("raises", RAISES)
@pytest.mark.parametrize("kind", ["fifo", "/dev/zero"])
def test_a_frame_of_a_file_that_blocks_or_never_ends_is_described_without_its_source(
    tmp_path: Path, kind: str, raises: str
) -> None:
    if raises == "in a group" and sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no groups")
    program = f"""
        import os
        import flowprov

        name = "generated.py" if {kind!r} == "fifo" else {kind!r}
        if name == "generated.py":
            os.mkfifo(name)

        def run(source):
            exec(compile(source, name, "exec"), globals())

        def caught():
            try:
                run("1 / 0")
            except ZeroDivisionError as error:
                return error

        run(\"\"\"def fail(): {RAISES[raises]}\"\"\")
        try:
            flowprov.task(fail)()
        except Exception:
            print("caught")
    """
    stdout, _ = run(program, tmp_path, timeout=60)
    assert stdout == "caught\n"
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False)
    (error,) = [row["error"] for row in rows if row["error"]]
    assert "generated.py" in error["traceback"] or "/dev/zero" in error["traceback"]


def _run(source: str, filename: str, names: dict[str, Any]) -> None:
    exec(compile(source, filename, "exec"), names)  # noqa: S102 - as the import system does


def _caught(function: Callable[[], Any]) -> Exception:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("it did not raise")


def _divide() -> float:
    return 1 + 1 / 0


def _recur(depth: int) -> float:
    return _recur(depth - 1) if depth else _divide()


def _with_notes() -> None:
    error = ValueError("no")
    error.__dict__["__notes__"] = ["the first\nof two lines", "the second"]
    raise error


def _group(*members: Exception) -> Callable[[], None]:
    def act() -> None:
        raise __builtins__["ExceptionGroup"]("several", members)  # type: ignore[index]

    return act


ERRORS: dict[str, Callable[[], Exception]] = {
    "a part of a line": lambda: _caught(_divide),
    "a recursion": lambda: _caught(lambda: _recur(20)),
    "notes": lambda: _caught(_with_notes),
    "no message": KeyError,
    "several lines": lambda: ValueError("the first\n    the second"),
    "syntax": lambda: _caught(lambda: compile("a b c", "<typed>", "exec")),
    "syntax without a place": lambda: SyntaxError("no", ("f.py", None, None, None)),
}


@pytest.mark.parametrize("name", ERRORS)
def test_the_traceback_is_what_python_prints_without_carets(name: str) -> None:
    error = ERRORS[name]()
    assert describe_exception(error).traceback == printed_without_carets(error)


GROUPS: dict[str, Callable[[], Callable[[], None]]] = {
    "flat": lambda: _group(_caught(_divide), KeyError("a")),
    "nested": lambda: _group(KeyError("a"), _caught(_group(_caught(_divide), _caught(_with_notes)))),
    "nested first": lambda: _group(_caught(_group(ValueError("b"))), KeyError("a")),
    "many": lambda: _group(*(ValueError(f"number {number}") for number in range(18))),
    "one too many": lambda: _group(*(ValueError(f"number {number}") for number in range(16))),
}


@needs_groups
@pytest.mark.parametrize("name", GROUPS)
def test_a_group_is_described_as_python_prints_it(name: str) -> None:
    error = _caught(GROUPS[name]())
    assert describe_exception(error).traceback == printed_without_carets(error)


@needs_groups
def test_groups_within_groups_are_described_in_bounded_time() -> None:
    error: Exception = ValueError("the innermost")
    for _ in range(30):
        error = _caught(_group(*[error] * 15))
    began = time.process_time()
    assert describe_exception(error).traceback
    assert time.process_time() - began < 5


def test_an_exception_whose_own_code_hides_its_parts_is_described() -> None:
    class HidingError(Exception):
        @property
        def __traceback__(self) -> Any:  # type: ignore[override]
            raise OSError("asked")

        __cause__ = __context__ = __suppress_context__ = __notes__ = __dict__ = __traceback__

    def fail() -> None:
        raise HidingError("no")

    trace = describe_exception(_caught(fail)).traceback or ""
    assert "in fail\n    raise HidingError" in trace
    assert trace.endswith("HidingError: no\n")


def test_the_source_of_a_module_in_an_archive_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("packed_module.py", "def fail():\n    raise ValueError('from an archive')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "packed.zip"))
    import packed_module  # type: ignore[import-not-found]

    error = _caught(packed_module.fail)
    assert "    raise ValueError('from an archive')\n" in (describe_exception(error).traceback or "")
    sys.modules.pop("packed_module")


def test_the_code_of_a_foreign_loader_does_not_run() -> None:
    class Loader:
        def get_source(self, _name: str) -> str:
            raise AssertionError("it may block")

    names: dict[str, Any] = {"__name__": "loaded", "__loader__": Loader()}
    _run("def fail(): raise ValueError('no')", "loaded_module.py", names)
    linecache.lazycache("loaded_module.py", names)
    promised = linecache.cache["loaded_module.py"]
    trace = describe_exception(_caught(names["fail"])).traceback or ""
    assert 'File "loaded_module.py", line 1, in fail\nValueError: no\n' in trace
    assert linecache.cache.pop("loaded_module.py") is promised


def test_what_linecache_holds_is_used_and_left_as_it_is(tmp_path: Path) -> None:
    source = "def fail(): raise ValueError('generated')\n"
    linecache.cache["<generated>"] = (len(source), None, [source], "<generated>")
    names: dict[str, Any] = {}
    _run(source, "<generated>", names)
    before = dict(linecache.cache)
    trace = describe_exception(_caught(names["fail"])).traceback or ""
    assert linecache.cache == before
    del linecache.cache["<generated>"]
    assert f"    {source}" in trace


@pytest.mark.parametrize("is_held", [False, True])
def test_a_module_that_is_loaded_again_shows_its_new_lines(tmp_path: Path, *, is_held: bool) -> None:
    path = tmp_path / "edited.py"
    module = types.ModuleType("edited")

    def load(message: str) -> str:
        path.write_text(f"def fail(): raise ValueError({message!r})\n")
        _run(path.read_text(), str(path), module.__dict__)
        return describe_exception(_caught(module.fail)).traceback or ""

    assert "raise ValueError('first')" in load("first")
    if is_held:
        linecache.getlines(str(path))
    assert "raise ValueError('the second')" in load("the second")
    linecache.cache.pop(str(path), None)


def test_an_error_of_a_known_place_is_described_without_a_compiler_or_a_file() -> None:
    called = []

    def note(_frame: Any, event: str, argument: Any) -> None:
        if event == "c_call":
            called.append(argument.__name__)

    known, error = [_caught(lambda: _recur(5)) for _ in range(2)]
    describe_exception(known)
    sys.setprofile(note)
    try:
        described = describe_exception(error)
    finally:
        sys.setprofile(None)
    assert called
    assert not {"compile", "stat", "open"} & set(called)
    assert "    return 1 + 1 / 0\n" in (described.traceback or "")


def test_the_secret_of_a_known_place_is_concealed_each_time(buffer: Path) -> None:
    @flowprov.task
    def connect(number: int) -> None:
        raise ValueError("refused" if connect_with(number, password="hunter2-hunter2") else "")  # noqa: S106 - not a real one

    def connect_with(number: int, password: str) -> bool:
        return number >= 0 and bool(password)

    for number in range(3):
        with pytest.raises(ValueError, match="refused"):
            connect(number)
    flowprov.configure(privacy={"patterns": ["(?s)connect_with.*refused"]})
    with pytest.raises(ValueError, match="refused"):
        connect(4)
    traces = [task.error.traceback or "" for task in tasks(buffer) if task.error]
    assert len(traces) == 4
    assert not any("hunter2" in trace for trace in traces)
    assert [trace.count("connect_with") for trace in traces] == [1, 1, 1, 0]


def test_a_place_whose_file_has_gone_is_described(tmp_path: Path) -> None:
    path = tmp_path / "gone.py"
    path.write_text("def fail(): raise ValueError('no')\n")
    names: dict[str, Any] = {}
    _run(path.read_text(), str(path), names)
    path.unlink()
    trace = describe_exception(_caught(names["fail"])).traceback or ""
    assert trace.endswith(f'File "{path}", line 1, in fail\nValueError: no\n')
