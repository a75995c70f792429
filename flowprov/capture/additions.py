"""Additions: what the program gives to a task or workflow beside its call.

Flows in: values, tags and metadata, given through a handle or a loop. Flows out: a line, written before the
call of the program returns, so that what was given survives the death of the process. The record of the end
repeats it: the line is read only where that record is missing.

Everything that takes values takes a mapping, keywords, or both. Anything else is recorded as well as can be,
and said once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from flowprov import guard, records
from flowprov.capture import metrics
from flowprov.capture.function_spec import encode, generated_field, tags_and_metadata_fields
from flowprov.line_templates import ADDITION
from flowprov.records import Correction
from flowprov.runtime.context import Scope, is_open
from flowprov.values.mappings import entries_of_config, is_mapping

if TYPE_CHECKING:
    from typing_extensions import Self

# Name of a value that was given without one.
UNNAMED = "value"

_encode_json = msgspec.json.Encoder().encode


def collect_values(call: str, given: object, values: dict[str, Any]) -> dict[str, Any]:
    """Return what was given to a call: a mapping, keywords, or both. Never raise.

    Parameters
    ----------
    call
        Name of the call, for the warning about anything else.
    given
        What was given by position: a mapping, pairs of names and values, or None. Anything else is one
        value, named "value".
    values
        The keywords. They go above the mapping.
    """
    if given is None:
        return values
    named = _as_mapping(given)
    if named is None:
        guard.warn_once(
            f"unnamed value {call}",
            "flowprov: %s takes a mapping of names to values, or keywords. It was given %s, which is "
            'recorded under the name "%s". Write %s(name=value).',
            call,
            type(given).__name__,
            UNNAMED,
            call,
        )
        named = {UNNAMED: given}
    return {**named, **values}


def _as_mapping(given: object) -> dict[Any, Any] | None:
    """Return named values as a dictionary; None if they have no names."""
    try:
        if entries := entries_of_config(given):
            return dict(entries)
        if is_mapping(given) or (given is not os.environ and hasattr(given, "keys")):
            return {name: given[name] for name in given.keys()}  # type: ignore[index, attr-defined]  # noqa: SIM118
        if isinstance(given, (list, tuple)) and given and all(_is_pair(pair) for pair in given):
            return dict(given)
    except Exception as error:  # a mapping of the program may raise anything
        guard.pass_on(error)
    return None


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def encode_values(values: Mapping[str, Any], spent: int = 0) -> dict[str, msgspec.Raw]:
    """Encode outputs, each by itself. The caller settles numbers that follow (see ``metrics``).

    Parameters
    ----------
    values
        The outputs.
    spent
        Bytes that other values in the same line have spent.
    """
    return metrics.decode_fields(metrics.encode(values, spent))


def merge_objects(below: bytes, above: bytes) -> bytes:
    """Merge two JSON objects; the names of the second one go above."""
    return _encode_json({**metrics.decode_fields(below), **metrics.decode_fields(above)})


def add_generated(scope: Scope, values: Mapping[str, Any]) -> None:
    """Add outputs to a task."""
    encoded = encode_values(values, len(scope.used or b""))
    scope.ensure_extras().generated.update(encoded)
    _write(scope, generated=encoded)
    if metrics.waiting:
        metrics.settle(scope)


def add_used(scope: Scope, values: Mapping[str, Any]) -> None:
    """Add inputs to a task."""
    add_encoded_used(scope, encode(values, len(scope.used or b"")))


def add_encoded_used(scope: Scope, used: bytes) -> None:
    """Add inputs to a task, as a JSON object."""
    if scope.used is None:  # its record is written elsewhere, or was written in parts
        _write_correction(scope, used=metrics.decode_fields(used))
        return
    scope.used = merge_objects(scope.used, used)
    _write(scope, used=used)


def add_tags(scope: Scope, tags: list[str]) -> None:
    """Add tags to a task."""
    scope.ensure_extras().tags.extend(tags)
    _write(scope, tags=tags)


def write_metadata(scope: Scope, values: Mapping[str, Any]) -> None:
    """Write metadata that was added to a task."""
    _write(scope, custom_metadata=values)


def _write(
    scope: Scope,
    generated: Mapping[str, msgspec.Raw] | None = None,
    tags: list[str] | None = None,
    custom_metadata: Mapping[str, Any] | None = None,
    used: bytes | None = None,
) -> None:
    """Write an addition to a task; a correction if the task ended, or if another process records its end."""
    journal, key = scope.journal, scope.key
    if isinstance(key, int) and (key in journal.open_scopes or is_open(scope)):
        fields = b"" if generated is None else b',"generated":' + _encode_json(generated)
        spent = len(scope.used or b"") + len(fields)
        fields += tags_and_metadata_fields(tags or (), custom_metadata or {}, spent)
        line = scope.open_line(fields) if scope.open_in != journal.journal_id else None
        if line is None:
            line = ADDITION % (key, fields if used is None else b',"used":' + used + fields)
        journal.append_addition(line)
        scope.open_in = journal.journal_id
    else:
        metadata = None if custom_metadata is None else msgspec.Raw(encode(custom_metadata))
        _write_correction(
            scope,
            generated=generated,
            tags=tags,
            custom_metadata=metadata,
            used=None if used is None else metrics.decode_fields(used),
        )


def _write_correction(scope: Scope, **fields: Any) -> None:
    if scope.key is not None:
        scope.journal.append_addition(records.encode(Correction(task_id=scope.key, **fields)))


def encode_extras(
    scope: Scope,
    generated: Mapping[str, Any] | None,
    tags: Sequence[str],
    custom_metadata: Mapping[str, Any],
) -> tuple[bytes, bytes]:
    """Encode the ``generated`` field and the tail of a line, with what was given to the scope."""
    extras = scope.extras
    if extras is not None:
        if extras.generated:
            generated = {**(generated or {}), **extras.generated}
        tags = [*tags, *extras.tags]
        custom_metadata = {**custom_metadata, **extras.custom_metadata}
    field = generated_field(generated, scope.used)
    return field, tags_and_metadata_fields(tags, custom_metadata, len(field) + len(scope.used or b""))


class Metadata(MutableMapping[str, Any]):
    """The metadata of a task: a dictionary to add to. What is added is written at once.

    Parameters
    ----------
    metadata
        The dictionary that the record of the end repeats.
    write
        Writes what was added.
    """

    __slots__ = ("_metadata", "_write")

    def __init__(self, metadata: dict[str, Any], write: Callable[[Mapping[str, Any]], None]) -> None:
        self._metadata = metadata
        self._write = write

    def __getitem__(self, name: str) -> Any:
        return self._metadata[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._metadata[name] = value
        self._write({name: value})

    def __delitem__(self, name: str) -> None:
        del self._metadata[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._metadata)

    def __len__(self) -> int:
        return len(self._metadata)

    def __ior__(self, values: Any) -> Self:
        self.update(values)
        return self

    def __repr__(self) -> str:
        return repr(self._metadata)
