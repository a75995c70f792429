"""What is known of a captured function before it is called: how its arguments and results become JSON.

Flows in: a function and the options of ``@task``. Flows out: encoded fields that all its records share, and
an encoder that is generated for its signature.

Binding arguments to names with ``inspect.Signature.bind`` costs more than the whole rest of a record. A
function with the same signature lets the interpreter bind them. This module generates that function, once per
function spec. The generated code first checks with a few comparisons whether all arguments are scalars that
the JSON encoder takes as they are. All other values go through the summarizer.
"""

from __future__ import annotations

import inspect
import linecache
import sys
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any

import msgspec

from flowprov import guard
from flowprov.capture import metrics, replay
from flowprov.capture.wrapping import attribute_of, is_kind
from flowprov.runtime import runtime
from flowprov.runtime.context import CoroutineScope, GeneratorScope, Scope
from flowprov.runtime.encoders import encoder_globals
from flowprov.values import as_dict, as_name, as_names, bytes_spent, plain_string_limit
from flowprov.values.hidden import HIDDEN
from flowprov.values.markers import INT_MAX, INT_MIN
from flowprov.values.redaction import DEFAULT, redactor
from flowprov.values.secret_names import NOT_SECRET, SECRET, TOKEN_LIKE

_json = msgspec.json.Encoder().encode
_modules = sys.modules


class FunctionSpec:
    """A captured function.

    Parameters
    ----------
    function
        The function as the user wrote it.
    activity_id
        Name of the activity; the function's name if None.
    output_names
        Names for the result: one name, or one for each element of a returned tuple or list.
    subtype, tags, custom_metadata
        Recorded with each call.

    Attributes
    ----------
    activity_fields
        The part of a line that holds activity and subtype.
    encode_used
        Encodes the arguments of a call as a JSON object. It has the signature of the function.
    scope_kind
        The class of the scope of a call.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        activity_id: str | None = None,
        output_names: str | Sequence[str] | None = None,
        subtype: str | None = None,
        tags: Sequence[str] | None = None,
        custom_metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        own_name = as_name(attribute_of(function, "__name__"), type(function).__name__)
        self.activity_id = as_name(activity_id) or own_name
        self.output_names = tuple(as_names(output_names))
        self.subtype = as_name(subtype)
        self.tags = as_names(tags)
        self.custom_metadata = as_dict(custom_metadata, "custom_metadata")
        self.activity_fields = b',"activity_id":' + msgspec.json.encode(self.activity_id)
        if self.subtype is not None:
            self.activity_fields += b',"subtype":' + msgspec.json.encode(self.subtype)
        self.scope_kind = _scope_kind(function)
        self._tail: bytes | None = None if self.tags or self.custom_metadata else b""
        self.encode_used = _generate_encoder(function)

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            FunctionSpec,
            (
                self.function,
                self.activity_id,
                self.output_names,
                self.subtype,
                self.tags or None,
                self.custom_metadata or None,
            ),
        )

    @property
    def tail(self) -> bytes:
        """The part of a line that holds tags and custom metadata."""
        if self._tail is None:
            self._tail = tags_and_metadata_fields(self.tags, self.custom_metadata)
        return self._tail

    def encode_outputs(self, result: Any, scope: Scope) -> bytes:
        """Encode the result of a call as the ``generated`` field of a line.

        Parameters
        ----------
        result
            The result.
        scope
            The scope of the call. What it used has spent some of the bytes that its record may have.

        Raises
        ------
        Replay
            If the call is traced, which plain numbers as inputs did not show.
        """
        result_type = type(result)
        if not self.output_names and (
            (result_type is float and result - result == 0.0)
            or (result_type is int and INT_MIN <= result <= INT_MAX)
            or result_type is bool
        ):
            return b',"generated":{"result":' + _json(result) + b"}"
        if result is None:
            return b""
        if "torch" in _modules and replay.adapter.is_traced():
            raise replay.Replay
        if result_type is dict or self.output_names:
            return generated_field(self.name_outputs(result), scope.used)
        return generated_field({"result": result}, scope.used)

    def encode_unbound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Encode arguments that do not fit the signature. The call is about to raise.

        If a parameter is named like a secret, the positional arguments are hidden: each may be meant for it.
        """
        parameters = self.encode_used.__code__.co_varnames
        if any(redactor().secrecy(name) in (TOKEN_LIKE, SECRET) for name in parameters):
            args = (HIDDEN,) * len(args)
        return encode({"args": args, "kwargs": kwargs})

    def name_outputs(self, result: Any) -> Mapping[str, Any] | None:
        """Return what a call generated, by name; None if the call returned None."""
        if result is None:
            return None
        names = self.output_names
        if names:
            if len(names) == 1:
                return {names[0]: result}
            if issubclass(type(result), (tuple, list)) and len(names) == len(result):
                return dict(zip(names, result, strict=True))
        if type(result) is dict:
            return result
        return {"result": result}


