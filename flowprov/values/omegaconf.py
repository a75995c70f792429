"""The handlers of OmegaConf's containers, without importing OmegaConf.

Flows in: a ``DictConfig`` or ``ListConfig``. Flows out: its content. ``items()`` checks and copies so much
that a configuration of a thousand entries takes 6 ms. So a plain value is taken from the node that holds it,
and so is that to which an interpolation leads (``${lr}``, ``${root}/${name}``). OmegaConf itself, which takes
a quarter of a millisecond for each, is asked only for other interpolations; all of them stay as they are
written once their time is over. So does what comes from the environment (``${oc.env:KEY}``): the name of the
entry does not tell whether the variable holds a secret. What refers to an entry that is named like a secret
(``${db.password}``) is hidden.
"""

from __future__ import annotations

import functools
import re
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from time import thread_time_ns
from typing import Any, TypeAlias

from flowprov.values.budget import Budget
from flowprov.values.classes import bases_of, dict_reader, package_of
from flowprov.values.fields import keep_mapping
from flowprov.values.hidden import HIDDEN
from flowprov.values.markers import JSONable, type_name
from flowprov.values.reading import UnreadableAttribute, read_or_mark, take
from flowprov.values.secret_names import NOT_SECRET, SERVICE, TOKEN_LIKE, looks_like_service_key
from flowprov.values.walker import Walker

_MAX_CLASSES = 100
_MAX_DEPTH, _MAX_PARENTS, _MAX_NODES = 10, 100, 1_000
_MAX_REFERENCES = 100  # that one interpolation follows
_MAX_BEHIND = 3  # containers that are interpolations, one behind the other
_ENVIRONMENT = re.compile(r"\$\{\s*(?:oc\.)?env\s*:")
_RESOLVER = re.compile(r"\$\{[^{}]*(?::|\$\{)")  # or a reference whose name is an interpolation itself
_COMPUTED = re.compile(r"\$\{[^{}]*\$\{")  # a reference, or an argument, that is an interpolation itself
_REFERENCE = re.compile(r"\$\{\s*([^${}:]+?)\s*\}")
_PLAIN_REFERENCE = re.compile(r"\$\{([\w.\[\]-]+)\}")  # which means the same to OmegaConf
_IN_TEXT = _ANY = (str, int, float, bool, type(None))
# The types of values that a node keeps as they are. Others it converts to the type that it declares.
_KEPT_BY_NODE = {
    "AnyNode": _ANY,
    "StringNode": (str,),
    "IntegerNode": (int,),
    "FloatNode": (float,),
    "BooleanNode": (bool,),
}
_ARGUMENT = re.compile(r"[\w.]+(?!\s*:|[\w.])")  # of a resolver: it may be the name of an entry
_SEPARATOR = re.compile(r"[.\[\]]+")

_ENTRIES_A_LOOK = 50  # after which the clock is read
_TIME_FOR_ENTRIES = 0.25  # of the time: the rest is for what is done with them
# As OmegaConf's exception says it, which it takes 0.1 ms to raise.
_MISSING = UnreadableAttribute("omegaconf.errors.MissingMandatoryValue: Missing mandatory value")
_UNRESOLVED, _NOWHERE, _SOMEWHERE = object(), object(), object()

_Secrecy: TypeAlias = Callable[[str], int]
_Followed: TypeAlias = list[tuple[str, Any]]


