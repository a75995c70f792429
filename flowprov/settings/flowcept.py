"""The settings of Flowcept 1.0, translated into ours.

Flows in: the values of a Flowcept settings file. Flows out: our keys with their values, and a sentence for
each key of that file that has no counterpart here. What is known of that file is in this module alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from flowprov.errors import SettingsError
from flowprov.settings.key_tree import KeyPath
from flowprov.settings.loader import load_settings
from flowprov.settings.sources import nest

_TELEMETRY, _TORCH = "telemetry_capture", "instrumentation.torch"
_SAME = (
    "instrumentation.enabled",
    *(f"{_TELEMETRY}.{name}" for name in ("cpu", "mem", "disk", "network")),
    *(f"{_TORCH}.{name}" for name in ("what", "children_mode", "epoch_loop", "batch_loop")),
    *(f"{_TORCH}.{name}" for name in ("capture_epochs_at_every", "register_workflow")),
)
"""Keys with the same name and the same values."""

_NO_SERVER = "no server is needed: the journal in the buffer folder is the message buffer"
_NO_BUFFER = "each record is in a file before the call returns; there is no buffer to flush"
_WITHOUT: dict[str, str] = {
    "flowcept_version": "",
    "project.debug": "give your workflows a tag: with flowprov.workflow(…) as run: run.add_tags(…)",
    "project.json_serializer": "any value can be recorded",
    "project.replace_non_json_serializable": "any value can be recorded",
    "project.performance_logging": "docs/how-to/measure-cost.md says how to measure what capture costs",
    "project.enrich_messages": "host, process, code and packages are recorded always",
    "project.db_flush_mode": "a process of its own delivers while your program goes on, and afterwards",
    "project.dump_buffer": "each process writes a journal below journal.path, always",
    "log": "messages go to the logger flowprov of Python's logging; your program says where they are shown",
    "telemetry_capture.per_cpu": "telemetry_capture.cpu is the load of all processors together",
    "telemetry_capture.machine_info": "it is recorded always",
    "experiment.user": "the account is recorded always; another name goes into workflow(custom_metadata={…})",
    "kv_db": _NO_SERVER,
    "web_server": "flowprov ui takes its address from the command line",
    "sys_metadata": "the environment of Python is recorded; more goes into workflow(custom_metadata={…})",
    "extra_metadata": "give it to workflow(custom_metadata={…})",
    "db_buffer": _NO_BUFFER,
    "agent": "there is no agent; flowprov query takes SQL",
    "databases.lmdb": _NO_SERVER,
    "adapters": "there is no adapter for it",
}
"""Keys, or sections of keys, without a counterpart, and what there is instead."""

_KINDS = {
    "dask": "give the cluster the plugin: client.register_plugin(flowprov.DaskWorkerPlugin())",
    "mlflow": "flowprov import mlflow takes the runs of an MLflow server",
}


class Translation(NamedTuple):
    """What a Flowcept file says in our words.

    Attributes
    ----------
    values
        The value of each of our keys, and the key of that file from which it comes.
    notes
        Keys of that file that have no counterpart, and what there is instead.
    """

    values: dict[KeyPath, tuple[Any, str]]
    notes: dict[str, str]


def translate(given: Mapping[str, Any]) -> Translation:
    """Return our settings for those of Flowcept.

    Parameters
    ----------
    given
        The content of its file.
    """
    found = Translation({}, {})
    rest = dict(_keys(given))
    for name in _SAME:
        if name in rest:
            _set(found, tuple(name.split(".")), rest.pop(name), name)
    for section, take in _SECTIONS.items():
        own = {key: rest.pop(key) for key in list(rest) if key == section or key.startswith(f"{section}.")}
        if own:
            take(found, section, own)
    for name in rest:
        place = next((place for place in _WITHOUT if name == place or name.startswith(f"{place}.")), None)
        note = "flowprov has no such key" if place is None else _WITHOUT[place]
        if note:
            found.notes.setdefault(name if place is None else place, note)
    return found


def _keys(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys that hold a value, by their paths."""
    for name, value in values.items():
        if isinstance(value, dict) and value and not prefix.startswith("adapters."):
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _set(found: Translation, path: KeyPath, value: Any, name: str) -> None:
    """Keep a value, if it is valid here."""
    try:
        load_settings(nest(path, value), environ={})
    except SettingsError as error:
        found.notes[name] = f"not taken over: {str(error).splitlines()[-1].strip()}"
    else:
        found.values[path] = (value, name)


def _take_gpu(found: Translation, name: str, own: Mapping[str, Any]) -> None:
    """Translate the list of what is read of GPUs."""
    kinds = own[name]
    if kinds:
        _set(found, (_TELEMETRY, "gpu"), True, name)
        found.notes[name] = "all that the library of the vendor gives is recorded, whatever is listed"


def _take_process(found: Translation, name: str, own: Mapping[str, Any]) -> None:
    _set(found, (_TELEMETRY, "process"), own[name], name)


def _take_queue(found: Translation, name: str, own: Mapping[str, Any]) -> None:
    """Translate the message queue: Redis becomes a sink, for any other there is none."""
    if not own.get(f"{name}.enabled", True):
        found.notes[name] = f"it is off; {_NO_SERVER}"
        return
    kind = own.get(f"{name}.type", "redis")
    if kind != "redis":
        found.notes[name] = f"there is no sink for {kind}; {_NO_SERVER}"
        return
    uri = own.get(f"{name}.uri") or _address(own, name, "redis", 6379) + "/0"
    _set(found, ("sinks", "redis", "uri"), uri, name)
    found.notes[name] = (
        "records are added to Streams, by a process of its own; the names of channels are not used"
    )


def _take_mongodb(found: Translation, name: str, own: Mapping[str, Any]) -> None:
    if not own.get(f"{name}.enabled", True):
        found.notes[name] = "it is off"
        return
    database = own.get(f"{name}.db", "flowcept")
    uri = own.get(f"{name}.uri") or f"{_address(own, name, 'mongodb', 27017)}/{database}"
    _set(found, ("sinks", "mongodb", "uri"), uri, name)


def _address(own: Mapping[str, Any], name: str, scheme: str, port: int) -> str:
    return f"{scheme}://{own.get(f'{name}.host', 'localhost')}:{own.get(f'{name}.port', port)}"


def _take_adapters(found: Translation, name: str, own: Mapping[str, Any]) -> None:
    """Translate the adapters, of which each has a name and a kind."""
    for key, adapter in own.items():
        kind = adapter.get("kind", key.rpartition(".")[2]) if isinstance(adapter, dict) else None
        if kind == "dask":
            _set(found, ("dask", "enabled"), True, key)
        if kind is not None:
            found.notes[key] = _KINDS.get(str(kind), _WITHOUT[name])


_SECTIONS: dict[str, Callable[[Translation, str, Mapping[str, Any]], None]] = {
    f"{_TELEMETRY}.gpu": _take_gpu,
    f"{_TELEMETRY}.process_info": _take_process,
    "mq": _take_queue,
    "databases.mongodb": _take_mongodb,
    "adapters": _take_adapters,
}
"""Keys and sections that are written in another way here."""
