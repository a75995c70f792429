"""The handlers of OmegaConf's containers, without importing OmegaConf.

Flows in: a ``DictConfig`` or ``ListConfig``. Flows out: its content. ``items()`` checks and copies so much
that a configuration of a thousand entries takes 6 ms. So a plain value is taken from the node that holds it.
OmegaConf itself is asked only for interpolations (``${lr}``), whose values depend on the rest, and for what
is missing (``???``). What comes from the environment (``${oc.env:KEY}``) stays as it is written: the name of
the entry does not tell whether the variable holds a secret.
"""

from __future__ import annotations

import functools
import re
import weakref
from itertools import islice
from typing import Any

from flowprov.values.classes import bases_of, dict_reader, package_of
from flowprov.values.fields import keep_mapping
from flowprov.values.markers import JSONable, type_name
from flowprov.values.reading import read_or_mark, take
from flowprov.values.walker import Walker

_MAX_CLASSES = 100
_MAX_REFERENCES, _MAX_PARENTS, _MAX_NODES = 10, 100, 1_000
_ENVIRONMENT = re.compile(r"\$\{\s*(?:oc\.)?env\s*:")
_RESOLVER = re.compile(r"\$\{[^{}]*:")
_REFERENCE = re.compile(r"\$\{\s*([^${}:]+?)\s*\}")


def keep_config(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the content of a `DictConfig`."""
    content = _attributes_of(value).get("_content")
    if type(content) is not dict:  # all of it is missing, None, or an interpolation
        return keep_mapping(walker, value, depth)

    def build(_: Any, level: int) -> JSONable:
        limits = walker.limits
        count = limits.max_entries if len(content) <= limits.max_entries else limits.max_items
        nodes = take(content.items, count)
        pairs = [(key, _content_of(value, key, node)) for key, node in nodes]
        return walker.build_object(pairs, max(len(content), len(pairs)), level)

    return walker.build_container(value, depth, build)


def config_pairs(value: Any, count: int) -> list[tuple[Any, Any]]:
    """Return the first pairs of a `DictConfig`; none of anything else, or if all of it is missing."""
    cls = type(value)
    if not (id(cls) in _node_classes or _is_node_class(cls)):
        return []
    content = _attributes_of(value).get("_content")
    if type(content) is not dict:
        return []
    return [(key, _content_of(value, key, node)) for key, node in take(content.items, count)]


def keep_config_list(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the content of a `ListConfig`."""
    content = _attributes_of(value).get("_content")
    if type(content) is not list:
        return {"$type": type_name(type(value))}

    def build(_: Any, level: int) -> JSONable:
        nodes = list(islice(content, walker.limits.max_items))
        items = [_content_of(value, index, node) for index, node in enumerate(nodes)]
        return walker.build_list(items, max(len(content), len(items)), level)

    return walker.build_container(value, depth, build)


def _content_of(config: Any, key: Any, node: Any) -> Any:
    cls = type(node)
    if id(cls) in _node_classes or _is_node_class(cls):
        attributes = object.__getattribute__(node, "__dict__")
        if "_val" in attributes:
            content = attributes["_val"]
            if type(content) is not str or not ("${" in content or content == "???"):
                return content
            if "${" in content and _comes_from_environment(config, content):
                return content
        elif type(attributes.get("_content")) in (dict, list):
            return node
    return read_or_mark(functools.partial(type(config).__getitem__, config, key))


def _comes_from_environment(config: Any, text: str, depth: int = 0) -> bool:
    """Whether an interpolation, or one to which it refers, asks for a variable of the environment."""
    if _ENVIRONMENT.search(text) or depth >= _MAX_REFERENCES:  # in doubt it is not resolved
        return True
    if _RESOLVER.search(text) and _mentions_environment(_root_of(config)):
        return True  # a resolver may take any entry as its argument
    contents = (_raw_at(config, reference) for reference in _REFERENCE.findall(text))
    return any(
        type(content) is str and "${" in content and _comes_from_environment(config, content, depth + 1)
        for content in contents
    )


def _mentions_environment(node: Any, depth: int = 0) -> bool:
    """Whether a node, or one inside of it, asks for a variable of the environment."""
    content = _raw_of(node)
    if type(content) is str:
        return _ENVIRONMENT.search(content) is not None
    nodes = list(content.values()) if type(content) is dict else content if type(content) is list else []
    if len(nodes) > _MAX_NODES or depth > _MAX_REFERENCES:
        return True
    return any(_mentions_environment(inner, depth + 1) for inner in nodes)


def _raw_at(config: Any, reference: str) -> Any:
    """Return what stands where an interpolation refers to, not resolved; None if nothing does."""
    dots = len(reference) - len(reference.lstrip("."))
    node = config if dots else _root_of(config)
    for _ in range(dots - 1):
        node = _parent_of(node)
    for key in filter(None, re.split(r"[.\[\]]+", reference)):
        content = _attributes_of(node).get("_content")
        if type(content) is dict:
            node = content.get(key)
        elif type(content) is list and key.isdecimal() and int(key) < len(content):
            node = content[int(key)]
        else:
            return None
    return _raw_of(node)


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
    read = dict_reader(bases_of(type(value)))
    return {} if read is None else read(value)