def keep_config(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the content of a `DictConfig`."""
    content = _attributes_of(value).get("_content")
    if type(content) is not dict:  # all of it is missing, None, or an interpolation
        return keep_mapping(walker, value, depth)

    def build(_: Any, level: int) -> JSONable:
        limits = walker.limits
        count = limits.max_entries if len(content) <= limits.max_entries else limits.max_items
        nodes = take(content.items, count)
        secrecy = walker.key_rules.secrecy
        pairs = ((key, _content_of(value, key, node, secrecy, walker)) for key, node in nodes)
        return walker.build_object(_in_time(pairs, 1.0, walker), max(len(content), len(nodes)), level)

    return walker.build_container(value, depth, build)


def config_entries(
    value: Any, count: int, secrecy: _Secrecy, budget: Budget
) -> tuple[Iterator[tuple[Any, Any]], int]:
    """Return the first entries of a `DictConfig`, one by one, and how many it has.

    There are none of anything else, or if all of it is missing.

    Parameters
    ----------
    value
        Anything.
    count
        How many entries are returned.
    secrecy
        How far a name means a secret.
    budget
        Tells whether there is time left to resolve interpolations.
    """
    cls = type(value)
    is_config = id(cls) in _node_classes or _is_node_class(cls)
    content = _attributes_of(value).get("_content") if is_config else None
    if type(content) is not dict:
        return iter(()), 0
    nodes = take(content.items, count)
    return ((key, _content_of(value, key, node, secrecy, budget)) for key, node in nodes), len(content)


def first_entries(entries: Iterable[tuple[Any, Any]], budget: Budget) -> list[tuple[Any, Any]]:
    """Return entries of a configuration, as many as a quarter of the time allows."""
    return list(_in_time(entries, _TIME_FOR_ENTRIES, budget))


def _in_time(entries: Iterable[tuple[Any, Any]], part: float, budget: Budget) -> Iterator[tuple[Any, Any]]:
    """Yield entries until so large a part of the time is spent."""
    for number, entry in enumerate(entries, 1):
        yield entry
        if number % _ENTRIES_A_LOOK == 0 and budget.has_spent(part):
            return


def keep_config_list(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the content of a `ListConfig`."""
    content = _attributes_of(value).get("_content")
    if type(content) is not list:
        return {"$type": type_name(type(value))}

    def build(_: Any, level: int) -> JSONable:
        nodes = list(islice(content, walker.limits.max_items))
        secrecy = walker.key_rules.secrecy
        items = [_content_of(value, index, node, secrecy, walker) for index, node in enumerate(nodes)]
        return walker.build_list(items, max(len(content), len(items)), level)

    return walker.build_container(value, depth, build)


def _content_of(config: Any, key: Any, node: Any, secrecy: _Secrecy, budget: Budget) -> Any:
    """Return what a node holds; of an interpolation, its text, if there is no time to resolve it."""
    cls = type(node)
    if id(cls) in _node_classes or _is_node_class(cls):
        attributes = object.__getattribute__(node, "__dict__")
        if "_val" in attributes:
            content = attributes["_val"]
            if not _is_unresolved(content):
                return content
            return _MISSING if content == "???" else _value_of(config, key, node, secrecy, budget)
        if type(attributes.get("_content")) in (dict, list):
            return node
    return _ask(config, key, "", secrecy, budget)


def _value_of(config: Any, key: Any, node: Any, secrecy: _Secrecy, budget: Budget) -> Any:
    """Return the value of an interpolation; its text, if there is no time to resolve it."""
    text = _raw_of(node)
    budget.count_container()  # it takes as long
    if not budget.may_spend_apart():
        return text
    begun = thread_time_ns()
    found = _resolved_here(config, node, secrecy)
    budget.spend_apart(thread_time_ns() - begun)
    if found is not _UNRESOLVED:
        return found
    return _ask(config, key, text, secrecy, budget) if budget.may_run_foreign() else text


def _ask(config: Any, key: Any, text: str, secrecy: _Secrecy, budget: Budget) -> Any:
    begun = thread_time_ns()
    try:
        return _resolved_there(config, key, text, secrecy)
    finally:
        budget.spend_apart(thread_time_ns() - begun, foreign=True)


def _is_unresolved(content: Any) -> bool:
    """Whether what a node holds is no value, but an interpolation or the sign of what is missing."""
    return type(content) is str and ("${" in content or content == "???")


def _resolved_here(config: Any, node: Any, secrecy: _Secrecy) -> Any:
    """Return the value of an interpolation, without OmegaConf: `HIDDEN` for a secret; or `_UNRESOLVED`."""
    followed: _Followed = []
    value = _resolved(config, node, followed)
    if value is not _UNRESOLVED:
        for reference, content in followed:
            if _names_secret(reference, content, secrecy):
                return HIDDEN
    return value


def _resolved_there(config: Any, key: Any, text: str, secrecy: _Secrecy) -> Any:
    """Return the value of an interpolation as OmegaConf gives it: `HIDDEN`, if it is a secret.

    Of what is missing or cannot be resolved, an `UnreadableAttribute` is returned.
    """
    if "${" in text:
        followed = _follow(config, text)
        if followed is None or _may_reveal(config, text, followed, secrecy):
            return text
        if _leads_to_secret(text, followed, secrecy):
            return HIDDEN
    return read_or_mark(functools.partial(type(config).__getitem__, config, key))


def _resolved(container: Any, node: Any, followed: _Followed, depth: int = 0) -> Any:
    """Return what a node holds, with plain references resolved as OmegaConf does; else `_UNRESOLVED`.

    Parameters
    ----------
    container, node
        The node, and what it is in.
    followed
        Takes what is referred to, as :func:`_follow` returns it.
    depth
        How many references led here.
    """
    content = _raw_of(node)
    if not _is_unresolved(content):
        return _UNRESOLVED if type(content) in (dict, list) else content
    texts = _PLAIN_REFERENCE.split(content)  # every second one is a reference
    kept = _KEPT_BY_NODE.get(type(node).__name__, ())
    if depth > _MAX_DEPTH or not kept or "\\" in content or content.count("${") > len(texts) // 2:
        return _UNRESOLVED
    found = [_referred(container, reference, followed, depth) for reference in texts[1::2]]
    if len(found) == 1 and not any(texts[::2]):
        return found[0] if kept is _ANY or type(found[0]) in kept else _UNRESOLVED
    if not found or any(type(each) not in _IN_TEXT for each in found) or str not in kept:
        return _UNRESOLVED
    texts[1::2] = map(str, found)
    return "".join(texts)


def _referred(container: Any, reference: str, followed: _Followed, depth: int) -> Any:
    node = _node_at(container, reference, followed)
    if _is_unknown(node) or len(followed) >= _MAX_REFERENCES:
        return _UNRESOLVED
    followed.append((reference, _raw_of(node)))
    return _resolved(_parent_of(node), node, followed, depth + 1)


def _follow(config: Any, text: str) -> _Followed | None:
    """Return what an interpolation refers to, itself and by what it refers to; None if that is too much.

    Of each, the reference as it is written, and what stands there, not resolved.
    """
    followed: _Followed = []
    waiting = [(config, text, 0)]
    while waiting:
        container, text, depth = waiting.pop()
        references = _REFERENCE.findall(text)
        if _RESOLVER.search(text):
            references += _ARGUMENT.findall(text)
        for reference in references:
            if len(followed) >= _MAX_REFERENCES or depth > _MAX_DEPTH:
                return None
            node = _node_at(container, reference, followed)
            content = node if _is_unknown(node) else _raw_of(node)
            followed.append((reference, content))
            if type(content) is str and "${" in content:
                waiting.append((_parent_of(node), content, depth + 1))
    return followed


def _may_reveal(config: Any, text: str, followed: _Followed, secrecy: _Secrecy) -> bool:
    """Whether an interpolation may have a value from the environment, or a secret that it does not name."""
    texts = [text, *(content for _, content in followed if type(content) is str)]
    if any(map(_ENVIRONMENT.search, texts)):
        return True

    def is_of_environment(_: Any, content: Any) -> bool:
        return type(content) is str and _ENVIRONMENT.search(content) is not None

    def is_secret(key: Any, content: Any) -> bool:
        return type(key) is str and _names_secret(key, content, secrecy)

    is_unknown = any(content is _SOMEWHERE for _, content in followed)
    # A resolver may take any entry as its argument.
    if (is_unknown or any(map(_RESOLVER.search, texts))) and _holds(_root_of(config), is_of_environment):
        return True
    return is_unknown and _holds(_root_of(config), is_secret)


def _leads_to_secret(text: str, followed: _Followed, secrecy: _Secrecy) -> bool:
    """Whether an interpolation leads to a secret, by what it refers to."""
    if any(_names_secret(reference, content, secrecy) for reference, content in followed):
        return True
    contents = [content for _, content in followed if type(content) is str]
    if not any(map(_COMPUTED.search, (text, *contents))):
        return False
    return any(_names_secret(content, _SOMEWHERE, secrecy) for content in contents)  # each may be the name


def _names_secret(reference: str, content: Any, secrecy: _Secrecy) -> bool:
    """Whether an interpolation refers to what is concealed under its own name."""
    if content is None or type(content) is bool:
        return False
    is_unknown = _is_unknown(content)
    for name in filter(None, _SEPARATOR.split(reference)):
        level = secrecy(name)
        if level == SERVICE and not is_unknown:
            if type(content) is str and looks_like_service_key(content):
                return True
        elif level != NOT_SECRET and not (level == TOKEN_LIKE and type(content) in (int, float)):
            return True
    return False


def _holds(node: Any, is_meant: Callable[[Any, Any], bool], depth: int = 0) -> bool:
    """Whether a key and what stands there are meant, in a container or inside of it; or it is too large."""
    content = _raw_of(node)
    pairs: list[tuple[Any, Any]] = []
    if type(content) in (dict, list):
        pairs = list(content.items() if type(content) is dict else enumerate(content))
    if len(pairs) > _MAX_NODES or depth > _MAX_DEPTH:
        return True
    return any(is_meant(key, _raw_of(inner)) or _holds(inner, is_meant, depth + 1) for key, inner in pairs)


def _is_unknown(node: Any) -> bool:
    return node is _NOWHERE or node is _SOMEWHERE


def _node_at(config: Any, reference: str, followed: _Followed, depth: int = 0) -> Any:
    """Return the node to which an interpolation in a container refers.

    `_NOWHERE` is returned if there is none, and `_SOMEWHERE` if OmegaConf may find one: behind a resolver,
    or by a key of another type. ``followed`` takes the containers on the way that are interpolations.
    """
    dots = len(reference) - len(reference.lstrip("."))
    node = config if dots else _root_of(config)
    for _ in range(dots - 1):
        node = _parent_of(node)
    for key in filter(None, _SEPARATOR.split(reference)):
        content = _attributes_of(node).get("_content")
        if type(content) not in (dict, list):
            content = _attributes_of(_behind(node, followed, depth)).get("_content")
        if type(content) is dict and key in content:
            node = content[key]
        elif type(content) is list and key.isdecimal() and int(key) < len(content):
            node = content[int(key)]
        elif type(content) is dict and all(type(each) is str for each in content):
            return _NOWHERE
        else:
            return _SOMEWHERE
    return node


def _behind(node: Any, followed: _Followed, depth: int) -> Any:
    """Return the node to which a node refers, if it does nothing else; else itself."""
    content = _raw_of(node)
    whole = _REFERENCE.fullmatch(content) if type(content) is str else None
    if whole is None or depth >= _MAX_BEHIND:
        return node
    found = _node_at(_parent_of(node), whole[1], followed, depth + 1)
    followed.append((whole[1], found if _is_unknown(found) else _raw_of(found)))
    return _behind(found, followed, depth + 1)


def _root_of(config: Any) -> Any:
    for _ in range(_MAX_PARENTS):
        if (above := _parent_of(config)) is None:
            break
        config = above
    return config


def _parent_of(node: Any) -> Any:
    parent = _attributes_of(node).get("_parent")
    return parent() if type(parent) is weakref.ref else parent


def _raw_of(node: Any) -> Any:
    attributes = _attributes_of(node)
    return attributes["_val"] if "_val" in attributes else attributes.get("_content")


_node_classes: dict[int, type] = {}  # by id, kept alive here: to hash a class may run code


def _is_node_class(cls: type) -> bool:
    is_node = package_of(cls) == "omegaconf"
    if is_node and len(_node_classes) < _MAX_CLASSES:
        _node_classes[id(cls)] = cls
    return is_node


def _attributes_of(value: object) -> dict[str, Any]:
    cls = type(value)
    if id(cls) in _node_classes:
        attributes: dict[str, Any] = object.__getattribute__(value, "__dict__")
        return attributes
    read = dict_reader(bases_of(cls))
    return {} if read is None else read(value)
