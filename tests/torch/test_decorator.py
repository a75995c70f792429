"""Capture on classes and instances: what stays as it was, and which options a constructor takes."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from flowprov.errors import MissingExtraError, SettingsError, UsageError
from tests.support import only, run
from tests.torch.support import Net, Plain, batch, forwards, hooks, metadata, openings


def _all_options(**others: Any) -> dict[str, Any]:
    """Return every option that the constructor of a captured model takes."""
    return {
        "parent_task_id": "t",
        "parent_workflow_id": "w",
        "campaign_id": "c",
        "custom_metadata": {"a": 1},
        "get_profile": False,
        "save_workflow": True,
        "capture_enabled": True,
        **others,
    }


# -- identity -----------------------------------------------------------------------------------------------


def test_the_class_stays_the_same_class(buffer: Path) -> None:
    class Model(Plain):
        """What it says."""

    before = (Model.__name__, Model.__qualname__, Model.__module__, Model.__doc__, Model.__mro__)
    assert flowprov.torch_capture(Model) is Model
    assert flowprov.torch_capture(name="other")(Model) is Model
    assert before == (Model.__name__, Model.__qualname__, Model.__module__, Model.__doc__, Model.__mro__)
    assert type(Model()) is Model
    assert repr(Model()) == repr(Plain()).replace("Plain", "Model")
    assert inspect.signature(Model) == inspect.signature(Plain)


def test_a_captured_model_has_the_state_and_parts_of_a_plain_one(buffer: Path) -> None:
    plain, captured = Plain(), Net()
    assert captured.state_dict().keys() == plain.state_dict().keys()
    assert vars(captured).keys() == vars(plain).keys()
    assert [name for name, _ in captured.named_modules()] == [name for name, _ in plain.named_modules()]
    assert [name for name, _ in captured.named_buffers()] == [name for name, _ in plain.named_buffers()]
    captured.load_state_dict(plain.state_dict())


def test_an_instance_that_is_wrapped_stays_the_same_object(buffer: Path) -> None:
    model = Plain()
    before = {**vars(model)}
    assert flowprov.torch_capture(model, name="mine") is model
    assert vars(model) == before
    model(batch())
    assert only(forwards(buffer)).activity_id == "mine"
    assert only(openings(buffer)).name == "mine"


def test_capturing_twice_captures_once(buffer: Path) -> None:
    model = flowprov.torch_capture(flowprov.torch_capture(Net()))
    model(batch())
    assert hooks(model) == 2
    assert len(forwards(buffer)) == len(openings(buffer)) == 1


@pytest.mark.parametrize("wrong", [3, int, "model", lambda x: x])
def test_anything_but_a_model_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"takes a class or an instance of torch\.nn\.Module"):
        flowprov.torch_capture(wrong)


@pytest.mark.parametrize(
    "wrong", [{"what": "everything"}, {"depth": 0}, {"children_mode": "some"}, {"include": "encoder.*"}]
)
def test_an_option_with_a_wrong_value_is_refused_with_what_was_expected(wrong: dict[str, Any]) -> None:
    with pytest.raises(
        UsageError, match=f"{next(iter(wrong))} must be .*, not {next(iter(wrong.values()))!r}"
    ):
        flowprov.torch_capture(Plain, **wrong)


def test_settings_that_cannot_be_used_stop_the_construction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWPROV__INSTRUMENTATION__TORCH__WHAT", "nonsense")
    with pytest.raises(SettingsError):
        Net()


def test_without_torch_the_error_names_what_to_install(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["torch"] = None
import flowprov
try:
    flowprov.torch_capture
except ImportError as error:
    print(type(error).__name__, error)
"""
    printed, _ = run(code, tmp_path)
    assert printed.startswith(MissingExtraError.__name__)
    assert 'pip install "flowprov[torch]"' in printed


# -- options of the constructor ----------------------------------------------------------------------------


def test_options_of_capture_are_taken_out_before_the_users_init(buffer: Path) -> None:
    class Model(Plain):
        def __init__(self, width: int, **others: Any) -> None:
            super().__init__(width)
            self.seen = others

    model: Any = flowprov.torch_capture(Model)(3, **_all_options(), mine=1)
    assert model.seen == {"mine": 1}


def test_a_class_without_an_init_takes_the_options_too(buffer: Path) -> None:
    @flowprov.torch_capture
    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    build: Any = Model
    model = build(**_all_options())
    model(batch())
    assert only(forwards(buffer)).parent_task_id == "t"
    with pytest.raises(TypeError, match="mine"):
        build(mine=1)


def test_options_that_the_signature_names_are_passed_on_as_well(buffer: Path) -> None:
    class Model(Plain):
        def __init__(self, parent_task_id: str, custom_metadata: Any = None, *, tag: str = "") -> None:
            super().__init__()
            self.seen = (parent_task_id, custom_metadata, tag)

    build: Any = flowprov.torch_capture(Model)
    model = build("positional", custom_metadata={"a": 1}, tag="t", save_workflow=False)
    assert model.seen == ("positional", {"a": 1}, "t")
    model(batch())
    forward = only(forwards(buffer))
    assert forward.parent_task_id == "positional"
    assert metadata(forward)["a"] == 1


def test_a_default_in_the_users_signature_holds(buffer: Path) -> None:
    class Model(Plain):
        def __init__(self, *, capture_enabled: bool = False) -> None:  # noqa: ARG002 - read by capture
            super().__init__()

    build: Any = flowprov.torch_capture(Model)
    assert hooks(build()) == 0
    assert hooks(build(capture_enabled=True)) == 2


