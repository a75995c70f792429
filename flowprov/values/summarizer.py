"""The way in: values and mappings of values to their recordable form, on the hot path of every event.

Flows in: what a program used and generated. Flows out: JSON, as objects or as bytes that can be put into a
journal's line. Plain scalars never leave the first loop; everything else takes a walk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from flowprov.values import handlers
from flowprov.values.arrays import tensor_raw
from flowprov.values.handlers import keep_array
from flowprov.values.markers import INT_MAX, INT_MIN, JSONable, type_name
from flowprov.values.walker import (
    Handler,
    Kinds,
    Limits,
    Names,
    UnreadableAttribute,
    Walker,
    describe_fault,
    take,
)

# -- which handler a type has ------------------------------------------------------------------------------

_MAX_TYPES = 1024

# Their reprs print elements (and wait for the device to do so) or run code; their types say enough.
_TYPE_ONLY = frozenset(
    {"torch", "torchvision", "torchaudio", "tensorflow", "jax", "jaxlib", "cupy", "pyarrow"}
    | {"itertools", "asyncio", "_asyncio", "contextvars", "_contextvars"}
)
# Mappings whose items would be read from a file.
_ON_DISK = frozenset({"shelve", "dbm", "h5py", "zarr", "lmdb", "diskcache"})

# Top package and qualified name of a class that is known, by what becomes of its instances.
_KNOWN: tuple[tuple[Handler, str], ...] = (
    (handlers.keep_as_is, "builtins:NoneType builtins:bool"),
    (handlers.keep_int, "builtins:int"),
    (handlers.keep_float, "builtins:float numpy:float64"),
    (handlers.keep_str, "builtins:str"),
    (handlers.keep_complex, "builtins:complex numpy:complex128"),
    (handlers.keep_range, "builtins:range builtins:slice"),
    (handlers.keep_bytes, "builtins:bytes builtins:bytearray builtins:memoryview"),
    (handlers.keep_list, "builtins:list"),
    (handlers.keep_tuple, "builtins:tuple"),
    (handlers.keep_dict, "builtins:dict"),
    (handlers.keep_set, "builtins:set builtins:frozenset"),
    (
        handlers.keep_iterable,
        "builtins:dict_keys builtins:dict_values builtins:odict_keys builtins:odict_values",
    ),
    (handlers.keep_iterable, "collections:deque collections:UserList omegaconf:ListConfig"),
    (handlers.keep_items_view, "builtins:dict_items builtins:odict_items"),
    (handlers.keep_namespace, "types:SimpleNamespace argparse:Namespace"),
    (handlers.keep_enum, "enum:Enum"),
    (handlers.keep_numpy_scalar, "numpy:generic"),
    (handlers.keep_str_form, "decimal:Decimal fractions:Fraction uuid:UUID uuid_utils:UUID pathlib:PurePath"),
    (handlers.keep_str_form, "numpy:dtype torch:dtype torch:device torch:layout torch:memory_format"),
    (handlers.keep_iso, "datetime:datetime datetime:date datetime:time"),
    (handlers.keep_duration, "datetime:timedelta"),
    (handlers.keep_callable, "builtins:function builtins:builtin_function_or_method builtins:method"),
    (
        handlers.keep_callable,
        "builtins:method_descriptor builtins:wrapper_descriptor builtins:method-wrapper",
    ),
    (handlers.keep_callable, "builtins:classmethod_descriptor functools:_lru_cache_wrapper"),
    (handlers.keep_class, "builtins:type"),
    (handlers.keep_module, "builtins:module"),
    (handlers.keep_partial, "functools:partial"),
    (handlers.keep_exception, "builtins:BaseException"),
    (handlers.keep_environment, "os:_Environ"),
    (handlers.keep_unreadable, f"flowprov:{UnreadableAttribute.__qualname__}"),
    (handlers.keep_type_only, "weakref:ProxyType weakref:CallableProxyType"),
    (handlers.keep_type_only, "builtins:weakproxy builtins:weakcallableproxy"),
)
_BY_NAME = {name: handler for handler, names in _KNOWN for name in names.split()}

_bases_of = type.__dict__["__mro__"].__get__
_namespace_of = type.__dict__["__dict__"].__get__


def classify(cls: type) -> Handler:
    """Find the handler of a type and keep it."""
    handler = _find(cls)
    if len(KINDS.handlers) >= _MAX_TYPES:  # programs that make classes without end
        KINDS.handlers.clear()
    KINDS.handlers[cls] = handler
    return handler


def _find(cls: type) -> Handler:
    bases: tuple[type, ...] = _bases_of(cls)
    packages = [_package(base) for base in bases]
    # Most derived first, so that the nearest base that is known decides.
    for base, package in zip(bases, packages, strict=True):
        known = _BY_NAME.get(f"{package}:{base.__qualname__}")
        if known is handlers.keep_tuple:
            names = _tuple_fields(bases)
            return handlers.named_tuple(names) if names else known
        if known is not None:
            return known
    if issubclass(cls, Mapping) and _ON_DISK.isdisjoint(packages):
        return handlers.keep_mapping if _TYPE_ONLY.isdisjoint(packages) else handlers.keep_type_only
    return _by_declarations(bases, packages)


def _by_declarations(bases: tuple[type, ...], packages: list[str]) -> Handler:
    array_like = _declares(bases, "shape") and _declares(bases, "dtype")
    if not _TYPE_ONLY.isdisjoint(packages):
        return handlers.keep_array if array_like else handlers.keep_type_only
    fields = _field_names(bases)
    if fields is not None:
        return handlers.by_fields(fields)
    if array_like:
        return handlers.keep_array
    if all(_declares(bases, name) for name in ("shape", "columns", "dtypes")):
        return handlers.keep_frame
    return handlers.keep_other


def _package(cls: type) -> str:
    module = cls.__module__
    return module.partition(".")[0] if isinstance(module, str) else ""


def _declared(bases: tuple[type, ...], name: str) -> object:
    # In the classes' own namespaces: neither an instance nor a metaclass is asked.
    for base in bases:
        if name in _namespace_of(base):
            return _namespace_of(base)[name]
    return None


def _declares(bases: tuple[type, ...], name: str) -> bool:
    return _declared(bases, name) is not None


def _tuple_fields(bases: tuple[type, ...]) -> tuple[str, ...]:
    names = _declared(bases, "_fields")
    if names is None and _declares(bases, "n_sequence_fields"):  # os.stat_result, torch.return_types.max
        names = _declared(bases, "__match_args__")
    return _strings(names) or ()


def _field_names(bases: tuple[type, ...]) -> tuple[str, ...] | None:
    for base in bases:
        if base is msgspec.Struct:  # the only fields that a metaclass declares
            return _strings(bases[0].__struct_fields__)  # type: ignore[attr-defined]
    for declaration in ("__dataclass_fields__", "__pydantic_fields__"):
        names = _strings(_declared(bases, declaration))
        if names is not None:
            return names
    attributes = _declared(bases, "__attrs_attrs__")
    if isinstance(attributes, tuple):
        return _strings([getattr(attribute, "name", None) for attribute in attributes])
    return None


def _strings(names: object) -> tuple[str, ...] | None:
    if isinstance(names, (tuple, list, dict)) and all(type(name) is str for name in names):
        return tuple(names)
    return None


KINDS = Kinds(
    handlers={},
    classify=classify,
    silent=frozenset({handlers.keep_array, handlers.keep_frame, handlers.keep_type_only}),
    numbers=frozenset({handlers.keep_int, handlers.keep_float, handlers.keep_numpy_scalar}),
)


# -- values to JSON -----------------------------------------------------------------------------------------

_handlers = KINDS.handlers
_encode = msgspec.json.Encoder().encode
# When nothing else could be said: the caller's stack or memory is at its end.
_LOST: dict[str, JSONable] = {"$read_error": "could not be recorded"}
_LOST_JSON = b'{"$read_error":"could not be recorded"}'


class Summarizer:
    """Turns any Python value into what a record keeps of it.

    Nothing it does raises, changes the value, consumes an iterator or waits for a device; only
    `KeyboardInterrupt` and `SystemExit` pass through. It can be used from any number of threads.

    Parameters
    ----------
    limits
        How much of a value is kept.
    redact
        Whether secrets are concealed: values by their names (at any depth), credentials in URLs. Under the
        name of a secret None, booleans and summaries of tensors are kept, as they tell nothing of it, and
        numbers where the name is that of a token.
    arrays
        Gives what is kept of a tensor or array when values are encoded, as ready JSON; it must not raise.
    """

    __slots__ = ("_arrays", "_limits", "_names", "_redact")

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        redact: bool = True,
        arrays: Callable[[Any], msgspec.Raw] = tensor_raw,
    ) -> None:
        self._arrays = arrays
        self._limits = limits or Limits()
        self._redact = redact
        self._names = Names(self._limits.max_repr, redact=redact)

    def summarize(self, value: object, *, key: str | None = None) -> JSONable:
        """Give the recordable form of a value.

        Parameters
        ----------
        value
            Anything.
        key
            The name of the value, if it has one; a secret is told by it.

        Returns
        -------
        JSONable
            Fresh objects of JSON's own kinds, marks among them (see `flowprov.values.markers`).
        """
        try:
            return self._form(self._walk(raw=False), value, key)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # never into the program; what is left here is a stack or memory at its end
            return dict(_LOST)

    def encode(self, value: object, *, key: str | None = None) -> bytes:
        """Give the recordable form of a value as JSON: valid UTF-8 in one line."""
        try:
            return _encode(self._form(self._walk(raw=True), value, key))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # as in summarise
            return _LOST_JSON

    def encode_mapping(self, mapping: Mapping[str, object]) -> bytes:
        """Give named values (what a task used or generated) as one JSON object.

        Parameters
        ----------
        mapping
            The values by their names; each value has the limits for itself.
        """
        plain, limits = self._names.safe_keys, self._limits
        try:
            # Most mappings hold scalars under names seen before: these go to the encoder as they are.
            if type(mapping) is dict and len(mapping) <= limits.max_items:
                longest = limits.max_string
                for key, value in mapping.items():
                    kind = type(value)
                    if key not in plain or not (
                        (kind is float and value - value == 0.0)
                        or (kind is int and INT_MIN <= value <= INT_MAX)
                        or (kind is str and len(value) <= longest and "://" not in value)
                        or kind is bool
                        or value is None
                    ):
                        break
                else:
                    return _encode(mapping)
            return self._encode_mixed(mapping)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a strange key, a lone surrogate, a change by another thread
            return self._encode_carefully(mapping)

    def _encode_mixed(self, mapping: Mapping[str, object]) -> bytes:
        """Encode a mapping some of whose values need the rules."""
        walk: Walker | None = None
        plain, limits = self._names.safe_keys, self._limits
        try:
            if type(mapping) is not dict or len(mapping) > limits.max_nodes:
                return self._encode_carefully(mapping)
            entries: dict[str, JSONable] = {}
            for key, value in mapping.items():
                if type(key) is not str or (key not in plain and not self._names.is_safe(key)):
                    return self._encode_carefully(mapping)
                kind = type(value)
                if (
                    (kind is float and value - value == 0.0)
                    # A lone surrogate makes the encoder raise.
                    or (kind is str and len(value) <= limits.max_string and "://" not in value)
                    or (kind is int and INT_MIN <= value <= INT_MAX)
                    or kind is bool
                    or value is None
                ):
                    entries[key] = value
                elif _handlers.get(kind) is keep_array:
                    entries[key] = cast("JSONable", self._arrays(value))
                else:
                    walk = walk or self._walk(raw=True)
                    walk.nodes = 0
                    entries[key] = walk.node(value, 0)
            return _encode(entries)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a strange key, a lone surrogate, a change by another thread
            return self._encode_carefully(mapping)

    def _walk(self, *, raw: bool) -> Walker:
        arrays = self._arrays if raw else None
        return Walker(self._limits, redact=self._redact, arrays=arrays, kinds=KINDS, names=self._names)

    def _form(self, walk: Walker, value: object, key: str | None) -> JSONable:
        return walk.node(value, 0) if key is None else walk.node_named(value, key, 0)

    def _encode_carefully(self, mapping: Mapping[str, object]) -> bytes:
        try:
            return _encode(self._entries(mapping))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # as in summarise
            return _LOST_JSON

    def _entries(self, mapping: Mapping[str, object]) -> JSONable:
        limit = self._limits.max_nodes
        try:
            pairs = take(mapping.items, limit + 1)
            total = len(pairs) if len(pairs) <= limit else max(len(mapping), limit + 1)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as fault:  # a mapping of the user's may raise anything
            return {"$type": type_name(type(mapping)), "read_error": describe_fault(fault)}
        return self._walk(raw=True).mapping(pairs[:limit], total, -1, each_anew=True)