def tags_and_metadata_fields(
    tags: Sequence[str], custom_metadata: Mapping[str, Any], spent: int = 0
) -> bytes:
    """Encode tags and custom metadata as fields of a line whose other values have spent so many bytes."""
    fields = b""
    if tags:
        fields += b',"tags":' + msgspec.json.encode(as_names(tags))
    if custom_metadata:
        fields += b',"custom_metadata":' + encode(custom_metadata, spent)
    return fields


def _scope_kind(function: Callable[..., Any]) -> type[Scope]:
    if is_kind(inspect.iscoroutinefunction, function):
        return CoroutineScope
    generators = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return GeneratorScope if any(is_kind(test, function) for test in generators) else Scope


def generated_field(outputs: Mapping[str, Any] | None, used: bytes | None = None) -> bytes:
    """Encode outputs as the ``generated`` field of a line; return nothing if there are none."""
    return b"" if outputs is None else b',"generated":' + metrics.encode(outputs, bytes_spent(used))


def encode(mapping: Mapping[str, Any], spent: int = 0) -> bytes:
    """Encode a mapping of inputs, outputs or metadata, with the settings in force."""
    encode_mapping = encoder_globals.get("_flowprov_encode") or runtime.get().summarizer.encode_mapping
    return encode_mapping(mapping, spent)


def _generate_encoder(function: Callable[..., Any]) -> Callable[..., bytes]:
    """Generate a function with the signature of ``function`` that encodes its arguments by name."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except Exception as error:  # callables of C may have no signature; others say it by code of the program
        guard.pass_on(error)
        return _encode_by_position
    if not all(parameter.name.isidentifier() for parameter in parameters):
        return _encode_by_position
    skipped = _self_parameter(function, parameters)
    positional = tuple(p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.name != skipped)
    items = []
    max_string = plain_string_limit(len(parameters))
    scalar_tests = ["True"]
    for parameter in parameters:
        name = parameter.name
        if name == skipped:
            continue
        is_kwargs = parameter.kind is parameter.VAR_KEYWORD
        items.append(_item_source(name, positional) if is_kwargs else f"{name!r}: {name}")
        is_variadic = is_kwargs or parameter.kind is parameter.VAR_POSITIONAL
        scalar_tests.append(f"not {name}" if is_variadic else _scalar_test(name, max_string))
    source = _ENCODER.format(
        parameters=_format_parameters(parameters),
        all_scalars=" and ".join(scalar_tests),
        items=", ".join(items),
    )
    namespace: dict[str, Any] = {}
    exec(_compile(source, function), encoder_globals, namespace)  # noqa: S102 - only identifiers of the signature enter the source
    encoder: Any = namespace["encode_used"]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    empty = inspect.Parameter.empty
    encoder.__defaults__ = tuple(p.default for p in parameters if p.kind in kinds and p.default is not empty)
    encoder.__kwdefaults__ = {
        p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not empty
    }
    return encoder  # type: ignore[no-any-return]


_ENCODER = """
def encode_used({parameters}):
    if {all_scalars}:
        try:
            return _flowprov_json({{{items}}})
        except UnicodeEncodeError:
            pass
    if "torch" in _flowprov_modules and _flowprov_is_replayed():
        return _flowprov_encode_replayed({{{items}}})
    return _flowprov_encode({{{items}}})
