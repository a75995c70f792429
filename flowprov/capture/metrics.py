"""Metrics: tensors and arrays without a dimension, in what a task or workflow generates, as numbers.

Flows in: outputs by name. Flows out: their JSON, in which such a tensor is its number. A number that a device
has yet to compute follows: until then the tensor is described, and a correction of the record replaces that.

The core imports no framework. The adapter of a framework registers how a number is read.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

import msgspec

from flowprov import guard, records
from flowprov.capture import replay
from flowprov.records import Correction
from flowprov.runtime import runtime
from flowprov.runtime.context import Scope
from flowprov.values import Summarizer, tensor_raw

# Around the description of a tensor whose number follows, with its place: JSON itself never holds this byte.
_MARKED = re.compile(rb"\x00(\d+)\x00(.*?)\x00", re.DOTALL)

decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode  # one level: name -> JSON of its value

# The threads that have encoded outputs whose numbers follow. The hot path asks first whether there are any.
waiting: list[int] = []


_Fields: TypeAlias = dict[str, msgspec.Raw]
Completion: TypeAlias = Callable[[Scope, _Fields, _Fields], records.Record | None]
"""Returns a record: of a scope, the outputs as they were described, and the same with the numbers."""


class Reader(Protocol):
    """What the adapter of a framework knows of its tensors."""

    def read(self, tensor: Any) -> Any:
        """Return the number of a tensor; itself if that follows, and None if it has none."""

    def defer(
        self, scope: Scope, tensors: list[Any], correct: Callable[[list[Any]], records.Record | None]
    ) -> None:
        """Write a correction when a device has computed the numbers of tensors."""


_readers: list[Reader] = []


def register(reader: Reader) -> None:
    """Register what an adapter knows."""
    _readers.append(reader)


class _State(threading.local):
    """What this thread has encoded last."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.template = b""


_state = _State()


class _Encoder:
    """Encodes outputs with the settings in force."""

    def __init__(self) -> None:
        self.settings_mark: object = None
        self.encode_mapping: Callable[[Mapping[str, Any], int], bytes] = Summarizer().encode_mapping

    def follow_settings(self) -> Callable[[Mapping[str, Any], int], bytes]:
        """Return the function that encodes a mapping under the settings in force."""
        active = runtime.get()
        if self.settings_mark is not active:
            self.encode_mapping = active.summarizer.with_arrays(_describe).encode_mapping
            self.settings_mark = active
        return self.encode_mapping


_encoder = _Encoder()


def encode(outputs: Mapping[str, Any], spent: int = 0) -> bytes:
    """Encode outputs. If numbers follow, the caller passes the scope of the record to :func:`settle`.

    Parameters
    ----------
    outputs
        The outputs by name.
    spent
        Bytes that the inputs in the same record have spent.
    """
    if waiting:
        settle(None)  # of an event that failed before its own
    encoded = _encoder.follow_settings()(outputs, spent)
    if waiting and _state.tensors:
        _state.template = encoded
        return _MARKED.sub(rb"\2", encoded)
    return encoded


def _describe(array: Any) -> msgspec.Raw:
    """Return the number of a tensor without a dimension as JSON, and the description of any other."""
    try:
        if array.ndim != 0:
            return tensor_raw(array)
        if replay.is_traced():
            return msgspec.Raw(b"null")  # a question to it would leave a mark in the graph
        for reader in _readers:
            number = reader.read(array)
            if number is array:
                return _mark(array)
            if number is not None:
                return msgspec.Raw(runtime.get().summarizer.encode(number))
    except Exception as error:  # the attributes are foreign code, and a device may have failed
        guard.pass_on(error)
    return tensor_raw(array)


def _mark(tensor: Any) -> msgspec.Raw:
    _state.tensors.append(tensor)
    waiting.append(threading.get_ident())
    return msgspec.Raw(b"\x00%d\x00%b\x00" % (len(_state.tensors) - 1, bytes(tensor_raw(tensor))))


def settle(scope: Scope | None, complete: Completion | None = None) -> None:
    """Have the numbers follow of what this thread encoded last.

    Parameters
    ----------
    scope
        The scope of the task or workflow that generated it; None to leave them out.
    complete
        Returns the record with the numbers; by default a correction of the scope's record.
    """
    tensors, _state.tensors = _state.tensors, []
    if not tensors:
        return
    thread = threading.get_ident()
    while thread in waiting:
        waiting.remove(thread)
    template, _state.template = _state.template, b""
    if scope is None or not template:
        return
    with guard.guarded("recording numbers of a device"):
        described = decode_fields(_MARKED.sub(rb"\2", template))

        def correct(numbers: list[Any]) -> records.Record | None:
            encode_number = runtime.get().summarizer.encode
            whole = _MARKED.sub(lambda match: encode_number(numbers[int(match[1])]), template)
            return (complete or _correction)(scope, described, decode_fields(whole))

        _readers[0].defer(scope, tensors, correct)


def _correction(
    scope: Scope, described: dict[str, msgspec.Raw], complete: dict[str, msgspec.Raw]
) -> records.Record | None:
    """Return a record with the outputs that hold a number now; None if all of them were overwritten."""
    changed: dict[str, Any] = {}
    kept = {} if scope.extras is None else scope.extras.generated
    for name, value in complete.items():
        if bytes(value) != bytes(described[name]):
            if name in kept:
                if bytes(kept[name]) != bytes(described[name]):
                    continue
                kept[name] = value  # the record of the end repeats it
            changed[name] = value
    if not changed:
        return None
    if scope.key is None:
        return records.Workflow(workflow_id=scope.workflow_id, generated=changed)
    return Correction(task_id=scope.key, generated=changed)
