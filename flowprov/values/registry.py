"""Which handler a type has.

Flows in: a type. Flows out: the handler for its instances, found once and kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from flowprov.values import kinds
from flowprov.values.walk import Handler, Kinds

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
    (kinds.keep_as_is, "builtins:NoneType builtins:bool"),
    (kinds.keep_int, "builtins:int"),
    (kinds.keep_float, "builtins:float numpy:float64"),
    (kinds.keep_str, "builtins:str"),
    (kinds.keep_complex, "builtins:complex numpy:complex128"),
    (kinds.keep_range, "builtins:range builtins:slice"),
    (kinds.keep_bytes, "builtins:bytes builtins:bytearray builtins:memoryview"),
    (kinds.keep_list, "builtins:list"),
    (kinds.keep_tuple, "builtins:tuple"),
    (kinds.keep_dict, "builtins:dict"),
    (kinds.keep_set, "builtins:set builtins:frozenset"),
    (
        kinds.keep_iterable,
        "builtins:dict_keys builtins:dict_values builtins:odict_keys builtins:odict_values",
    ),
    (kinds.keep_iterable, "collections:deque collections:UserList omegaconf:ListConfig"),
    (kinds.keep_items_view, "builtins:dict_items builtins:odict_items"),
    (kinds.keep_namespace, "types:SimpleNamespace argparse:Namespace"),
    (kinds.keep_enum, "enum:Enum"),
    (kinds.keep_numpy_scalar, "numpy:generic"),
    (kinds.keep_written, "decimal:Decimal fractions:Fraction uuid:UUID uuid_utils:UUID pathlib:PurePath"),
    (kinds.keep_written, "numpy:dtype torch:dtype torch:device torch:layout torch:memory_format"),
    (kinds.keep_iso, "datetime:datetime datetime:date datetime:time"),
    (kinds.keep_duration, "datetime:timedelta"),
    (kinds.keep_callable, "builtins:function builtins:builtin_function_or_method builtins:method"),
    (kinds.keep_callable, "builtins:method_descriptor builtins:wrapper_descriptor builtins:method-wrapper"),
    (kinds.keep_callable, "builtins:classmethod_descriptor functools:_lru_cache_wrapper"),
    (kinds.keep_class, "builtins:type"),
    (kinds.keep_module, "builtins:module"),
    (kinds.keep_partial, "functools:partial"),
    (kinds.keep_exception, "builtins:BaseException"),
    (kinds.keep_environment, "os:_Environ"),
    (kinds.keep_unreadable, "flowprov:Unreadable"),
    (kinds.keep_type_only, "weakref:ProxyType weakref:CallableProxyType"),
    (kinds.keep_type_only, "builtins:weakproxy builtins:weakcallableproxy"),
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
        if known is kinds.keep_tuple:
            names = _tuple_fields(bases)
            return kinds.named_tuple(names) if names else known
        if known is not None:
            return known
    if issubclass(cls, Mapping) and _ON_DISK.isdisjoint(packages):
        return kinds.keep_mapping if _TYPE_ONLY.isdisjoint(packages) else kinds.keep_type_only
    return _by_declarations(bases, packages)


def _by_declarations(bases: tuple[type, ...], packages: list[str]) -> Handler:
    array_like = _declares(bases, "shape") and _declares(bases, "dtype")
    if not _TYPE_ONLY.isdisjoint(packages):
        return kinds.keep_array if array_like else kinds.keep_type_only
    fields = _field_names(bases)
    if fields is not None:
        return kinds.by_fields(fields)
    if array_like:
        return kinds.keep_array
    if all(_declares(bases, name) for name in ("shape", "columns", "dtypes")):
        return kinds.keep_frame
    return kinds.keep_other


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
    silent=frozenset({kinds.keep_array, kinds.keep_frame, kinds.keep_type_only}),
    numbers=frozenset({kinds.keep_int, kinds.keep_float, kinds.keep_numpy_scalar}),
)
