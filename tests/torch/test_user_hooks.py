"""Hooks of the program run in their order, beside those of capture, and may change inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.modules import module as module_hooks

import flowprov
from tests.support import only, run
from tests.torch.support import Plain, batch, children, forwards, summary

OPTIONS: list[dict[str, Any]] = [
    {},
    {"what": "parent_and_children", "depth": "all", "children_mode": "tensor_inspection"},
]


def _log_all(model: torch.nn.Module, log: list[str], name: str) -> list[Any]:
    """Put one hook of each kind on a module."""

    def note(kind: str) -> Any:
        return lambda *_: log.append(f"{name} {kind}")

    return [
        model.register_forward_pre_hook(note("before")),
        model.register_forward_pre_hook(note("before, keywords"), with_kwargs=True),
        model.register_forward_pre_hook(note("before, first"), prepend=True),
        model.register_forward_hook(note("after")),
        model.register_forward_hook(note("after, keywords"), with_kwargs=True),
        model.register_forward_hook(note("after, always"), always_call=True),
        model.register_forward_hook(note("after, first"), prepend=True),
        model.register_full_backward_pre_hook(note("before backward")),
        model.register_full_backward_hook(note("after backward")),
        model.register_full_backward_hook(note("after backward, first"), prepend=True),
    ]


@pytest.fixture
def global_hooks() -> Iterator[list[str]]:
    """Hooks on all modules, and what they saw."""
    log: list[str] = []

    def note(kind: str) -> Any:
        return lambda module, *_: log.append(f"global {kind} {type(module).__name__}")

    handles = [
        module_hooks.register_module_forward_pre_hook(note("before")),
        module_hooks.register_module_forward_hook(note("after")),
        module_hooks.register_module_forward_hook(note("always"), always_call=True),
        module_hooks.register_module_full_backward_hook(note("backward")),
    ]
    yield log
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("when", ["before", "after", "between"])
def test_hooks_of_every_kind_fire_in_the_order_they_have_without_capture(
    buffer: Path, global_hooks: list[str], options: dict[str, Any], when: str
) -> None:
    log = global_hooks
    seen: list[Any] = []
    for captures in (False, True):
        torch.manual_seed(0)
        model, x = Plain(), torch.randn(4, 3, requires_grad=True)
        if when == "before":
            _log_all(model, log, "model")
            _log_all(model.linear, log, "linear")
        if captures:
            flowprov.torch_capture(model, **options)
        if when == "between":
            model(x)
        if when != "before":
            _log_all(model, log, "model")
            _log_all(model.linear, log, "linear")
        log.clear()
        with flowprov.workflow("W"):
            model(x).sum().backward()
            with pytest.raises(RuntimeError, match="shapes"):
                model(torch.ones(2, 7))
        seen.append([list(log), x.grad])
    (without, gradient), (with_capture, found_gradient) = seen
    assert with_capture == without
    assert "linear after backward" in without
    assert torch.equal(gradient, found_gradient)
    assert len(forwards(buffer)) == (3 if when == "between" else 2)


@pytest.mark.parametrize("options", OPTIONS)
def test_hooks_that_are_removed_by_their_handles_fire_no_more(buffer: Path, options: dict[str, Any]) -> None:
    log: list[str] = []
    model = Plain()
    handles = [*_log_all(model, log, "model"), *_log_all(model.linear, log, "linear")]
    flowprov.torch_capture(model, **options)
    with flowprov.workflow("W"):
        model(batch())
        assert log
        for handle in handles:
            handle.remove()
        log.clear()
        model(batch())
        flowprov.torch_release(model)
    assert log == []
    assert len(forwards(buffer)) == 2
    for module in model.modules():
        for name in vars(module):
            assert "_hooks" not in name or not getattr(module, name), name


@pytest.mark.parametrize(("registered", "rows_used", "rows_generated"), [("before", 2, 1), ("after", 4, 2)])
def test_a_record_holds_what_reaches_the_hooks_of_capture_among_hooks_that_change_it(
    buffer: Path, registered: str, rows_used: int, rows_generated: int
) -> None:
    """Hooks that were put on before capture have run by then; those put on later have not."""
    model = Plain()

    def register() -> None:
        model.register_forward_pre_hook(lambda _, args: (args[0][:2],))
        model.register_forward_hook(lambda *arguments: arguments[2][:1])

    if registered == "before":
        register()
    flowprov.torch_capture(model)
    if registered == "after":
        register()
    with flowprov.workflow("W"):
        assert model(batch()).shape == (1, 2)
    forward = only(forwards(buffer))
    assert forward.used == {"x": summary(rows_used, 3)}
    assert forward.generated == {"output": summary(rows_generated, 2)}


def test_a_hook_that_raises_leaves_the_other_records_right(buffer: Path) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("of the program")

    model = flowprov.torch_capture(Plain(), what="parent_and_children")
    with flowprov.workflow("W"):
        model(batch())
        handle = model.linear.register_forward_hook(refuse)
        with pytest.raises(ValueError, match="of the program"):
            model(batch())
        handle.remove()
        model(batch())
    assert [task.status for task in forwards(buffer)] == ["FINISHED", "ERROR", "FINISHED"]
    # The hook of capture on the child ran before, when the child returned.
    assert [task.status for task in children(buffer)] == ["FINISHED"] * 3


def test_hooks_put_on_a_loaded_model_are_called_with_their_own_arguments(tmp_path: Path) -> None:
    run(
        """
        import torch, flowprov
        model = flowprov.torch_capture(torch.nn.Sequential(torch.nn.Linear(3, 2)), what="parent_and_children")
        model(torch.ones(1, 3))
        torch.save(model, "model")
        """,
        tmp_path,
    )
    code = """
        import sys
        sys.modules["flowprov"] = None
        import torch
        model = torch.load("model", weights_only=False)
        seen = []
        for module in model.modules():
            for _ in range(8):
                module.register_forward_hook(lambda module, args, output: seen.append("after"))
        for module in model.modules():
            for _ in range(8):
                module.register_forward_pre_hook(lambda module, args: seen.append("before"))
        model(torch.ones(1, 3))
        assert seen == ["before"] * 16 + ["after"] * 16, seen
        """
    run(code, tmp_path)
