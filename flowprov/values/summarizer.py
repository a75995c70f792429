"""The summarizer: values, and mappings of values, to their recordable form. Every event passes through it.

Flows in: what a program used and generated. Flows out: JSON, as objects or as bytes for a line of a journal.
Plain scalars need only the loop of `encode_mapping`; every other value goes through a walker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from flowprov.asynchronous import interrupted_reading
from flowprov.values import fields, handlers
from flowprov.values.handlers import is_number, keep_array, keep_numpy_array
from flowprov.values.hidden import Hidden, hidden_fields, hides_itself
from flowprov.values.key_rules import KeyRules
from flowprov.values.markers import INT_MAX, INT_MIN, JSONable, type_name
from flowprov.values.reading import read_once
from flowprov.values.redaction import DEFAULT, Redactor
from flowprov.values.tensors import tensor_raw
from flowprov.values.walker import (
    Handler,
    HandlerTable,
    Limits,
    UnreadableAttribute,
    Walker,
    exception_text,
)

# -- which handler a type has ------------------------------------------------------------------------------

_MAX_TYPES = 1024

# The reprs of their classes print elements (and wait for the device) or run code; the types say enough.
_TYPE_ONLY = frozenset(
    {"torch", "torchvision", "torchaudio", "tensorflow", "jax", "jaxlib", "cupy", "pyarrow"}
    | {"itertools", "asyncio", "_asyncio", "contextvars", "_contextvars"}
)
# Their mappings would read their items from a file.
_ON_DISK = frozenset({"shelve", "dbm", "h5py", "zarr", "lmdb", "diskcache"})

# For each handler, the classes whose instances it takes, as top package and qualified name.
_HANDLERS_OF_CLASSES: tuple[tuple[Handler, str], ...] = (
    (handlers.keep_as_is, "builtins:NoneType builtins:bool"),
    (handlers.keep_int, "builtins:int"),
    (handlers.keep_float, "builtins:float numpy:float64"),
    (handlers.keep_str, "builtins:str"),
    (handlers.keep_complex, "builtins:complex numpy:complex128"),
    (handlers.keep_range, "builtins:range builtins:slice"),
    (handlers.keep_bytes, "builtins:bytes builtins:bytearray builtins:memoryview"),
    (handlers.keep_list, "builtins:list"),
    (handlers.keep_tuple, "builtins:tuple"),
    (fields.keep_dict, "builtins:dict"),
    (handlers.keep_set, "builtins:set builtins:frozenset"),
    (
        handlers.keep_iterable,
        "builtins:dict_keys builtins:dict_values builtins:odict_keys builtins:odict_values",
    ),
    (handlers.keep_iterable, "collections:deque collections:UserList omegaconf:ListConfig"),
    (fields.keep_items_view, "builtins:dict_items builtins:odict_items"),
    (fields.keep_namespace, "types:SimpleNamespace argparse:Namespace"),
    (handlers.keep_enum, "enum:Enum"),
    (handlers.keep_numpy_scalar, "numpy:generic"),
    (handlers.keep_numpy_array, "numpy:ndarray"),
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
    (handlers.keep_hidden, "pydantic:SecretStr pydantic:SecretBytes pydantic:Secret starlette:Secret"),
    (handlers.keep_hidden, f"flowprov:{Hidden.__qualname__}"),
    (handlers.keep_unreadable, f"flowprov:{UnreadableAttribute.__qualname__}"),
    (handlers.keep_encoded, "msgspec:Raw"),
    (handlers.keep_type_only, "weakref:ProxyType weakref:CallableProxyType"),
    (handlers.keep_type_only, "builtins:weakproxy builtins:weakcallableproxy"),
)
_HANDLER_BY_NAME = {name: handler for handler, names in _HANDLERS_OF_CLASSES for name in names.split()}

_FIELD_DECLARATIONS = ("__attrs_attrs__", "__dataclass_fields__", "__pydantic_fields__", "__fields__")

_mro_of = type.__dict__["__mro__"].__get__
_namespace_of = type.__dict__["__dict__"].__get__


def resolve_handler(cls: type) -> Handler:
    """Find the handler of a type, and add it to the table."""
    handler = _find_handler(cls)
    if len(HANDLER_TABLE.by_type) >= _MAX_TYPES:  # a program may make new classes without end
        HANDLER_TABLE.by_type.clear()
    HANDLER_TABLE.by_type[cls] = handler
    return handler


def _find_handler(cls: type) -> Handler:
    bases: tuple[type, ...] = _mro_of(cls)
    packages = [_top_package(base) for base in bases]
    # In the order of the MRO, so that the nearest base with a handler decides.
    for base, package in zip(bases, packages, strict=True):
        handler = _HANDLER_BY_NAME.get(f"{package}:{base.__qualname__}")
        if handler is handlers.keep_str and hides_itself(bases):
            return handlers.keep_hidden_str
        if handler is handlers.keep_tuple:
            names = _tuple_field_names(bases)
            return fields.named_tuple_handler(names) if names else handler
        if handler is not None:
            return handler
    if issubclass(cls, Mapping) and _ON_DISK.isdisjoint(packages):
        return fields.keep_mapping if _TYPE_ONLY.isdisjoint(packages) else handlers.keep_type_only
    return _handler_by_attributes(bases, packages)


def _handler_by_attributes(bases: tuple[type, ...], packages: list[str]) -> Handler:
    array_like = _declares(bases, "shape") and _declares(bases, "dtype")
    if not _TYPE_ONLY.isdisjoint(packages):
        return handlers.keep_array if array_like else handlers.keep_type_only
    names = _field_names(bases)
    if names is not None:
        properties = frozenset(name for name in names if isinstance(_declared(bases, name), property))
        is_pydantic = _declares(bases, "__pydantic_extra__")
        sources = ("__pydantic_extra__", "__dict__") if is_pydantic else ("__dict__",)
        hidden = hidden_fields(*(_declared(bases, name) for name in _FIELD_DECLARATIONS))
        return fields.fields_handler(names, properties, hidden, sources)
    if array_like:
        return handlers.keep_array
    if all(_declares(bases, name) for name in ("shape", "columns", "dtypes")):
        return handlers.keep_frame
    return _configuration_handler(bases) if _declares(bases, "to_dict") else handlers.keep_other


def _configuration_handler(bases: tuple[type, ...]) -> Handler:
    if all(_declares(bases, name) for name in ("keys", "items", "__getitem__")):
        return fields.keep_mapping  # a configuration that is a mapping in all but name
    slots = [_as_strings(_namespace_of(base).get("__slots__")) or () for base in reversed(bases)]
    silent = next(base for base in bases if "__repr__" in _namespace_of(base)) is object
    otherwise = fields.keep_to_dict if silent else handlers.keep_other
    return fields.attributes_handler(tuple(name for names in slots for name in names), otherwise)


def _top_package(cls: type) -> str:
    module = cls.__module__
    return module.partition(".")[0] if isinstance(module, str) else ""


def _declared(bases: tuple[type, ...], name: str) -> object:
    # Looks into the namespaces of the classes, so that neither an instance nor a metaclass runs code.
    for base in bases:
        if name in _namespace_of(base):
            return _namespace_of(base)[name]
    return None


def _declares(bases: tuple[type, ...], name: str) -> bool:
    return _declared(bases, name) is not None


def _tuple_field_names(bases: tuple[type, ...]) -> tuple[str, ...]:
    names = _declared(bases, "_fields")
    if names is None and _declares(bases, "n_sequence_fields"):  # os.stat_result, torch.return_types.max
        names = _declared(bases, "__match_args__")
    return _as_strings(names) or ()


def _field_names(bases: tuple[type, ...]) -> tuple[str, ...] | None:
    for base in bases:
        if base is msgspec.Struct:  # its metaclass declares the fields, so `_declared` does not find them
            return _as_strings(bases[0].__struct_fields__)  # type: ignore[attr-defined]
    declarations = ["__dataclass_fields__", "__pydantic_fields__"]
    if _declares(bases, "__fields_set__"):  # pydantic 1
        declarations.append("__fields__")
    for declaration in declarations:
        names = _as_strings(_declared(bases, declaration))
        if names is not None:
            return names
    attributes = _declared(bases, "__attrs_attrs__")
    if isinstance(attributes, tuple):
        return _as_strings([getattr(attribute, "name", None) for attribute in attributes])
    return None


def _as_strings(names: object) -> tuple[str, ...] | None:
    if isinstance(names, (tuple, list, dict)) and all(type(name) is str for name in names):
        return tuple(names)
    return None


HANDLER_TABLE = HandlerTable(
    by_type={},
    resolve=resolve_handler,
    contentless=frozenset({handlers.keep_array, handlers.keep_frame, handlers.keep_type_only}),
    numeric=frozenset({handlers.keep_int, handlers.keep_float, handlers.keep_numpy_scalar}),
    sometimes_numeric={keep_numpy_array: is_number},
)


# -- values to JSON -----------------------------------------------------------------------------------------

_handlers = HANDLER_TABLE.by_type
_encode = msgspec.json.Encoder().encode
# Stands for a value when the stack or the memory of the caller is exhausted.
_UNRECORDABLE: dict[str, JSONable] = {"$read_error": "could not be recorded"}
_UNRECORDABLE_JSON = b'{"$read_error":"could not be recorded"}'


class Summarizer:
    """Turns any Python value into what a record keeps of it.

    It never raises, changes a value, consumes an iterator or waits for a device. Only `KeyboardInterrupt` and
    `SystemExit` pass through. Any number of threads may use it at once.

    Parameters
    ----------
    limits
        How much of a value is kept.
    redactor
        Conceals secrets: values that are named like secrets, at any depth, and what looks like one in text.
        Under such a name None, booleans and summaries of tensors are kept, because they reveal nothing; and
        numbers, if the name is that of a token.
    arrays
        Returns the summary of a tensor or array as JSON, when values are encoded. It must not raise.
    """

    __slots__ = ("_arrays", "_is_plain", "_key_rules", "_limits", "_plain_texts", "redactor")

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        redactor: Redactor = DEFAULT,
        arrays: Callable[[Any], msgspec.Raw] = tensor_raw,
    ) -> None:
        self._arrays = arrays
        self._limits = limits or Limits()
        self.redactor = redactor
        self._plain_texts, self._is_plain = redactor.plain_texts, redactor.is_plain
        self._key_rules = KeyRules(self._limits.max_repr, redactor)

    def summarize(self, value: object, *, key: str | None = None) -> JSONable:
        """Return the recordable form of a value.

        Parameters
        ----------
        value
            Anything.
        key
            The name of the value, if it has one: secrets are recognized by their names.

        Returns
        -------
        JSONable
            New objects of JSON's own types; some are markers (see `flowprov.values.markers`).
        """
        try:
            return self._form(self._create_walker(raw=False), value, key)
        except BaseException as error:  # the stack or the memory is exhausted: it is not raised
            if interrupted_reading(error):
                raise
            return dict(_UNRECORDABLE)

    def encode(self, value: object, *, key: str | None = None) -> bytes:
        """Return the recordable form of a value as JSON: one line of valid UTF-8."""
        try:
            return _encode(self._form(self._create_walker(raw=True), value, key))
        except BaseException as error:  # as in summarize
            if interrupted_reading(error):
                raise
            return _UNRECORDABLE_JSON

    def encode_mapping(self, mapping: Mapping[str, object]) -> bytes:
        """Return named values (what a task used or generated) as one JSON object.

        Parameters
        ----------
        mapping
            The values by their names. The limits hold for each value by itself.
        """
        safe_keys, limits = self._key_rules.safe_keys, self._limits
        try:
            # Most mappings hold scalars under names that were seen before: these are encoded as they are.
            if type(mapping) is dict and len(mapping) <= limits.max_items:
                max_string = limits.max_string
                for key, value in mapping.items():
                    cls = type(value)
                    if key not in safe_keys or not (
                        (cls is float and value - value == 0.0)
                        or (cls is int and INT_MIN <= value <= INT_MAX)
                        or (
                            cls is str
                            and len(value) <= max_string
                            and (value in self._plain_texts or self._is_plain(value))
                        )
                        or cls is bool
                        or value is None
                    ):
                        break
                else:
                    return _encode(mapping)
            return self._encode_mixed(mapping)
        except BaseException as error:  # a strange key, a lone surrogate, a change by another thread
            if interrupted_reading(error):
                raise
            return self._encode_carefully(mapping)

    def _encode_mixed(self, mapping: Mapping[str, object]) -> bytes:
        """Encode a mapping in which some values need a handler; raise what the encoder does."""
        walker: Walker | None = None
        safe_keys, limits = self._key_rules.safe_keys, self._limits
        if type(mapping) is not dict or len(mapping) > limits.max_nodes:
            return self._encode_carefully(mapping)
        entries: dict[str, JSONable] = {}
        for key, value in mapping.items():
            if type(key) is not str or (key not in safe_keys and not self._key_rules.is_safe(key)):
                return self._encode_carefully(mapping)
            cls = type(value)
            if (
                (cls is float and value - value == 0.0)
                # A lone surrogate makes the encoder raise.
                or (
                    cls is str
                    and len(value) <= limits.max_string
                    and (value in self._plain_texts or self._is_plain(value))
                )
                or (cls is int and INT_MIN <= value <= INT_MAX)
                or cls is bool
                or value is None
            ):
                entries[key] = value
            elif (handler := _handlers.get(cls)) is keep_array or (
                handler is keep_numpy_array and not is_number(value)
            ):
                entries[key] = self._arrays(value)  # type: ignore[assignment] # cast() is a call
            else:
                walker = walker or self._create_walker(raw=True)
                walker.next_value()
                entries[key] = read_once(walker.node, value, 0)
        return _encode(entries)

    def _create_walker(self, *, raw: bool) -> Walker:
        arrays = self._arrays if raw else None
        return Walker(
            self._limits,
            arrays=arrays,
            handlers=HANDLER_TABLE,
            key_rules=self._key_rules,
            redactor=self.redactor,
        )

    def _form(self, walker: Walker, value: object, key: str | None) -> JSONable:
        if key is None:
            return read_once(walker.node, value, 0)
        return read_once(walker.node_named, value, key, 0)

    def _encode_carefully(self, mapping: Mapping[str, object]) -> bytes:
        """Encode any mapping, entry by entry."""
        try:
            return _encode(read_once(self._object_of, mapping))
        except BaseException as error:  # as in summarize
            if interrupted_reading(error):
                raise
            return _UNRECORDABLE_JSON

    def _object_of(self, mapping: Mapping[str, object]) -> JSONable:
        limit = self._limits.max_nodes
        try:
            pairs = fields.first_pairs(mapping, mapping.items, limit + 1)
            total = len(pairs) if len(pairs) <= limit else max(len(mapping), limit + 1)
        except BaseException as error:  # a mapping of the user's may raise anything
            if interrupted_reading(error):
                raise
            return {"$type": type_name(type(mapping)), "read_error": exception_text(error)}
        return self._create_walker(raw=True).build_object(pairs[:limit], total, -1, each_by_itself=True)
