"""Code, machines, settings and packages of a campaign.

Flows in: the versions and workflows of a campaign, and descriptions of machines. Flows out: facts.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from flowprov.display import count, format_size
from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.kept_versions import KeptVersion, Versions
from flowprov.read.decoding import records_of_kind
from flowprov.read.successions import successions
from flowprov.records import Machine, Version, Workflow
from flowprov.report.parts import CodeAndMachines, CodeFacts, Fact
from flowprov.report.text import listed, shown

_MAX_STATES, _MAX_MACHINES, _MAX_PACKAGES = 6, 8, 400
_MAX_SETTINGS = 6_000
_MAX_TEXT = 200
_TIMES = " \N{MULTIPLICATION SIGN} "


def surroundings_of(
    versions: Versions, workflows: Sequence[Workflow], journals: Sequence[JournalSummary]
) -> CodeAndMachines:
    """Return on which code and machines a campaign ran, with which settings and packages."""
    kept = [one for found in versions.values() for one in found]
    return CodeAndMachines(
        code=_code_states(kept, {row.workflow_id: row for row in workflows}),
        machines=_machines(journals),
        packages=[shown(name, 80) for name in _packages(kept)[:_MAX_PACKAGES]],
        settings=_settings(workflows),
    )


def _packages(kept: Iterable[KeptVersion]) -> list[str]:
    """Return the packages of the first version that has any."""
    return next((found for one in kept if (found := one.packages())), [])


def _code_states(kept: Iterable[KeptVersion], workflows: Mapping[str, Workflow]) -> list[CodeFacts]:
    """Return the different states of the code, each with the names of the workflows that ran on it."""
    states: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for one in kept:
        facts = tuple((fact.label, fact.value) for fact in _code_facts(one.record))
        workflow = workflows.get(one.record.workflow_id)
        name = shown((None if workflow is None else workflow.name) or one.record.workflow_id, 40)
        moment = "" if one.record.moment == "start" else " (at its end)"
        states.setdefault(facts, []).append(f"{name}{moment}")
    return [
        CodeFacts([Fact(*fact) for fact in facts], listed(dict.fromkeys(names), 6))
        for facts, names in list(states.items())[:_MAX_STATES]
    ]


def _code_facts(version: Version) -> list[Fact]:
    code = version.code or {}
    commit = code.get("commit")
    facts = [_fact("script", version.script)]
    if version.arguments:
        facts.append(Fact("arguments", shown(" ".join(map(str, version.arguments)), _MAX_TEXT)))
    facts += [
        _fact("commit", commit),
        _fact("branch", code.get("branch")),
        _fact("remote", code.get("remote")),
    ]
    if isinstance(code.get("dirty"), bool):
        facts.append(Fact("changes", _changes(code) if code["dirty"] else "none that are not committed"))
    elif code.get("state") not in (None, "ok"):
        facts.append(Fact("git", shown(code.get("reason") or code.get("state"), _MAX_TEXT)))
    data = [one for one in version.data or [] if isinstance(one, dict)]
    if data:
        paths = (f"{shown(one.get('path'), 40)} {shown(one.get('md5') or '', 8)}".strip() for one in data)
        facts.append(Fact("data (DVC)", listed(paths, 4)))
    return [fact for fact in facts if fact.value]


def _changes(code: Mapping[str, Any]) -> str:
    parts = [
        count(number, f"{kind} file")
        for kind in ("changed", "untracked")
        if isinstance(number := code.get(kind), int) and number
    ]
    return f"not committed: {', '.join(parts)}" if parts else "not committed"


def _fact(label: str, value: Any) -> Fact:
    return Fact(label, "" if value is None else shown(value, _MAX_TEXT))


def _machines(journals: Sequence[JournalSummary]) -> list[list[Fact]]:
    """Return the machines that differ, each with the number of processes that ran on it."""
    found: dict[tuple[tuple[str, str], ...], set[int]] = {}
    for files in successions(journals):
        machines = chain.from_iterable(records_of_kind(file, Machine) for file in files)
        for last in deque(machines, maxlen=1):
            facts = _machine_facts(files[0].header.hostname, last.values)
            found.setdefault(tuple(facts), set()).add(files[0].header.pid)
    return [
        [*(Fact(*fact) for fact in facts), Fact("processes", str(len(pids)))]
        for facts, pids in list(found.items())[:_MAX_MACHINES]
    ]


def _machine_facts(hostname: str, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    versions = values.get("versions")
    memory = values.get("memory_bytes")
    facts = {
        "host": hostname,
        "system": " ".join(str(values[name]) for name in ("system", "release") if values.get(name)),
        "processor": _TIMES.join(
            str(values[name]) for name in ("cpu_count", "cpu_model") if values.get(name)
        ),
        "memory": format_size(memory) if isinstance(memory, (int, float)) else None,
        "GPU": _gpus(values.get("gpu")),
        "Python": values.get("python"),
        "versions": listed((f"{name} {version}" for name, version in versions.items()), 8)
        if isinstance(versions, dict)
        else None,
    }
    return [(label, shown(value, _MAX_TEXT)) for label, value in facts.items() if value]


def _gpus(gpus: Any) -> str | None:
    """Return the names of the GPUs, each with how many there are."""
    devices = gpus.get("devices", gpus) if isinstance(gpus, dict) else {}
    described = (
        devices.values() if isinstance(devices, dict) else devices if isinstance(devices, list) else []
    )
    names = [str(one["name"]) for one in described if isinstance(one, dict) and one.get("name")]
    return ", ".join(f"{names.count(name)}{_TIMES}{name}" for name in dict.fromkeys(names)) or None


def _settings(workflows: Sequence[Workflow]) -> str:
    settings = next((row.settings for row in workflows if row.settings), None)
    if settings is None:
        return ""
    text = json.dumps(settings, indent=1, ensure_ascii=False, default=str)
    lines = [shown(line, _MAX_TEXT) for line in text[:_MAX_SETTINGS].splitlines()]
    return "\n".join([*lines, *(["…"] if len(text) > _MAX_SETTINGS else [])])
