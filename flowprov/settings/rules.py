"""Rules across keys: settings that are valid one by one, and do not fit together or into this environment.

Flows in: settings. Flows out: findings. ``flowprov settings validate`` reports all of them. While a program
loads its settings they stop nothing; each is said once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import NamedTuple

from flowprov.settings.key_tree import KeyPath
from flowprov.settings.origins import DEFAULT_PROFILE, is_of_profile
from flowprov.settings.report import shorten
from flowprov.settings.schema import Settings
from flowprov.settings.sources import PROFILE_KEY

_KINDS = ("cpu", "mem", "swap", "disk", "network", "process", "gpu")
_TORCH = ("instrumentation", "torch")


class Finding(NamedTuple):
    """What a rule says.

    Attributes
    ----------
    path
        The key on which it lies.
    message
        What was found, and what was expected.
    mend
        How to mend it.
    is_problem
        Whether something is missing from the record; else it is only worth knowing.
    said_elsewhere
        Whether the part of flowprov that meets it says so while the program runs.
    because_of
        The other keys that it looked at.
    """

    path: KeyPath
    message: str
    mend: str
    is_problem: bool = True
    said_elsewhere: bool = False
    because_of: tuple[KeyPath, ...] = ()


def findings(settings: Settings) -> list[Finding]:
    """Return what is wrong, or worth knowing, about settings that are valid key by key."""
    return [finding for rule in _RULES for finding in rule(settings)]


def _profile(settings: Settings) -> Iterator[Finding]:
    origins = settings.origins
    holds = any(map(is_of_profile, origins.by_key.values()))
    if origins.profile != DEFAULT_PROFILE and not holds:
        yield Finding(
            (PROFILE_KEY,),
            f"found {shorten(origins.profile)}, of which no key holds: a file, a variable or code sets all "
            "of them",
            "leave those keys out, or the profile; flowprov settings show --origin says what sets them",
        )


def _children(settings: Settings) -> Iterator[Finding]:
    torch, telemetry = settings.instrumentation.torch, settings.telemetry_capture
    mode = torch.children_mode
    if not settings.instrumentation.enabled:
        return
    if mode is not None and "telemetry" in mode and telemetry is None:
        without = "tensor_inspection" if "inspection" in mode else "lightweight"
        yield Finding(
            (*_TORCH, "children_mode"),
            f"found {mode}, which needs telemetry, and telemetry_capture is off",
            f"name kinds in telemetry_capture, or write children_mode: {without}",
            because_of=(("telemetry_capture",),),
        )
    if torch.what == "parent_and_children" and mode is None:
        yield Finding(
            (*_TORCH, "what"),
            "found parent_and_children without a children_mode: child forwards are recorded as lightweight",
            "children_mode: lightweight says the same",
            is_problem=False,
            because_of=((*_TORCH, "children_mode"),),
        )


def _telemetry(settings: Settings) -> Iterator[Finding]:
    telemetry = settings.telemetry_capture
    if telemetry is None:
        return
    kinds = [kind for kind in _KINDS if getattr(telemetry, kind)]
    if not kinds:
        yield Finding(
            ("telemetry_capture",),
            "found no kind that is on, expected at least one",
            f"set one of {', '.join(_KINDS)} to true, or write telemetry_capture: ~",
        )
    if telemetry.gpu and not _is_installed("pynvml", "amdsmi"):
        yield Finding(
            ("telemetry_capture", "gpu"),
            "found true, which needs nvidia-ml-py or amdsmi, and neither is installed",
            'pip install "flowprov[nvidia]" or "flowprov[amd]", or write gpu: ~',
            said_elsewhere=True,
        )
    if set(kinds) - {"gpu"} and sys.platform != "linux" and not _is_installed("psutil"):
        yield Finding(
            ("telemetry_capture",),
            "found kinds that need psutil on this system, and it is not installed",
            'pip install "flowprov[telemetry]"',
            said_elsewhere=True,
        )


def _sinks(settings: Settings) -> Iterator[Finding]:
    sinks = settings.sinks
    for name, uri, packages in (
        ("redis", sinks.redis.uri, ("redis", "stamina")),
        ("mongodb", sinks.mongodb.uri, ("pymongo", "stamina")),
        ("mlflow", sinks.mlflow.uri, ("mlflow", "stamina")),
    ):
        missing = [package for package in packages if uri is not None and not _is_installed(package)]
        if missing:
            yield Finding(
                ("sinks", name, "uri"),
                f"found a server, which needs {' and '.join(missing)}, and that is not installed",
                f'pip install "flowprov[{name}]", or write {name}: ~',
            )
    if sinks.redis.maxlen is not None and sinks.redis.uri is None:
        yield Finding(
            ("sinks", "redis", "maxlen"),
            "found a number without sinks.redis.uri: it has no effect",
            "give the address of a server, or leave it out",
            is_problem=False,
            because_of=(("sinks", "redis", "uri"),),
        )


def _thinning(settings: Settings) -> Iterator[Finding]:
    torch = settings.instrumentation.torch
    if torch.capture_batches_at_every > 1 and torch.batch_loop is None and torch.what is None:
        yield Finding(
            (*_TORCH, "capture_batches_at_every"),
            "found a number where neither batches nor forwards are recorded: it has no effect",
            "switch what or batch_loop on, or leave it out",
            is_problem=False,
        )


_RULES: tuple[Callable[[Settings], Iterable[Finding]], ...] = (
    _profile,
    _children,
    _telemetry,
    _sinks,
    _thinning,
)


def _is_installed(*packages: str) -> bool:
    """Whether one of some packages can be imported."""
    return any(_has_spec(package) for package in packages)


def _has_spec(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # somebody put None, or a module without a spec, into sys.modules
        return False
