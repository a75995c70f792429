"""The handler table: which handler takes the objects of which class.

Flows in: a class. Flows out: its handler, found by the names of its bases and by what they declare. Code of a
class runs only if the class is known: what it shows is then as quick and harmless as a number. Of any other
object the type is kept, and what it stores in fields that it declares.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from flowprov.values import fields, handlers, omegaconf, scalars
from flowprov.values.classes import (
    bases_of,
    declared,
    declares,
    module_of,
    namespace_of,
    overrides,
    package_of,
    qualname_of,
)
from flowprov.values.handlers import asked_only, is_number, keep_numpy_array
from flowprov.values.hidden import Hidden, hidden_fields, hides_itself
from flowprov.values.reading import UnreadableAttribute
from flowprov.values.walker import Handler, HandlerTable

_MAX_TYPES = 1024

# The reprs of their classes print elements (and wait for the device) or run code; the types say enough.
_TYPE_ONLY = frozenset(
    {"torch", "torchvision", "torchaudio", "tensorflow", "jax", "jaxlib", "cupy", "pyarrow"}
    | {"itertools", "asyncio", "_asyncio", "contextvars", "_contextvars"}
)
# Their mappings would read their items from a file.
_ON_DISK = frozenset({"shelve", "dbm", "h5py", "zarr", "lmdb", "diskcache"})
# Shape and dtype of their arrays are stored or quickly computed.
_ARRAYS = frozenset(
    {"cupy", "dask", "jax", "jaxlib", "numpy", "pandas", "polars", "scipy", "tensorflow", "xarray"}
    | {"torch", "torchaudio", "torchvision"}
)
_FRAMES = frozenset({"pandas", "polars"})
# Packages whose classes change nothing of a known class that makes it slow, or harmful to ask.
_KNOWN = (
    _ARRAYS
    | {
        "builtins",
        "datetime",
        "dateutil",
        "decimal",
        "enum",
        "fractions",
        "functools",
        "ipaddress",
        "numbers",
    }
    | {"pathlib", "pytz", "re", "types", "uuid", "uuid_utils", "zoneinfo"}
)

# For each handler, the classes whose instances it takes, as top package and qualified name. Subclasses are
# taken as well: these handlers read an object by the methods of the known class alone.
_OF_CLASSES: tuple[tuple[Handler, str], ...] = (
    (scalars.keep_as_is, "builtins:NoneType builtins:bool"),
    (scalars.keep_int, "builtins:int"),
    (scalars.keep_float, "builtins:float numpy:float64"),
    (scalars.keep_str, "builtins:str"),
    (scalars.keep_complex, "builtins:complex numpy:complex128"),
    (scalars.keep_range, "builtins:range builtins:slice"),
    (scalars.keep_bytes, "builtins:bytes builtins:bytearray builtins:memoryview"),
    (scalars.keep_enum, "enum:Enum"),
    (handlers.keep_list, "builtins:list"),
    (handlers.keep_tuple, "builtins:tuple"),
    (fields.keep_dict, "builtins:dict"),
    (handlers.keep_set, "builtins:set builtins:frozenset"),
    (
        handlers.keep_view,
        "builtins:dict_keys builtins:dict_values builtins:odict_keys builtins:odict_values",
    ),
    (handlers.keep_deque, "collections:deque"),
    (fields.keep_items_view, "builtins:dict_items builtins:odict_items"),
    (fields.keep_proxy, "builtins:mappingproxy types:MappingProxyType"),
    (fields.keep_chain, "collections:ChainMap"),
    (fields.keep_data, "collections:UserDict collections:UserList"),
    (fields.keep_namespace, "types:SimpleNamespace argparse:Namespace"),
    (omegaconf.keep_config, "omegaconf:DictConfig"),
    (omegaconf.keep_config_list, "omegaconf:ListConfig"),
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
    (fields.keep_not_read, f"flowprov:{fields.NotRead.__qualname__}"),
    (handlers.keep_artifact, "flowprov:Artifact"),
    (handlers.keep_encoded, "msgspec:Raw"),
    (handlers.keep_type_only, "weakref:ProxyType weakref:CallableProxyType"),
    (handlers.keep_type_only, "builtins:weakproxy builtins:weakcallableproxy"),
)
# These call methods of an object, so they take a subclass only if it is known or overrides nothing.
_OF_UNCHANGED: tuple[tuple[Handler, str], ...] = (
    (scalars.keep_numpy_scalar, "numpy:generic"),
    (handlers.keep_numpy_array, "numpy:ndarray"),
    (scalars.keep_dtype, "numpy:dtype"),
    (scalars.keep_str_form, "uuid:UUID uuid_utils:UUID pathlib:PurePath"),
    (scalars.keep_str_form, "torch:dtype torch:device torch:layout torch:memory_format"),
    (scalars.keep_decimal, "decimal:Decimal"),
    (scalars.keep_fraction, "fractions:Fraction"),
    (scalars.keep_iso, "datetime:datetime datetime:date datetime:time"),
    (scalars.keep_duration, "datetime:timedelta"),
    (handlers.keep_repr, "re:Pattern builtins:ellipsis builtins:NotImplementedType mmap:mmap"),
    (handlers.keep_repr, "_thread:lock _thread:RLock builtins:code datetime:timezone zoneinfo:ZoneInfo"),
    (handlers.keep_repr, "ipaddress:_BaseAddress ipaddress:_BaseNetwork numpy:Generator pandas:NAType"),
    (handlers.keep_repr, "ctypes:c_bool ctypes:c_double ctypes:c_float ctypes:c_int ctypes:c_long"),
)
_HANDLER_BY_NAME = {name: handler for handler, names in _OF_CLASSES for name in names.split()}
_UNCHANGED_BY_NAME = {name: handler for handler, names in _OF_UNCHANGED for name in names.split()}

_FIELD_DECLARATIONS = ("__attrs_attrs__", "__dataclass_fields__", "__pydantic_fields__", "__fields__")


def resolve_handler(cls: type) -> Handler:
    """Find the handler of a type, and add it to the table."""
    handler = _find_handler(cls)
    if len(_classes) >= _MAX_TYPES:  # a program may make new classes without end
        HANDLER_TABLE.by_id.clear()
        _classes.clear()
    _classes.append(cls)  # first: as long as it is here, no other class has its id
    HANDLER_TABLE.by_id[id(cls)] = handler
    return handler


def is_known(cls: type) -> bool:
    """Whether a class comes from a package whose classes are quick and harmless to ask."""
    return package_of(cls) in _KNOWN


def _find_handler(cls: type) -> Handler:
    bases = bases_of(cls)
    packages = [package_of(base) for base in bases]
    # In the order of the MRO, so that the nearest base with a handler decides.
    for index, (base, package) in enumerate(zip(bases, packages, strict=True)):
        name = f"{package}:{qualname_of(base)}"
        handler = _HANDLER_BY_NAME.get(name)
        if handler is scalars.keep_str:
            return _string_handler(bases)
        if handler is handlers.keep_tuple:
            names = _tuple_field_names(bases)
            return fields.named_tuple_handler(names) if names else handler
        if handler is not None:
            return handler
        handler = _UNCHANGED_BY_NAME.get(name)
        if handler is not None:
            foreign = tuple(each for each in bases[:index] if not is_known(each))
            return asked_only(handler) if overrides(foreign, base) else handler
    if any(base is Mapping for base in bases) and _ON_DISK.isdisjoint(packages):
        known = "ml_collections" in packages
        return fields.keep_mapping if known else asked_only(_asked_handler(fields.keep_mapping, packages))
    return _handler_by_attributes(bases, packages)


def _string_handler(bases: tuple[type, ...]) -> Handler:
    if any(base is Enum for base in bases):
        return scalars.keep_str_of_enum
    return scalars.keep_hidden_str if hides_itself(bases) else scalars.keep_str


def _asked_handler(handler: Handler, packages: list[str]) -> Handler:
    return handler if _TYPE_ONLY.isdisjoint(packages) else handlers.keep_type_only


def _handler_by_attributes(bases: tuple[type, ...], packages: list[str]) -> Handler:
    array_like = declares(bases, "shape") and declares(bases, "dtype")
    if not _TYPE_ONLY.isdisjoint(packages):
        return handlers.keep_array if array_like else handlers.keep_type_only
    names = _field_names(bases)
    if names is not None:
        hidden = hidden_fields(*(declared(bases, name) for name in _FIELD_DECLARATIONS))
        return fields.fields_handler(names, hidden, bases)
    if array_like:
        return handlers.keep_array if _is_of(_ARRAYS, bases, _OF_ARRAY) else asked_only(handlers.keep_array)
    if all(declares(bases, name) for name in _OF_FRAME):
        return handlers.keep_frame if _is_of(_FRAMES, bases, _OF_FRAME) else asked_only(handlers.keep_frame)
    return _configuration_handler(bases) if declares(bases, "to_dict") else asked_only(handlers.keep_repr)


_OF_ARRAY = ("shape", "dtype", "device", "nbytes", "__getattr__", "__getattribute__")
_OF_FRAME = ("shape", "columns", "dtypes", "__getattr__", "__getattribute__")


def _is_of(packages: frozenset[str], bases: tuple[type, ...], names: tuple[str, ...]) -> bool:
    """Whether known packages declare these attributes of a class, as far as there are any."""
    owners = [next((base for base in bases if name in namespace_of(base)), object) for name in names]
    return all(owner is object or package_of(owner) in packages for owner in owners)


def _configuration_handler(bases: tuple[type, ...]) -> Handler:
    if all(declares(bases, name) for name in ("keys", "items", "__getitem__")):
        known = any(module_of(base).startswith("ml_collections") for base in bases)
        # A configuration that is a mapping in all but name.
        return fields.keep_mapping if known else asked_only(fields.keep_mapping)
    slots = [_as_strings(namespace_of(base).get("__slots__")) or () for base in reversed(bases)]
    silent = next(base for base in bases if "__repr__" in namespace_of(base)) is object
    otherwise = asked_only(fields.keep_to_dict if silent else handlers.keep_repr)
    return fields.attributes_handler(tuple(name for names in slots for name in names), bases, otherwise)


def _tuple_field_names(bases: tuple[type, ...]) -> tuple[str, ...]:
    names = declared(bases, "_fields")
    if names is None and declares(bases, "n_sequence_fields"):  # os.stat_result, torch.return_types.max
        names = declared(bases, "__match_args__")
    return _as_strings(names) or ()


def _field_names(bases: tuple[type, ...]) -> tuple[str, ...] | None:
    for base in bases:
        if base is msgspec.Struct:  # its metaclass declares the fields, so `declared` does not find them
            return _as_strings(bases[0].__struct_fields__)  # type: ignore[attr-defined]
    declarations = ["__dataclass_fields__", "__pydantic_fields__"]
    if declares(bases, "__fields_set__"):  # pydantic 1
        declarations.append("__fields__")
    for declaration in declarations:
        names = _as_strings(declared(bases, declaration))
        if names is not None:
            return names
    attributes = declared(bases, "__attrs_attrs__")
    if isinstance(attributes, tuple):
        return _as_strings([getattr(attribute, "name", None) for attribute in attributes])
    return None


def _as_strings(names: object) -> tuple[str, ...] | None:
    cls = type(names)
    if (cls is tuple or cls is list or cls is dict) and all(type(name) is str for name in names):  # type: ignore[attr-defined]
        return tuple(names)  # type: ignore[arg-type]
    return None


_classes: list[type] = []  # kept alive, so that an id in the table means one class

HANDLER_TABLE = HandlerTable(
    by_id={},
    resolve=resolve_handler,
    is_known=is_known,
    contentless=frozenset({handlers.keep_array, handlers.keep_frame, handlers.keep_type_only}),
    numeric=frozenset({scalars.keep_int, scalars.keep_float, scalars.keep_numpy_scalar}),
    sometimes_numeric={keep_numpy_array: is_number},
)
