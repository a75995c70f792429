"""Configurations are kept whole, whatever they are made of; a field that fails costs itself alone."""

from __future__ import annotations

import argparse
import dataclasses
import json
import types
from collections.abc import Mapping
from typing import Any

import msgspec
import pydantic
import pytest
from omegaconf import OmegaConf
from pydantic import v1 as pydantic_v1
from transformers import BertConfig, GenerationConfig, TrainingArguments

from tests.values.support import ASKING, SUMMARIZER, recorded

MODULE = "tests.values.test_configurations"


# -- each field may fail alone -----------------------------------------------------------------------------


def test_a_key_of_omegaconf_that_cannot_be_resolved_costs_itself_alone() -> None:
    config = OmegaConf.create(
        {
            "lr": 0.1,
            "data": {"root": "${oc.env:FLOWPROV_NOT_SET}", "name": "mnist", "copy": "${.name}"},
            "missing": "???",
            "steps": [1, "${nowhere}", 3],
            "seed": 1,
        }
    )
    form = recorded(config)
    assert form.keys() == {"lr", "data", "missing", "steps", "seed"}
    assert (form["lr"], form["seed"]) == (0.1, 1)
    assert (form["data"]["name"], form["data"]["copy"]) == ("mnist", "mnist")
    assert form["data"]["root"] == "${oc.env:FLOWPROV_NOT_SET}"
    assert "MissingMandatoryValue" in form["missing"]["$read_error"]
    assert (form["steps"][0], form["steps"][2]) == (1, 3)
    assert "nowhere" in form["steps"][1]["$read_error"]


def test_a_configuration_that_is_given_as_it_is_may_hold_such_a_key() -> None:
    config = OmegaConf.create({"lr": 0.1, "root": "${oc.env:FLOWPROV_NOT_SET}", "token": "secret", "seed": 1})
    form = msgspec.json.decode(SUMMARIZER.encode_mapping(config))
    assert (form["lr"], form["seed"], form["token"]) == (0.1, 1, {"$redacted": True})
    assert form["root"] == "${oc.env:FLOWPROV_NOT_SET}"


class Lazy(Mapping[str, Any]):
    """A mapping that computes its values, one of which fails."""

    def __getitem__(self, key: str) -> int:
        if key == "bad":
            raise LookupError("not computed")
        return len(key)

    def __iter__(self) -> Any:
        return iter(["a", "bad", "ccc"])

    def __len__(self) -> int:
        return 3


@dataclasses.dataclass
class WithProperty:
    """A dataclass one of whose fields is a property that raises."""

    lr: float = 0.1
    device: Any = dataclasses.field(init=False, default=None)
    seed: int = 1


def _device(_: object) -> None:
    raise AttributeError("no device")


WithProperty.device = property(_device, lambda _self, _value: None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Lazy(), {"a": 1, "bad": {"$read_error": "LookupError: not computed"}, "ccc": 3}),
        (WithProperty(), {"lr": 0.1, "device": {"$read_error": "AttributeError: no device"}, "seed": 1}),
    ],
    ids=["a mapping", "a property"],
)
def test_fields_of_an_object_that_is_asked_fail_one_by_one(value: Any, expected: Any) -> None:
    assert recorded(value, summarizer=ASKING) == expected


# -- what is not declared ----------------------------------------------------------------------------------


class Open(pydantic.BaseModel):
    """A pydantic model that takes extra fields."""

    model_config = pydantic.ConfigDict(extra="allow")
    lr: float = 0.1


class OldOpen(pydantic_v1.BaseModel):
    """A model of pydantic 1 that takes extra fields."""

    lr: float = 0.1

    class Config:
        """As pydantic 1 wants it."""

        extra = "allow"


@dataclasses.dataclass
class Data:
    """A dataclass that is given more attributes."""

    lr: float = 0.1


class Structured(msgspec.Struct, dict=True):
    """A Struct that is given more attributes."""

    lr: float = 0.1


class Attrs:
    """Declares its fields as attrs does."""

    __attrs_attrs__ = (types.SimpleNamespace(name="lr"),)

    def __init__(self) -> None:
        self.lr = 0.1


def _given_more(value: Any) -> Any:
    value.extra, value.api_key = [1], "secret"
    return value


@pytest.mark.parametrize(
    "value",
    [
        Open(extra=[1], api_key="secret"),  # type: ignore[call-arg]
        OldOpen(extra=[1], api_key="secret"),  # type: ignore[call-arg]
        _given_more(Data()),
        _given_more(Structured()),
        _given_more(Attrs()),
        argparse.Namespace(lr=0.1, extra=[1], api_key="secret"),
    ],
    ids=["pydantic", "pydantic 1", "dataclass", "msgspec", "attrs", "argparse"],
)
def test_extra_attributes_are_kept_and_secrets_among_them_concealed(value: Any) -> None:
    assert recorded(value) == {"lr": 0.1, "extra": [1], "api_key": {"$redacted": True}}


