"""Interpolations of OmegaConf: most are resolved without it, to the same value, and all within the time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, Optional

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from flowprov.values import Limits, Summarizer, budget, mappings
from flowprov.values import omegaconf as own
from tests.values.support import SUMMARIZER, recorded

HURRIED = Summarizer(Limits(max_seconds=0.03))
KEYS = ("a", "b", "a-b", "1", "é", "null", "x.y")
UNHURRIED = Summarizer(Limits(max_seconds=60))

PATHS = st.lists(st.sampled_from((*KEYS, "0", "-1")), min_size=1, max_size=3)
REFERENCES = st.builds(
    lambda dots, path, bracket: "${" + dots + path[0] + "".join(bracket % name for name in path[1:]) + "}",
    st.sampled_from(("", "", ".", "..", "...")),
    PATHS,
    st.sampled_from((".%s", "[%s]")),
)
TEXTS = st.lists(
    REFERENCES | st.sampled_from(("", "x", " ", "/", "$", "\\", "\\\\", "${", "}", "${oc.decode:1}", "???")),
    min_size=1,
    max_size=3,
).map("".join)
LEAVES = TEXTS | REFERENCES | st.sampled_from((1, 0.5, 1e-05, True, None, "1", b"x", float("inf")))
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)


def _nodes(config: Any) -> list[tuple[Any, Any, Any]]:
    """Return all nodes that hold text, each with its container and key."""
    content = config._content
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    found: list[tuple[Any, Any, Any]] = []
    for key, node in pairs:
        if isinstance(node, (DictConfig, ListConfig)):
            found += _nodes(node) if isinstance(node._content, (dict, list)) else []
        elif isinstance(node._val, str):
            found.append((config, key, node))
    return found


@given(st.dictionaries(st.sampled_from(KEYS), TREES, min_size=1, max_size=5))
def test_what_is_resolved_without_omegaconf_is_what_omegaconf_says(tree: dict[str, Any]) -> None:
    try:
        config = OmegaConf.create(tree)
    except Exception:  # OmegaConf parses what is written, and refuses some of it
        return
    for container, key, node in _nodes(config):
        found = own._resolved(container, node, [])
        if found is not own._UNRESOLVED:
            assert (type(found), found) == (type(container[key]), container[key])


SECRET = "hunter2-of-the-test"  # noqa: S105 - of nobody
NAMES = ("a", "b", "list", "db", "password", "api_key")
PLACES = st.sampled_from(
    (
        "password",
        "db.password",
        "a.password",
        "db.a.api_key",
        "a",
        "b",
        "list.0",
        "list.-1",
        "db",
        "a.b",
        "b.a",
    )
)
LEADING = st.builds(
    lambda form, dots, place: form % (dots + place),
    st.sampled_from(
        (
            "${%s}",
            "${ %s }",
            "p-${%s}",
            "${oc.select:%s}",
            "${oc.decode:${%s}}",
            "${${%s}}",
            "${db.${%s}}",
            "%s",
        )
    ),
    st.sampled_from(("", "", ".", "..")),
    PLACES,
)
WITH_SECRETS = st.recursive(
    LEADING,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4).map(
            lambda entries: {
                name: SECRET if name in ("password", "api_key") else entry for name, entry in entries.items()
            }
        )
    ),
    max_leaves=15,
)


@given(st.dictionaries(st.sampled_from(NAMES[:3]), WITH_SECRETS, min_size=1))
def test_no_interpolation_shows_what_is_concealed_under_its_own_name(tree: dict[str, Any]) -> None:
    tree |= {"password": SECRET, "db": {"password": SECRET, "a": {"api_key": SECRET}}}
    try:
        config = OmegaConf.create(tree)
    except OmegaConfBaseException:
        return
    for encoded in (SUMMARIZER.encode(config), SUMMARIZER.encode_mapping(config)):
        assert SECRET not in encoded.decode()


@pytest.mark.parametrize(
    "text",
    [
        "${a.password}",  # a is another interpolation
        "${1.password}",  # a key that is a number
        "${items.-1.password}",
        "${${name}}",
        "${oc.select:${name}}",
        "${oc.select:a.password}",
        "${db.${kind}}",
        "${b.x}",  # which leads to the password in its turn
        "${d.x}",  # inside of what is named like a secret
        "p-${d.x}",
        "${oc.select:d.x}",
    ],
)
def test_what_leads_to_a_secret_in_a_roundabout_way_does_not_show_it(text: str) -> None:
    config = OmegaConf.create(
        {
            "db": {"password": SECRET, "user": "me"},
            "a": "${db}",
            1: {"password": SECRET},
            "items": [{"password": SECRET}],
            "name": "db.password",
            "kind": "password",
            "b": "${c}",
            "c": {"x": "${db.password}"},
            "credentials": {"x": SECRET},
            "d": "${credentials}",
            "lr": text,
        }
    )
    assert SECRET not in SUMMARIZER.encode(config).decode()
    assert recorded(config)["a"] == {"password": {"$redacted": True}, "user": "me"}


@pytest.mark.parametrize("text", ["${a.key}", "${1.key}", "${items.-1.key}", "${${name}}"])
def test_what_leads_to_the_environment_in_a_roundabout_way_stays_as_it_is_written(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWPROV_OF_THE_TEST", SECRET)
    variable = {"key": "${oc.env:FLOWPROV_OF_THE_TEST}"}
    config = OmegaConf.create(
        {"env": variable, "a": "${env}", 1: variable, "items": [variable], "name": "env.key", "lr": text}
    )
    assert recorded(config)["lr"] == text
    assert SECRET not in SUMMARIZER.encode(config).decode()


def test_plain_references_are_resolved_without_omegaconf(monkeypatch: pytest.MonkeyPatch) -> None:
    config = OmegaConf.create(
        {
            "lr": 0.1,
            "root": "/data",
            "names": ["a", "b"],
            "chain": "${train.rate}",
            "train": {"rate": "${lr}", "path": "${root}/${names.1}-${names[0]}", "near": "${.rate}"},
        }
    )

    def refuse(*_: Any) -> None:
        raise AssertionError("OmegaConf was asked")

    monkeypatch.setattr(DictConfig, "__getitem__", refuse)
    form = recorded(config)
    assert form["chain"] == form["train"]["near"] == form["train"]["rate"] == 0.1
    assert form["train"]["path"] == "/data/b-a"


def _wait() -> int:
    deadline = time.thread_time() + 0.05
    while time.thread_time() < deadline:
        pass
    return 1


@dataclasses.dataclass
class Declared:
    """A structured configuration, whose nodes convert what they get."""

    rate: float = 0.1
    steps: int = 3
    name: str = "x"
    debug: bool = True
    same: Any = None
    path: str = "${name}/${steps}"
    float_of_float: float = "${rate}"  # type: ignore[assignment]
    float_of_int: float = "${steps}"  # type: ignore[assignment]
    text_of_float: str = "${rate}"
    text_of_text: str = "${name}"
    int_of_int: int = "${steps}"  # type: ignore[assignment]
    int_of_bool: int = "${debug}"  # type: ignore[assignment]
    int_of_text: int = "${name}"  # type: ignore[assignment]
    bool_of_bool: bool = "${debug}"  # type: ignore[assignment]
    bool_of_int: bool = "${steps}"  # type: ignore[assignment]
    none: str = "${same}"
    optional: Optional[str] = "${same}"  # noqa: UP045 - as OmegaConf reads it in Python 3.10


def test_what_is_missing_is_recorded_as_omegaconf_says_it() -> None:
    config = OmegaConf.create({"lr": "???", "list": ["???"]})
    form = recorded(config)
    with pytest.raises(MissingMandatoryValue) as raised:
        config["lr"]
    expected = f"omegaconf.errors.MissingMandatoryValue: {raised.value}"
    assert expected.startswith(form["lr"]["$read_error"])
    assert "MissingMandatoryValue" in form["list"][0]["$read_error"]


def test_what_a_node_converts_is_converted_by_omegaconf() -> None:
    config = OmegaConf.structured(Declared)
    form = recorded(config)
    for name in config:
        try:
            assert (name, type(form[name]), form[name]) == (name, type(config[name]), config[name])
        except OmegaConfBaseException:  # noqa: PERF203 - each has its own
            assert "$read_error" in form[name]
    resolved = {
        key for _, key, node in _nodes(config) if own._resolved(config, node, []) is not own._UNRESOLVED
    }
    assert resolved == {"name", "path", "float_of_float", "text_of_text", "int_of_int", "bool_of_bool"}


@pytest.mark.parametrize("give", [dict, lambda entries: entries["config"]], ids=["within", "itself"])
def test_a_slow_resolver_takes_no_time_from_what_a_configuration_holds(
    give: Callable[[dict[str, Any]], Any],
) -> None:
    OmegaConf.register_new_resolver("flowprov_wait", _wait, replace=True)
    slow = {f"slow{number}": "${flowprov_wait:}" for number in range(5)}
    config = OmegaConf.create({**slow, **{f"key{number}": number for number in range(50)}})
    form = msgspec.json.decode(HURRIED.encode_mapping(give({"config": config})))
    assert form.pop("$budget") == "time"
    entries = form.get("config", form)
    assert [entries[name] for name in slow] == [1, *["${flowprov_wait:}"] * 4]
    assert [entries[f"key{number}"] for number in range(50)] == list(range(50))


@pytest.mark.parametrize("text", ["${lr}", "${oc.decode:1}"], ids=["reference", "resolver"])
@pytest.mark.parametrize("give", [dict, lambda entries: entries["config"]], ids=["within", "itself"])
def test_a_configuration_for_which_there_is_no_time_shows_what_is_written(
    monkeypatch: pytest.MonkeyPatch, text: str, give: Callable[[dict[str, Any]], Any]
) -> None:
    monkeypatch.setattr(budget, "_PART_APART", 1e-12)
    config = OmegaConf.create({"lr": 0.1, **{f"key{number}": text for number in range(50)}})
    form = msgspec.json.decode(UNHURRIED.encode_mapping(give({"config": config})))
    assert form.pop("$budget") == "time"
    entries = form.get("config", form)
    assert entries["lr"] == 0.1
    assert entries["key49"] == text


def test_a_configuration_of_hundreds_of_references_is_kept_whole() -> None:
    config = OmegaConf.create({"lr": 0.1, **{f"key{number}": "${lr}" for number in range(900)}})
    assert set(recorded(config).values()) == {0.1}
    assert set(msgspec.json.decode(SUMMARIZER.encode_mapping(config)).values()) == {0.1}


def test_the_entries_of_a_configuration_are_resolved_while_there_is_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = OmegaConf.create({"lr": 0.1, **{f"key{number}": "${lr}" for number in range(200)}})
    assert set(_values(config).values()) == {0.1}
    monkeypatch.setattr(mappings, "_RESOLVING_S", 1e-9)
    assert _values(config)["key100"] == "${lr}"


def _values(config: Any) -> Mapping[Any, Any]:
    return mappings.as_mapping(config, "value")
