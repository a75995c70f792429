"""A terminal gets no control character of what was recorded, and no line that looks like one of ours."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import guard
from flowprov.display import EscapingFilter, printable, printable_json, printable_lines
from flowprov.errors import FlowprovError, SettingsError, UnknownIdError
from flowprov.journal.format import find_journals
from flowprov.read import tree
from flowprov.records import Footer, Task, encode
from tests.cli.support import flowprov as command
from tests.fuzzing.everything import VERIFY, Findings, read_everything
from tests.fuzzing.journals import write_buffers
from tests.fuzzing.mutations import HOSTILE_TEXT
from tests.journal.support import NS, header, step, write
from tests.support import REPOSITORY

# The verdict that the hostile text would forge; no buffer of these tests has it.
_FORGED = "COMPLETE: 1 journal, closed; all 3 events"
_NOT_RECORDED = {"campaign_id", "process_started_at", "type"}  # a journal of another campaign is not shown


def assert_harmless(text: str) -> None:
    """Fail if a text could steer a terminal, or has a line that was forged."""
    assert all(char.isprintable() or char == "\n" for char in text), ascii(text)[:2_000]
    assert not any(line.strip().startswith(_FORGED) for line in text.split("\n")), text[:2_000]


def assert_all_harmless(findings: Findings) -> None:
    """Fail if anything that a person got to see is not harmless."""
    for text in (*findings.outputs.values(), *findings.texts):
        assert_harmless(text)
    assert findings.outputs[VERIFY].splitlines()[-1].startswith(f"{findings.verdict}: ")


@pytest.fixture(scope="module")
def buffers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Buffers with every kind of record."""
    return write_buffers(tmp_path_factory.mktemp("buffers"))


def _plant(value: Any, name: str) -> Any:
    """Return a value with the hostile text in place of, or behind, each text under a name in it."""
    if isinstance(value, str):
        return HOSTILE_TEXT if name in ("hostname", "status", "reason") else value + HOSTILE_TEXT
    if isinstance(value, list):
        return [_plant(item, name) for item in value]
    if isinstance(value, dict):
        return {key + HOSTILE_TEXT: _plant(item, name) for key, item in value.items()}
    return value


def _fields_of(buffer: Path) -> set[tuple[str, str]]:
    """Return every field of every kind of record that holds a text, itself or inside."""
    found = set()
    for path in find_journals(buffer):
        for line in path.read_bytes().split(b"\n"):
            if line.startswith(b'{"type"'):
                record = json.loads(line)
                found |= {
                    (record["type"], name)
                    for name, value in record.items()
                    if name not in _NOT_RECORDED and _plant(value, name) != value
                }
    return found


@pytest.mark.parametrize("planted", ["a kind", pytest.param("a field", marks=pytest.mark.soak)])
def test_no_text_of_any_record_reaches_the_terminal_as_it_is(
    buffers: list[Path], tmp_path: Path, planted: str
) -> None:
    held = {buffer: _fields_of(buffer) for buffer in buffers}
    fields = sorted(set().union(*held.values()))
    assert len(fields) > 40, fields
    by_kind: dict[str, set[str]] = {}
    for kind, name in fields:
        by_kind.setdefault(kind, set()).add(name)
    for kind, names in by_kind.items():
        for buffer in buffers:
            here = {name for name in names if (kind, name) in held[buffer]}
            for planted_names in [here] if planted == "a kind" else [{name} for name in here]:
                _plant_and_read(buffer, tmp_path / "planted", kind, planted_names)


def _plant_and_read(buffer: Path, folder: Path, kind: str, names: set[str]) -> None:
    """Plant the hostile text in fields of the records of one kind, and look at all that is shown."""
    planted = Path(shutil.copytree(buffer, folder))
    for path in find_journals(planted):
        lines = path.read_bytes().split(b"\n")
        prefix = b'{"type":"%s"' % kind.encode()
        changed = [_planted(line, names) if line.startswith(prefix) else line for line in lines]
        path.write_bytes(b"\n".join(changed))
        if changed == lines:
            continue
        assert_all_harmless(read_everything(planted, tables=False))
        break
    shutil.rmtree(planted)


def _planted(line: bytes, names: set[str]) -> bytes:
    record = json.loads(line)
    for name in names & record.keys():
        value = record[name]
        # The names of fields in an error or a launch are ours.
        is_ours = name in ("error", "launch")
        record[name] = (
            {key: _plant(item, key) for key, item in value.items()} if is_ours else _plant(value, name)
        )
    return json.dumps(record, separators=(",", ":")).encode()


def test_a_host_that_is_named_like_a_verdict_does_not_make_one(tmp_path: Path) -> None:
    path = write(tmp_path, header(hostname="h"), step(0), Footer(at=9 * NS, captured=2, written=2))
    path.write_bytes(
        path.read_bytes().replace(b'"hostname":"h"', json.dumps({"hostname": HOSTILE_TEXT}).encode()[1:-1])
    )
    verified = command("verify", tmp_path, cwd=tmp_path)
    assert (verified.status, verified.verdict) == (1, "INCOMPLETE")
    assert_harmless(verified.out)
    as_json = command("verify", "--json", tmp_path, cwd=tmp_path)
    assert as_json.out.strip().isprintable()
    assert as_json.json["journals"][0]["hostname"] == HOSTILE_TEXT, "programs get the text as it was recorded"