def test_extra_attributes_of_a_transformers_configuration_are_kept() -> None:
    form = recorded(BertConfig(num_hidden_layers=3, my_extra=5, another={"a": 1}))  # type: ignore[call-arg]
    assert (form["num_hidden_layers"], form["my_extra"], form["another"]) == (3, 5, {"a": 1})
    assert "$cut" not in form


# -- size --------------------------------------------------------------------------------------------------


def test_training_arguments_are_kept_whole(tmp_path: Any) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), resume_from_checkpoint="last.pt", hub_token="s")  # noqa: S106
    form = recorded(arguments)
    assert {field.name for field in dataclasses.fields(arguments)} <= form.keys()
    assert form["resume_from_checkpoint"] == "last.pt"
    assert form["hub_token"] == {"$redacted": True}
    assert "$cut" not in form


def _flat() -> dict[str, Any]:
    return {f"parameter_{number}": number / 3 for number in range(1_000)}


def _nested() -> dict[str, Any]:
    return {
        f"group_{group}": {
            f"part_{part}": {f"p{number}": f"value {number}" for number in range(10)} for part in range(10)
        }
        for group in range(10)
    }


def _with_lists() -> dict[str, Any]:
    return {
        f"group_{group}": {"betas": [0.9, 0.999], **{f"p{n}": None for n in range(8)}} for group in range(100)
    }


@pytest.mark.parametrize("make", [_flat, _nested, _with_lists])
@pytest.mark.parametrize(
    "kind",
    [
        dict,
        OmegaConf.create,
        lambda values: argparse.Namespace(**values),
        lambda values: dataclasses.make_dataclass("Made", list(values))(**values),
        lambda values: Open(lr=1, **values),
    ],
    ids=["dict", "omegaconf", "argparse", "dataclass", "pydantic"],
)
def test_a_configuration_of_a_thousand_scalars_is_kept_whole(make: Any, kind: Any) -> None:
    values = make()
    form = recorded(kind(values))
    assert {name: form[name] for name in form if name != "lr"} == values


@pytest.mark.parametrize(
    "huge",
    [
        {f"key{number}": "x" * 5_000 for number in range(1_000)},
        {f"key{number}": "x" * 5_000 for number in range(100_000)},
        {f"group{group}": {f"key{n}": "x" * 900 for n in range(1_000)} for group in range(1_000)},
        {("k" * 500) + str(number): number for number in range(1_000)},
        [{f"key{number}": "x" * 900 for number in range(1_000)}] * 1_000,
        {f"key{number}": {"deep": [["x" * 900] * 100] * 100} for number in range(1_000)},
    ],
    ids=["long strings", "many", "groups", "long keys", "list", "deep"],
)
def test_a_huge_mapping_is_bounded_in_bytes(huge: Any) -> None:
    assert len(SUMMARIZER.encode(huge)) < 1_000_000
    assert len(SUMMARIZER.encode_mapping({"config": huge, "again": huge})) < 2_000_000
    assert len(SUMMARIZER.encode_mapping(huge if isinstance(huge, dict) else {"x": huge})) < 4_000_000


def test_a_large_mapping_of_data_costs_no_more_than_its_beginning() -> None:
    words = {f"word{number}": number for number in range(50_000)}
    form = recorded(words)
    assert len(form) == 101
    assert form["$cut"] == 50_000


def test_scalars_behind_many_objects_are_kept() -> None:
    form = recorded({**{f"object{number}": [number] for number in range(150)}, "lr": 0.1})
    assert form["lr"] == 0.1
    assert len(form) == 102
    assert form["$cut"] == 151


# -- objects with to_dict() --------------------------------------------------------------------------------


class Configuration:
    """A configuration that is no dataclass."""

    def __init__(self) -> None:
        self.lr = 0.1
        self.layers = [64, 64]
        self.hf_token = "secret"  # noqa: S105 - the point of the test
        self._cache = "internal"

    def to_dict(self) -> dict[str, Any]:
        """Fail: it is not called."""
        raise AssertionError


class Slotted(Configuration):
    """Keeps its attributes in slots, one of which is not set."""

    __slots__ = ("depth", "unset")

    def __init__(self) -> None:
        super().__init__()
        self.depth = 3


class Computed:
    """Has no attributes, and nothing but `to_dict()` says what it holds."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what nothing else says."""
        return {"lr": 0.1, "token": "secret"}


class Failing(Computed):
    """Has a `to_dict()` that fails."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Fail."""
        raise ValueError("not now")


