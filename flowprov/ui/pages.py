"""What each address of ``flowprov ui`` shows.

Flows in: a path and a query. Flows out: a page, or the state of the records, by which a browser knows whether
a page is out of date. A page is made once for each state.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec

from flowprov.display import format_size
from flowprov.errors import FlowprovError, UnknownIdError
from flowprov.read.answers.items import Item, find_item
from flowprov.read.questions import all_contents, campaign_table, diff
from flowprov.read.source import Source
from flowprov.records import Error
from flowprov.report.collect import collect
from flowprov.report.page import render_page, to_html
from flowprov.report.parts import Fact
from flowprov.report.text import format_duration, format_time, short_id, shown, shown_apart

_MAX_PAGES = 12  # that are kept
_MAX_TEXT = 20_000  # characters of a value of a record
_MAX_CELL = 200
_LONG = (
    *("used", "generated", "custom_metadata", "machine_info", "settings"),
    *("telemetry_at_start", "telemetry_at_end"),
)
_TITLES = {"params": "Parameters"}


class Response(NamedTuple):
    """What is sent: a status of HTTP, a kind of content, a text, and where to go instead."""

    status: int
    kind: str
    text: str
    location: str | None = None


class Pages:
    """The pages of a buffer.

    Parameters
    ----------
    folder
        The buffer folder; None: that of the settings.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._kept: dict[tuple[str, str], Response] = {}
        self._lock = threading.Lock()  # one page at a time: each takes a processor

    def answer(self, address: str) -> Response:
        """Return what is at an address."""
        split = urlsplit(address)
        parts = [unquote(part) for part in split.path.split("/") if part]
        asks_state = parts[:1] == ["state"]
        parts = parts[1:] if asks_state else parts
        with self._lock:
            try:
                state = self._state(parts)
                if asks_state:
                    return Response(200, "application/json", json.dumps({"state": state}))
                return self._page(parts, parse_qs(split.query), address, state)
            except UnknownIdError as error:
                return _message(404, "Not here", str(error))
            except FlowprovError as error:
                return _message(500, "This cannot be shown", str(error))

    def _page(
        self, parts: Sequence[str], query: Mapping[str, list[str]], address: str, state: str
    ) -> Response:
        kept = self._kept.get((address, state))
        if kept is None:
            kept = self._make(parts, query, state)
            if kept.status == 200:
                self._kept[address, state] = kept
                while len(self._kept) > _MAX_PAGES:
                    del self._kept[next(iter(self._kept))]
        return kept

    def _make(self, parts: Sequence[str], query: Mapping[str, list[str]], state: str) -> Response:
        match list(parts):
            case []:
                return _html(self._campaigns(state))
            case ["campaign" | "run", name]:
                return _html(to_html(collect([name], self._folder), state=state))
            case ["record", name]:
                return _html(_record_page(self._item(name), state))
            case ["find"]:
                return self._find(query.get("id", [""])[0].strip())
            case ["compare"]:
                return self._compare(query.get("run", []), state)
        return _message(404, "Not here", "There is no such page.")

    def _state(self, parts: Sequence[str]) -> str:
        """Return what changes with each new record: of the campaign that a page shows, else of all."""
        source = Source(self._folder)
        one = parts[1] if parts[:1] == ["campaign"] and len(parts) == 2 else None
        found = source.campaign(one) if one is not None else source.summaries()
        known = [(str(journal.path), journal.last_at, journal.footer is None) for journal in found]
        return hashlib.sha256(repr(sorted(known)).encode()).hexdigest()[:16]

    def _campaigns(self, state: str) -> str:
        source = Source(self._folder)
        lines = campaign_table(self._folder)[::-1] if source.summaries() else []
        lines.sort(key=lambda line: line["status"] != "RUNNING")
        rows = [
            {
                "id": line["campaign_id"],
                "short": short_id(line["campaign_id"]),
                "name": shown(line["name"] or "(unnamed)", 60),
                "status": line["status"],
                "started": format_time(line["started_at"]),
                "duration": format_duration(line["duration"]),
                "size": format_size(line["size"]),
                **{name: f"{line[name]:,}" for name in ("runs", "tasks", "errors")},
            }
            for line in lines
        ]
        return render_page("campaigns.html", state=state, place=str(source), lines=rows)

    def _find(self, wanted: str) -> Response:
        item = self._item(wanted)
        kind = item.kind if item.kind in ("campaign", "run") else "record"
        return Response(303, "text/plain", "", f"/{kind}/{quote(item.id, safe='')}")

    def _item(self, wanted: str) -> Item:
        return find_item(list(all_contents(self._folder, None)), wanted, "the buffer")

    def _compare(self, run_ids: Sequence[str], state: str) -> Response:
        if len(run_ids) != 2:
            return _message(400, "Two runs", "Choose two runs of a table to compare them.")
        found = diff(run_ids[0], run_ids[1], self._folder).to_dict()
        sections = [
            (_TITLES.get(name, name.capitalize()), list(_leaves(values))) for name, values in found.items()
        ]
        names = [f"run {short_id(run_id)}" for run_id in run_ids]
        return _html(render_page("compare.html", state=state, names=names, sections=sections))


def _html(text: str) -> Response:
    return Response(200, "text/html; charset=utf-8", text)


def _message(status: int, title: str, message: str) -> Response:
    values = {"title": title, "message": message, "kicker": "flowprov", "facts": [], "texts": []}
    return Response(status, "text/html; charset=utf-8", render_page("record.html", state="", **values))


def _leaves(values: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield the label and the two values of each leaf of a difference."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _leaves(value, f"{name} {key}".strip())
    elif isinstance(values, (list, tuple)) and len(values) == 2:
        if repr(values[0]) != repr(values[1]):
            yield shown(name, 80), *shown_apart(values[0], values[1], _MAX_CELL)
    else:
        yield shown(name, 80), shown(values, _MAX_CELL), ""


def _record_page(item: Item, state: str) -> str:
    record = item.task if item.task is not None else item.workflows[-1] if item.workflows else None
    fields: dict[str, Any] = {} if record is None else msgspec.structs.asdict(record)
    known = {name: value for name, value in fields.items() if value not in (None, {}, [])}
    error = known.pop("error", None)
    facts = [Fact(name, _shown_field(name, value)) for name, value in known.items() if name not in _LONG]
    texts = [(name, _as_json(known[name])) for name in _LONG if name in known]
    if isinstance(error, Error):
        texts.insert(
            0, (f"{error.type}: {shown(error.message or '', _MAX_CELL)}", _lines(error.traceback or ""))
        )
    title = shown(item.name or item.id, 80)
    return render_page(
        "record.html",
        state=state,
        kicker=f"{item.kind} {item.id}",
        title=title,
        message="",
        facts=facts,
        texts=texts,
    )


def _shown_field(name: str, value: Any) -> str:
    if name.endswith("_at") and isinstance(value, int):
        return format_time(value)
    return str(value) if name == "pid" else shown(value, _MAX_CELL)


def _as_json(value: Any) -> str:
    return _lines(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _lines(text: str) -> str:
    """Return a text of several lines, each of which is escaped; of a very long one the beginning."""
    return "\n".join(shown(line, 1_000) for line in text[:_MAX_TEXT].splitlines())