"""


def _item_source(name: str, positional: tuple[str, ...]) -> str:
    """Return the source of the items that ``**name`` takes, beside these positional-only parameters."""
    source = f"_flowprov_hide({name}, {name!r})" if DEFAULT.secrecy(name) != NOT_SECRET else name
    return f"**_flowprov_apart({source}, {name!r}, {positional!r})" if positional else f"**{source}"


def _hide(keywords: dict[str, Any], name: str) -> dict[str, Any]:
    """Return keywords without their values, if the parameter that takes them is named like a secret."""
    if redactor().secrecy(name) not in (TOKEN_LIKE, SECRET):
        return keywords
    return {key: value if value is None or type(value) is bool else HIDDEN for key, value in keywords.items()}


def _apart(keywords: dict[str, Any], name: str, positional: tuple[str, ...]) -> dict[str, Any]:
    """Return keywords; those with the name of a positional-only parameter stand under a name of their own."""
    taken = {key: value for key, value in keywords.items() if key in positional}
    if not taken:
        return keywords
    return {**{key: value for key, value in keywords.items() if key not in taken}, f"**{name}": taken}


encoder_globals["_flowprov_apart"] = _apart
encoder_globals["_flowprov_hide"] = _hide


def _compile(source: str, function: Callable[..., Any]) -> CodeType:
    """Compile generated source under a file name of its own, so that a traceback shows its lines.

    ``linecache`` keeps the source under that name. The same source for a function of the same name keeps one
    entry: a function that is unpickled again and again does not make the cache grow.
    """
    qualname = as_name(attribute_of(function, "__qualname__"), type(function).__qualname__)
    qualified = f"{as_name(attribute_of(function, '__module__'))}.{qualname}"
    lines = source.splitlines(keepends=True)
    count = 0
    while True:
        # ascii(): a name that a program set may hold what no file name can.
        name = f"<flowprov encoder of {qualified!a}{f' ({count})' if count else ''}>"
        entry = (len(source), None, lines, name)  # no modification time: linecache never checks it
        if linecache.cache.setdefault(name, entry) == entry:
            return compile(source, name, "exec")
        count += 1  # another function of this name has another signature


def _scalar_test(name: str, max_string: int) -> str:
    """Return the source of a test: the argument is a scalar that JSON takes as it is, and no secret.

    Parameters
    ----------
    name
        The argument.
    max_string
        How long it may be as a string.
    """
    if DEFAULT.secrecy(name) != NOT_SECRET:
        return "False"
    return (
        f"((_flowprov_kind := _flowprov_type({name})) is int and {INT_MIN} <= {name} <= {INT_MAX}"
        f" or _flowprov_kind is float and {name} - {name} == 0.0"
        f" or _flowprov_kind is str and _flowprov_len({name}) <= {max_string}"
        f" and ({name} in _flowprov_plain_texts or _flowprov_is_plain({name}))"
        f" or _flowprov_kind is bool or {name} is None)"
    )


def _format_parameters(parameters: list[inspect.Parameter]) -> str:
    """Format the parameters as in a ``def``, with None for every default."""
    parts: list[str] = []
    empty = inspect.Parameter.empty
    for position, parameter in enumerate(parameters):
        before = parameters[position - 1].kind if position else None
        if before is parameter.POSITIONAL_ONLY and parameter.kind is not parameter.POSITIONAL_ONLY:
            parts.append("/")
        if parameter.kind is parameter.KEYWORD_ONLY and before not in (
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        ):
            parts.append("*")
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else stars
        parts.append(stars + parameter.name + ("" if parameter.default is empty else "=None"))
    if parameters and parameters[-1].kind is inspect.Parameter.POSITIONAL_ONLY:
        parts.append("/")
    return ", ".join(parts)


def _self_parameter(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> str | None:
    """Return the name of the parameter that takes a method's object or class, which is no input to record."""
    qualified = as_name(attribute_of(function, "__qualname__"), "")
    owner = qualified.rpartition(".")[0]
    if parameters and parameters[0].name in ("self", "cls") and owner and not owner.endswith("<locals>"):
        return parameters[0].name
    return None


def _encode_by_position(*args: Any, **kwargs: Any) -> bytes:
    return encode({**{f"arg_{position}": value for position, value in enumerate(args)}, **kwargs})