class MappingInAllButName:
    """As `ml_collections.ConfigDict`."""

    def __init__(self) -> None:
        self._fields = {"lr": 0.1, "inner": {"seed": 1}}

    def keys(self) -> Any:
        """Return the names."""
        return self._fields.keys()

    def items(self) -> Any:
        """Return names and values."""
        return self._fields.items()

    def __getitem__(self, key: str) -> Any:
        return self._fields[key]

    def __len__(self) -> int:
        return len(self._fields)

    def to_dict(self) -> dict[str, Any]:
        """Fail: it is not called."""
        raise AssertionError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            Configuration(),
            {
                "$type": f"{MODULE}.Configuration",
                "lr": 0.1,
                "layers": [64, 64],
                "hf_token": {"$redacted": True},
            },
        ),
        (
            Slotted(),
            {
                "$type": f"{MODULE}.Slotted",
                "depth": 3,
                "lr": 0.1,
                "layers": [64, 64],
                "hf_token": {"$redacted": True},
            },
        ),
        (Computed(), {"$type": f"{MODULE}.Computed", "lr": 0.1, "token": {"$redacted": True}}),
        (Failing(), {"$type": f"{MODULE}.Failing", "read_error": "ValueError: not now"}),
        (MappingInAllButName(), {"lr": 0.1, "inner": {"seed": 1}}),
    ],
    ids=["attributes", "slots", "computed", "failing", "mapping"],
)
def test_objects_with_to_dict_show_more_than_their_type(value: Any, expected: Any) -> None:
    assert recorded(value, summarizer=ASKING) == expected
    if isinstance(value, Configuration):  # its attributes are stored, so nothing has to be asked
        assert recorded(value) == expected


def test_a_generation_configuration_shows_its_values() -> None:
    form = recorded(GenerationConfig(max_new_tokens=7, temperature=0.5))  # type: ignore[no-untyped-call]
    assert (form["max_new_tokens"], form["temperature"]) == (7, 0.5)


def test_to_dict_of_data_is_never_called() -> None:
    class Dataset:
        def __init__(self) -> None:
            self._rows = ["private"] * 10

        def __len__(self) -> int:
            return 10

        def to_dict(self) -> dict[str, Any]:
            raise AssertionError("it loads everything")

        def __repr__(self) -> str:
            return "Dataset(10 rows)"

    assert recorded(Dataset()) == {"$type": f"{__name__}.{Dataset.__qualname__}"}
    form = recorded(Dataset(), summarizer=ASKING)
    assert form["repr"] == "Dataset(10 rows)"
    assert "private" not in json.dumps(form)


def test_what_refers_to_the_environment_from_another_level_stays_as_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLOWPROV_NOT_SHOWN", "value-of-the-variable")
    inner = {"first": "${.second}", "second": "${oc.env:FLOWPROV_NOT_SHOWN}"}
    written = {"direct": "${inner.first}", "inner": inner, "by_name": "${inner.${name}}", "name": "first"}
    assert recorded(OmegaConf.create(written)) == written


def test_an_interpolation_that_refers_to_a_secret_is_concealed() -> None:
    redacted = {"$redacted": True}
    form = recorded(
        OmegaConf.create(
            {
                "db": {"password": "hunter2", "host": "h", "token": 5, "sibling": "${.password}"},
                "plain": "${db.password}",
                "by_reference": "${plain}",
                "within": ["${db.password}", "mysql://${db.password}@${db.host}", "${db.host}"],
                "by_resolver": "${oc.select:db.password}",
                "all": "${oc.dict.values:db}",
                "number": "${db.token}",
                "unset": "${auth}",
                "auth": None,
            }
        )
    )
    assert form == {
        "db": {"password": redacted, "host": "h", "token": 5, "sibling": redacted},
        "plain": redacted,
        "by_reference": redacted,
        "within": [redacted, redacted, "h"],
        "by_resolver": redacted,
        "all": [redacted, "h", 5, redacted],
        "number": 5,
        "unset": None,
        "auth": None,
    }


def test_references_without_end_cost_little() -> None:
    chain = {f"k{number}": f"${{k{number + 1}}}" * 10 for number in range(100)}
    circle = {"a": "${b}", "b": "${a}", "lr": 0.1}
    assert len(recorded(OmegaConf.create(chain))) == 100
    assert recorded(OmegaConf.create(circle))["lr"] == 0.1


def test_what_comes_from_the_environment_stays_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWPROV_NOT_SHOWN", "value-of-the-variable")
    variable = "${oc.env:FLOWPROV_NOT_SHOWN}"
    written = {
        "plain": variable,
        "by_reference": "${plain}",
        "within": {"relative": "${..plain}", "text": "a-${plain}-b", "known": "${..lr}"},
        "items": [variable, "${items[0]}", "${items.2}", "${lr}"],
        "by_resolver": "${oc.dict.values:within}",
        "decoded": "${oc.decode:${plain}}",
        "whole": "${within}",
        "missing": "???",
        "unknown": "${nowhere}",
        "lr": 0.1,
    }
    found = json.loads(SUMMARIZER.encode({"config": OmegaConf.create(written)}))["config"]
    assert "value-of-the-variable" not in json.dumps(found)
    assert found["plain"] == found["items"][0] == variable
    assert found["by_reference"] == "${plain}"
    assert found["within"]["known"] == found["items"][3] == found["lr"] == 0.1
    assert found["whole"] == found["within"]
    assert "$read_error" in found["missing"]
    assert "$read_error" in found["unknown"]
