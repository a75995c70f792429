"""The handlers of OmegaConf's containers, without importing OmegaConf.

Flows in: a ``DictConfig`` or ``ListConfig``. Flows out: its content. ``items()`` checks and copies so much
that a configuration of a thousand entries takes 6 ms. So a plain value is taken from the node that holds it.
OmegaConf itself is asked only for interpolations (``${lr}``), whose values depend on the rest, and for what
is missing (``???``).
"""

from __future__ import annotations

import functools
from itertools import islice
from typing import Any

from flowprov.values.classes import bases_of, dict_reader, package_of
from flowprov.values.fields import keep_mapping
from flowprov.values.markers import JSONable, type_name
from flowprov.values.reading import read_or_mark, take
from flowprov.values.walker import Walker

_MAX_CLASSES = 100


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
        elif type(attributes.get("_content")) in (dict, list):
            return node
    return read_or_mark(functools.partial(type(config).__getitem__, config, key))


_node_classes: dict[int, type] = {}  # by id, kept alive here: to hash a class may run code


def _is_node_class(cls: type) -> bool:
    is_node = package_of(cls) == "omegaconf"
    if is_node and len(_node_classes) < _MAX_CLASSES:
        _node_classes[id(cls)] = cls
    return is_node


def _attributes_of(value: object) -> dict[str, Any]:
    read = dict_reader(bases_of(type(value)))
    return {} if read is None else read(value)