def test_reasons_of_drops_are_escaped(tmp_path: Path) -> None:
    footer = Footer(
        at=9 * NS, captured=2, written=1, dropped={HOSTILE_TEXT: 1}, internal_errors={HOSTILE_TEXT: 1}
    )
    write(tmp_path, header(), step(0), footer)
    assert_all_harmless(read_everything(tmp_path))


@pytest.mark.parametrize(
    "name", ["a\x1b[2J\nCOMPLETE: 1 journal, closed; all 3 events", "\u202ea", "\x9b31m", "\udcff\n"]
)
def test_names_of_files_and_folders_are_escaped(name: str, tmp_path: Path) -> None:
    buffer = tmp_path / name
    path = write(buffer, header(), step(0), Footer(at=9 * NS, captured=2, written=2))
    shutil.copy(path, path.with_name(f"{name}.jsonl"))
    os.mkfifo(path.with_name(f"fifo {name}.jsonl"))
    assert_all_harmless(read_everything(buffer))
    for arguments in (["show"], ["verify"], ["show", "--campaign", name], ["ship"]):
        result = command(*arguments[:1], buffer, *arguments[1:], cwd=tmp_path)
        assert_harmless(result.out)
        assert_harmless(result.err)
    missing = command("verify", buffer / name, cwd=tmp_path)
    assert missing.status == 2
    assert_harmless(missing.err)


def test_errors_escape_what_they_quote(tmp_path: Path) -> None:
    write(tmp_path, header("j", HOSTILE_TEXT.replace("/", "").replace("\0", "")[:40]), step(0))
    with pytest.raises(UnknownIdError) as raised:
        list(flowprov.Buffer(tmp_path).records(campaign_id="c"))
    assert_harmless(str(raised.value))
    assert str(FlowprovError("two\nlines\x1b")) == "two\\nlines\\x1b"
    assert str(SettingsError("two\nlines\x1b")) == "two\nlines\\x1b"


def test_log_messages_and_their_tracebacks_are_escaped() -> None:
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    guard.logger.addHandler(handler)
    try:
        guard.logger.warning("flowprov cannot read %s", HOSTILE_TEXT)
        try:
            raise ValueError(HOSTILE_TEXT)
        except ValueError as error:
            guard.report_internal_error(f"testing {HOSTILE_TEXT}", error)
    finally:
        guard.logger.removeHandler(handler)
    assert "ValueError" in log.getvalue()
    assert "\x1b" not in log.getvalue()
    assert_harmless(log.getvalue())
    broken = logging.LogRecord("flowprov", logging.WARNING, "", 0, "%s and %s", ("too few",), None)
    assert EscapingFilter().filter(broken), "the handler says what is wrong with it"


def test_trees_and_tables_are_escaped() -> None:
    rows = [
        Task(
            task_id=HOSTILE_TEXT,
            activity_id=HOSTILE_TEXT,
            used={HOSTILE_TEXT: HOSTILE_TEXT},
            status=HOSTILE_TEXT,
        )
    ]
    assert_harmless(tree(rows))
    assert_harmless(tree(rows, label=lambda _: HOSTILE_TEXT))
    assert_harmless(repr(rows))


@pytest.mark.parametrize("text", ["caf\u00e9 \u4e16\u754c", "a\\b'c\"d", "", "x" * 100])
def test_texts_of_any_language_are_shown_as_they_are(text: str) -> None:
    assert printable(text) == printable_lines(text) == text
    assert printable_json(json.dumps(text, ensure_ascii=False)) == json.dumps(text, ensure_ascii=False)


def test_of_a_text_only_what_steers_a_terminal_is_escaped() -> None:
    assert printable('flowprov\'s "x"\n\x1b[2J\\n') == r"""flowprov's "x"\n\x1b[2J\\n"""


def test_a_warning_of_several_lines_is_shown_in_lines_that_are_escaped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = SettingsError('1 problem:\n  it\'s "x"\x1b[2J')
    guard.warn_once("several lines", "flowprov's settings: %s", error, in_lines=True)
    guard.warn_once("one line", "flowprov's settings: %s", 'a\n"b"')
    assert [record.getMessage() for record in caplog.records] == [
        "flowprov's settings: 1 problem:\n  it's \"x\"\\x1b[2J",
        'flowprov\'s settings: a\\n"b"',
    ]


def test_escaped_json_is_the_same_json() -> None:
    text = "".join(map(chr, (*range(0x3000), 0xE000, 0xFEFF, 0x1F600, 0xE0001)))
    escaped = printable_json(json.dumps(text, ensure_ascii=False))
    assert escaped.isprintable()
    assert json.loads(escaped) == text


def _calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_nothing_but_the_output_of_commands_prints() -> None:
    printing = {"print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write"}
    found = {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "flowprov").rglob("*.py")
        if not printing.isdisjoint(_calls(path))
    }
    # What a script says as it exits is its own, and not from a journal.
    assert found == {"flowprov/cli/terminal.py", "flowprov/script_run.py"}


def test_a_very_long_line_is_cut(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0))
    path.write_bytes(
        path.read_bytes() + encode(step("x" * 1_000_000, activity_id="y" * 1_000_000, status="RUNNING"))
    )
    for arguments in (("show",), ("verify",)):
        assert max(map(len, command(*arguments, tmp_path, cwd=tmp_path).out.splitlines())) <= 4_000
