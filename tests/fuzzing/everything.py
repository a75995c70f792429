"""Run all that reads: every method of a buffer, every function on rows, every command, a shipment, a mirror.

Whatever lies in the buffer, nothing but the documented errors may be raised.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pyarrow as pa  # type: ignore[import-untyped]
from click.testing import CliRunner

import flowprov
from flowprov import read
from flowprov.cli import main
from flowprov.errors import FlowprovError
from flowprov.read import Buffer, mirror
from flowprov.read.source import Source
from flowprov.records import Header
from flowprov.shipping.shipment import Shipment
from flowprov.sinks.base import Entry
from flowprov.sinks.mongodb.documents import document_of

SHOW: tuple[str, ...] = ("show",)
FORWARDS: tuple[str, ...] = ("show", "--forwards")
TREE: tuple[str, ...] = ("show", "--json")
VERIFY: tuple[str, ...] = ("verify",)
JSON: tuple[str, ...] = ("verify", "--json")
_MAX_DOCUMENT = 16 << 20


class Findings(NamedTuple):
    """What a person got to see.

    Attributes
    ----------
    outputs
        The output of each command, by its arguments.
    texts
        All other texts: representations, trees, log messages, errors.
    verdict
        The verdict of ``flowprov verify``; "" if there is none.
    """

    outputs: dict[tuple[str, ...], str]
    texts: list[str]
    verdict: str


class MemoryServer:
    """A sink and a sink reader without a server."""

    name = "memory"

    def __init__(self) -> None:
        self.journals: dict[str, dict[str, dict[int, bytes]]] = {}
        self.headers: list[Header] = []

    def resume_after(self, header: Header) -> int | None:
        """Return None: it holds nothing."""
        self.headers.append(header)
        return None

    def deliver(self, header: Header, entries: Sequence[Entry]) -> None:
        """Store entries."""
        campaign = self.journals.setdefault(header.campaign_id, {})
        campaign.setdefault(header.journal_id, {}).update(entries)
        for entry in entries:
            document_of(header, entry, _MAX_DOCUMENT)

    def campaign_ids(self) -> list[str]:
        """Return the ids of the campaigns."""
        return list(self.journals)

    def journal_ids(self, campaign_id: str) -> list[str]:
        """Return the ids of the journals of a campaign."""
        return list(self.journals.get(campaign_id, {}))

    def ends(self, journal_ids: Sequence[str], count: int) -> Iterator[list[Entry]]:
        """Yield the first and last entries of journals."""
        for journal_id in journal_ids:
            entries = list(self.entries(journal_id))
            yield sorted({*entries[:count], *entries[-count:]})

    def entries(
        self,
        journal_id: str,
        after: int | None = None,
        *,
        confirmed: bool = False,  # noqa: ARG002 - it has no gaps
    ) -> Iterator[Entry]:
        """Yield the entries of a journal behind a position."""
        for journals in self.journals.values():
            for position, line in sorted(journals.get(journal_id, {}).items()):
                if after is None or position > after:
                    yield Entry(position, line)

    def count(self, journal_id: str) -> int:
        """Return the number of entries of a journal."""
        return sum(len(journals.get(journal_id, {})) for journals in self.journals.values())

    def close(self) -> None:
        """Do nothing."""


def read_everything(folder: Path, campaign_id: str | None = None, *, tables: bool = True) -> Findings:
    """Read a buffer in every way; return what a person got to see.

    Parameters
    ----------
    folder, campaign_id
        The buffer, and a campaign.
    tables
        Whether to ask for the tables of runs and metrics, too, which show nothing by themselves.
    """
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logger = logging.getLogger("flowprov")
    logger.addHandler(handler)
    texts: list[str] = []
    try:
        _attempt(texts, lambda: _read_buffer(Buffer(folder), campaign_id, texts))
        if tables:
            _attempt(texts, lambda: _ask(folder, texts))
        _attempt(texts, lambda: _ask_by_command(folder, texts))
        outputs = {
            command: _run(folder, campaign_id, command) for command in (SHOW, FORWARDS, TREE, VERIFY, JSON)
        }
        server = MemoryServer()
        _attempt(texts, Shipment(server, folder).try_deliver)
        _read_server(server, campaign_id, texts)
    finally:
        logger.removeHandler(handler)
    texts.append(log.getvalue())
    verdict = ""
    if outputs[JSON].startswith("{"):
        verdict = json.loads(outputs[JSON])["verdict"]
        assert outputs[VERIFY].splitlines()[-1].startswith(f"{verdict}: ")
    return Findings(outputs, texts, verdict)


def _attempt(texts: list[str], action: Callable[[], Any]) -> None:
    """Call something that may raise documented errors, and nothing else."""
    try:
        action()
    except FlowprovError as error:
        texts.append(str(error))


def _read_buffer(buffer: Buffer, campaign_id: str | None, texts: list[str]) -> None:
    texts.append(repr(buffer))
    rows = list(buffer.records(campaign_id=campaign_id))
    merged = list(buffer.records(campaign_id=campaign_id, merge=True))
    texts += [repr(row) for row in (*rows[:20], *list(buffer.messages(campaign_id=campaign_id))[:20])]
    frame = buffer.frame(campaign_id=campaign_id)
    telemetry = buffer.telemetry(campaign_id=campaign_id)
    for table in (frame, telemetry):
        pa.Table.from_pandas(table)
        texts.append(repr(table))
    texts.append(read.tree(frame))
    texts.append(read.tree(merged, fold_forwards=True, depth=3))
    for row in merged[:3]:
        key = getattr(row, "task_id", None) or row.workflow_id
        texts += [*read.ancestors(merged, str(key)), *read.children(merged, str(key))] and []
    read.first_nonfinite(rows)
    buffer.machines(campaign_id=campaign_id)
    texts += [repr(campaign) for campaign in buffer.campaigns()]
    texts += [repr(damage) for damage in buffer.damages(campaign_id=campaign_id)]
    texts += [repr(report) for report in buffer.journals(campaign_id=campaign_id)]
    follower = buffer.follow(campaign_id=campaign_id)
    messages = list(follower.available())
    assert not list(follower.available()), "nothing came meanwhile"
    again = buffer.follow(position=json.loads(json.dumps(follower.position)))
    assert not list(again.available()), messages[:3]
    texts.append(str(flowprov.read_buffer(buffer._source._path, return_df=False))[:0])


def _ask(folder: Path, texts: list[str]) -> None:
    """Ask for runs, metrics and campaigns, as tables and by SQL."""
    runs = flowprov.runs(folder)
    tables = [
        runs,
        flowprov.runs(folder, attempts=True),
        flowprov.metrics(folder),
        flowprov.campaigns(folder),
    ]
    tables.append(flowprov.read_buffer(folder, flat=True))
    for table in tables:
        pa.Table.from_pandas(table)
    for name in ("runs", "metrics", "tasks", "workflows", "campaigns", "telemetry"):
        flowprov.query(f"select * from {name}", folder)  # noqa: S608
    ids = [str(name) for name in runs["run_id"].dropna()][:2]
    if ids:
        texts.append(str(flowprov.diff(ids[0], ids[-1], folder)))


def _ask_by_command(folder: Path, texts: list[str]) -> None:
    for command in (("ls",), ("runs",), ("tail",), ("tail", "--metrics")):
        for options in ((), ("--json",)):
            result = CliRunner().invoke(main, [*command, *options, "--source", str(folder)])
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            assert result.exit_code == 0 or command[0] == "tail", result.output
            assert "a fault of its own" not in result.output, result.output
            for line in result.stdout.splitlines() if options else ():
                json.loads(line)
            texts += result.output.splitlines()


def _run(folder: Path, campaign_id: str | None, command: tuple[str, ...]) -> str:
    """Run a command in this process; return its output."""
    campaign = [] if campaign_id is None else ["--campaign", campaign_id]
    result = CliRunner().invoke(main, [command[0], str(folder), *campaign, *command[1:]])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2), result.output
    assert "a fault of its own" not in result.output, result.output
    assert command != SHOW or result.exit_code != 1
    return result.output


def _read_server(server: MemoryServer, campaign_id: str | None, texts: list[str]) -> None:
    with mock.patch.object(mirror, "open_reader", return_value=server):
        source = Source("memory://")
        _attempt(texts, source.summaries)
        for name in server.campaign_ids()[:3]:
            with contextlib.suppress(FlowprovError):
                for summary in source.campaign(name):
                    summary.path.stat()
        buffer = Buffer("memory://")
        _attempt(texts, lambda: list(buffer.records(campaign_id=campaign_id)))
