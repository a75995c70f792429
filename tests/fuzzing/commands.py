"""The fuzzer of commands: ids, SQL, conditions, columns, paths that nobody would type.

A command does what it was asked for, or one message says why not: status 0, 1 or 2, never a traceback, no
character that steers a terminal, and nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import TypeAlias

from click.testing import CliRunner

import flowprov
from flowprov.cli import main

RECORDED = """
    import flowprov

    @flowprov.task
    def train(lr):
        loop = flowprov.EpochLoop(2)
        for epoch in loop:
            loop.end_iter(loss=lr / (epoch + 1))
        if lr > 0.3:
            raise ValueError("diverged")

    for campaign in ("first", "second"):
        with flowprov.campaign(campaign, campaign_id=f"id-{campaign}"), flowprov.workflow("search"):
            flowprov.log_metrics(total=1)
            for lr in (0.1, 0.4):
                try:
                    train(lr)
                except ValueError:
                    pass
"""
"""A program whose records are asked for."""

_MAX_ERROR = 40_000  # characters: it may list what there is
_WORDS = (
    "", " ", "-", "--", "--json", "'", '"', "''", "%", "*", ";", "--x=1", "\\", "\n", "\t", "\x1b[2J",
    "\u202e", "é", "中", "\udcff", "a" * 5_000, "0", "-1", "9" * 400, "1e999", "nan", "null", "~",
    "~nobody/x", "/dev/null", "/dev/full", "/proc/self/mem", "http://host",
    "redis://127.0.0.1:1/0", "memory://x", "://", "x=1", "journal.path=x", "journal.path=[", "=", ".",
    "30d", "params.", "metrics.loss.max", "run_id,name",
)  # fmt: skip
_SQL = (
    "select", "*", "from", "where", "group by", "order by", "limit", "join", "on", "union all select", ")",
    "(", ",", "=", "<", "is null", "like", "'%'", "count(*)", "sum(", "1", "0.5", "x", "runs", "metrics",
    "tasks", "workflows", "campaigns", "telemetry", '"params.lr"', '"metrics.loss"', "params.lr", "status",
    "as", "\x1b[2J", "generated->>'$.loss'", "json_extract(used, '$", "attach database 'x' as y",
    "drop table runs", "delete from runs", "insert into runs values (1)", "create table t(a)",
    "update runs set name = 1", "pragma writable_schema=1", "pragma journal_mode=wal", "vacuum into 'x'",
    "load_extension('x')", "readfile('/etc/passwd')", "writefile('x', 'y')", ";", "--", "/*",
    "cast(x as int)", "1e999", "x'ff'", "abs(-9223372036854775808)", "char(0)", "char(27)", "\udcff", "'",
    '"', "?", ":x", "$x", "over (", "case when",
    "read_csv('/etc/passwd')", "copy runs to 'x'", "install httpfs", "from 'x.parquet'", "pivot runs on name",
    "describe runs", "summarize runs", "set threads = 1", "export database 'x'", "[1, 2]", "::int", "::json",
    "{'a': 1}", "unnest(tags)", "interval 1 day", "uuid()", "'nan'::double", "x'ff'::blob", "now()",
    "glob('/*')", "10::decimal(38, 0)", "'1e999'::double", "timestamp '290000-01-01'",
    "date '-290000-01-01'", "map {1: 2}",
)  # fmt: skip
_BASES = (
    "select * from runs", "select run_id, name from metrics order by value", "select count(*) from tasks",
    "select name from campaigns", "params.lr < 0.1", "status = 'ERROR'", "metrics.loss is null",
)  # fmt: skip


class CommandTarget:
    """Runs commands on what was recorded.

    Parameters
    ----------
    folder
        The folder of a program, with its buffer in it. It stays as it is.
    """

    name = "commands"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = _state(folder)
        rows = flowprov.read_buffer(folder / "flowprov_buffer", return_df=False)
        names = ("campaign_id", "workflow_id", "task_id", "name", "activity_id", "status")
        self.ids = sorted({str(row[name]) for row in rows for name in names if row[name]})

    def play(self, rng: Random) -> None:
        """Play one round."""
        with _inside(self._folder):
            arguments = [argument.replace("\0", "") for argument in rng.choice(_COMMANDS)(rng, self)]
            result = CliRunner().invoke(main, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(arguments) from result.exception
        assert result.exit_code in (0, 1, 2), (arguments, result.exit_code)
        for text in (result.stdout, result.stderr):
            assert "a fault of its own" not in text, (arguments, text[:2_000])
            assert all(char.isprintable() or char == "\n" for char in text), (arguments, ascii(text)[:500])
        if result.exit_code == 2:
            assert result.stdout == "", (arguments, result.stdout[:500])
            assert result.stderr.count("Error: ") >= 1, (arguments, result.stderr[:500])
            assert len(result.stderr) < _MAX_ERROR, (arguments, len(result.stderr))
        assert _state(self._folder) == self._before, arguments


def _state(folder: Path) -> list[tuple[str, int, bytes]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path), path.stat().st_mtime_ns, path.read_bytes()) for path in paths]


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


# -- what is typed ----------------------------------------------------------------------------------------

_Typed: TypeAlias = list[str]


def _word(rng: Random, target: CommandTarget) -> str:
    """Return an id or a name, a part of one, one with something in it, or anything."""
    key = rng.choice(target.ids)
    at = rng.randrange(len(key) + 1)
    strange = rng.choice(_WORDS)
    return rng.choice(
        (key, key[:at], key[at:], key[:at] + strange + key[at:], strange, key.upper(), key + key)
    )


def _sql(rng: Random) -> str:
    words = rng.choice(_BASES).split(" ")
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(words) + 1)
        words[at : at + rng.randrange(2)] = [rng.choice(_SQL)]
    if rng.random() < 0.2:
        words = [rng.choice(_SQL) for _ in range(rng.randrange(1, 12))]
    return " ".join(words)


def _maybe(rng: Random, *arguments: str, chance: float = 0.4) -> _Typed:
    return list(arguments) if rng.random() < chance else []


def _query(rng: Random, target: CommandTarget) -> _Typed:
    form = rng.choice(("--json", "--csv", "--campaign"))
    return ["query", _sql(rng), *([form, _word(rng, target)] if form == "--campaign" else [form])]


def _runs(rng: Random, target: CommandTarget) -> _Typed:
    return [
        "runs",
        *_maybe(rng, "--where", _sql(rng)),
        *_maybe(rng, "--sort", _word(rng, target)),
        *_maybe(rng, "--columns", f"{_word(rng, target)},{_word(rng, target)}"),
        *_maybe(rng, "--campaign", _word(rng, target), chance=0.2),
        *_maybe(rng, "--json"),
    ]


def _two(rng: Random, target: CommandTarget) -> _Typed:
    return ["diff", _word(rng, target), _word(rng, target), *_maybe(rng, "--json")]


def _one(rng: Random, target: CommandTarget) -> _Typed:
    commands = (["show"], ["tail"], ["verify"], ["rm"], ["ls"], ["ship"], ["settings", "explain"])
    command = rng.choice((*commands, [_word(rng, target)]))
    return [*command, *_maybe(rng, _word(rng, target), chance=0.9), *_maybe(rng, "--json")]


def _sources(rng: Random, target: CommandTarget) -> _Typed:
    command = rng.choice(("ls", "runs", "tail", "rm", "query"))
    return [command, *_maybe(rng, _word(rng, target)), "--source", _word(rng, target)]


def _options(rng: Random, target: CommandTarget) -> _Typed:
    option = rng.choice(("--set", "--settings", "--debu", _word(rng, target)))
    return [option, _word(rng, target), rng.choice(("ls", "show", "plan"))]


def _numbers(rng: Random, target: CommandTarget) -> _Typed:
    options = ("--epochs", "--batches", "--modules", "--runs", "--tasks", "--time", "--settings")
    return ["plan", *(part for option in rng.sample(options, 3) for part in (option, _word(rng, target)))]


def _limits(rng: Random, target: CommandTarget) -> _Typed:
    options = {"show": ("--depth", "--most"), "tail": ("-n", "--last"), "rm": ("--keep", "--older-than")}
    command = rng.choice(list(options))
    return [command, rng.choice(options[command]), _word(rng, target), *_maybe(rng, "--json")]


_COMMANDS: tuple[Callable[[Random, CommandTarget], _Typed], ...] = (
    _query, _query, _runs, _runs, _two, _one, _one, _sources, _options, _numbers, _limits,
)  # fmt: skip