def test_wrong_arguments_raise_what_python_raises(buffer: Path) -> None:
    build: Any = Net
    with pytest.raises(TypeError, match="nonsense"):
        build(nonsense=1)

    class Model(Plain):
        def __init__(self, custom_metadata: Any) -> None: ...

    with pytest.raises(TypeError, match="custom_metadata"):
        flowprov.torch_capture(Model)()  # type: ignore[call-arg]


def test_an_init_that_raises_leaves_nothing(buffer: Path) -> None:
    class Model(Plain):
        def __init__(self, fail: bool) -> None:  # noqa: FBT001 - as short as it can be
            super().__init__()
            if fail:
                raise ValueError("no such width")

    flowprov.torch_capture(Model)
    with pytest.raises(ValueError, match="no such width"):
        Model(True)
    assert openings(buffer) == []
    assert hooks(Model(False)) == 2


def test_custom_metadata_that_is_no_mapping_is_kept(buffer: Path) -> None:
    build: Any = Net
    build(custom_metadata="a note")(batch())
    assert only(openings(buffer)).custom_metadata == {"custom_metadata": "a note"}


# -- subclasses ---------------------------------------------------------------------------------------------


class Inherits(Net):
    """A subclass that adds nothing to the construction."""


class Extends(Net):
    """A subclass that is complete only after the decorated __init__."""

    def __init__(self, *, extra: int = 1, **others: Any) -> None:
        super().__init__(**others)
        self.more = torch.nn.Linear(2, extra)

    def forward(self, x: torch.Tensor) -> Any:
        """Compute."""
        return self.more(super().forward(x))


@flowprov.torch_capture(name="again")
class Decorated(Extends):
    """A subclass that is decorated as well."""

    def __init__(self) -> None:
        super().__init__(custom_metadata={"from": "the subclass"}, get_profile=True)


def test_a_subclass_is_captured_once_under_its_own_name(buffer: Path) -> None:
    for cls in (Inherits, Extends):
        model = cls()
        assert hooks(model) == 2
        model(batch())
    assert [each.activity_id for each in forwards(buffer)] == ["Inherits", "Extends"]
    assert [each.name for each in openings(buffer)] == ["Inherits", "Extends"]


def test_a_subclass_that_goes_on_building_is_described_when_it_is_complete(buffer: Path) -> None:
    with flowprov.workflow("W", workflow_id="w"):
        with flowprov.task_scope("build"):
            model = Extends(extra=5, get_profile=True)
        assert openings(buffer) == []
        model(batch())
    opening = only(openings(buffer))
    assert opening.custom_metadata["model_profile"]["params"] == 8 + 15
    assert opening.parent_workflow_id == "w"


def test_a_subclass_that_is_decorated_again_is_captured_once(buffer: Path) -> None:
    model = Decorated()
    assert hooks(model) == 2
    model(batch())
    opening = only(openings(buffer))
    assert opening.name == "again"
    assert opening.custom_metadata["from"] == "the subclass"
    assert opening.custom_metadata["model_profile"]["params"] == 8 + 3
    assert only(forwards(buffer)).activity_id == "again"


def test_the_order_of_constructors_stays_as_it_was(buffer: Path) -> None:
    class Left(torch.nn.Module): ...

    class Right(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.right = True

    class Both(Left, Right): ...

    flowprov.torch_capture(Left)
    assert Both().right
    assert hooks(Both()) == 2


def test_models_that_a_model_builds_are_captured_too(buffer: Path) -> None:
    @flowprov.torch_capture
    class Pair(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = Net(), Net()

        def forward(self, x: torch.Tensor) -> Any:
            return self.left(x) + self.right(x)

    Pair()(batch())
    assert [each.name for each in openings(buffer)] == ["Pair", "Net", "Net"]
    left, right, pair = forwards(buffer)
    assert left.parent_task_id == right.parent_task_id == pair.task_id


# -- release ------------------------------------------------------------------------------------------------


def test_release_takes_capture_off_an_instance_without_a_trace(buffer: Path) -> None:
    model = Plain()
    before = {name: repr(value) for name, value in vars(model).items()}
    state = {**model.state_dict()}
    flowprov.torch_capture(model)
    model(batch())
    flowprov.torch_release(model)
    assert {name: repr(value) for name, value in vars(model).items()} == before
    assert model.state_dict().keys() == state.keys()
    model(batch())
    assert len(forwards(buffer)) == 1
    flowprov.torch_release(model)


def test_release_leaves_the_hooks_of_the_program(buffer: Path) -> None:
    model, calls = Plain(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    flowprov.torch_release(flowprov.torch_capture(model))
    model(batch())
    assert calls == [1]


def test_release_gives_a_class_its_init_back(buffer: Path) -> None:
    class Own(Plain):
        def __init__(self) -> None:
            super().__init__()

    class Without(Plain): ...

    own = Own.__init__
    for cls in (Own, Without):
        flowprov.torch_capture(flowprov.torch_capture(cls))
        flowprov.torch_release(cls)
        flowprov.torch_release(cls)
        assert hooks(cls()) == 0
    assert Own.__init__ is own
    assert "__init__" not in vars(Without)


def test_release_of_a_subclass_leaves_its_base_alone(buffer: Path) -> None:
    flowprov.torch_release(Inherits)
    assert hooks(Inherits()) == hooks(Net()) == 2


def test_a_model_can_be_captured_again_after_release(buffer: Path) -> None:
    model = Net()
    model(batch())
    flowprov.torch_release(model)
    model(batch())
    flowprov.torch_capture(model)
    model(batch())
    assert len(forwards(buffer)) == 2
    assert len(openings(buffer)) == 2
