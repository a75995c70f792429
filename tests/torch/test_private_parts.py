"""The private parts of torch are where capture looks for them, and capture goes on where one is missing."""

from __future__ import annotations

import ast
import json
import pkgutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from flowprov.capture.torch import _torch_private, backward
from flowprov.capture.torch._torch_private import PARTS, TorchPart
from tests.support import run, tasks
from tests.torch.compiling import anew
from tests.torch.fusing import encoder_layer
from tests.torch.support import Plain, batch

PACKAGE = Path(_torch_private.__file__).parent

_compiler: Any = torch.compiler  # which torch leaves without some types


def optimizer_in_a_scaled_step() -> Any:
    """Return the names that an optimizer has while a GradScaler calls its step."""
    names: list[str] = []
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1, fused=True)
    optimizer.register_step_pre_hook(lambda optimizer, *_: names.extend(dir(optimizer)))
    scaler = torch.amp.GradScaler("cpu")
    loss: Any = scaler.scale(parameter.sum())
    loss.backward()
    scaler.step(optimizer)
    return types.SimpleNamespace(**dict.fromkeys(names))


# Objects that have an attribute which their class alone does not show.
INSTANCES: dict[str, Callable[[], Any]] = {
    "torch.nn.Module": torch.nn.Module,
    "torch.nn.TransformerEncoderLayer": encoder_layer,
    "torch.amp.GradScaler": lambda: torch.amp.GradScaler("cpu"),
    "torch.optim.Optimizer": optimizer_in_a_scaled_step,
    "torch._dynamo.eval_frame.OptimizedModule": lambda: anew(torch.nn.Linear(2, 2)),
    "torch._ops.OpOverload": lambda: torch.ops.aten.mm.default,
    "torch.compile": lambda: torch.compile(lambda: None),
    "function": lambda: _compiler.assume_constant_result(lambda: None),
}


def exists(name: str) -> bool:
    owner, _, attribute = name.rpartition(".")
    if owner in INSTANCES:
        return hasattr(INSTANCES[owner](), attribute)
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def check(part: TorchPart) -> None:
    """Fail if torch no longer has a part, and say what that means."""
    if torch.__version__ < part.seen[0]:
        pytest.skip(f"torch {torch.__version__} is older than {part.name}, which came with {part.seen[0]}")
    names = [part.name] if part.replaced_by is None else [part.name, part.replaced_by]
    if not any(map(exists, names)):
        pytest.fail(
            f"torch {torch.__version__} no longer has {' or '.join(names)}. flowprov uses it to "
            f"{part.used_for}. Where it is missing, {part.if_missing}. It was in {', '.join(part.seen)}.",
            pytrace=False,
        )


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_torch_has_the_part(part: TorchPart) -> None:
    check(part)


def test_a_part_that_moved_is_named_with_its_use_and_what_happens_without_it() -> None:
    part = TorchPart("torch._C._moved", "see that torch traces", "traced forwards are recorded", ("2.4",))
    with pytest.raises(pytest.fail.Exception) as failure:
        check(part)
    assert str(failure.value) == (
        f"torch {torch.__version__} no longer has torch._C._moved. flowprov uses it to see that torch "
        "traces. Where it is missing, traced forwards are recorded. It was in 2.4."
    )


def test_each_part_is_described_once() -> None:
    assert len({part.name for part in PARTS}) == len(PARTS)
    for part in PARTS:
        assert part.used_for
        assert part.if_missing
        assert part.seen


WORDS = {part.name.rpartition(".")[2] for part in PARTS}


def private_words(path: Path) -> set[str]:
    """Find the private parts of torch that a file names: attributes, strings and imports, but no prose."""
    words: set[str] = set()
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            is_private = node.attr.startswith("_") and not node.attr.startswith("__")
            if node.attr in WORDS or (is_private and ast.unparse(node.value).startswith("torch")):
                words.add(node.attr)
        elif isinstance(node, ast.Constant) and node.value in WORDS:
            words.add(str(node.value))
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    return words | {name for name in imported if name.startswith("torch.") and "._" in name}


OTHER_FILES = sorted(path for path in PACKAGE.glob("*.py") if path.name != "_torch_private.py")


@pytest.mark.parametrize("path", OTHER_FILES, ids=lambda path: path.name)
def test_no_other_file_names_a_private_part_of_torch(path: Path) -> None:
    assert private_words(path) == set()


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("torch._C.x()", "_C"),
        ("module._forward_hooks", "_forward_hooks"),
        ('getattr(module, "_orig_mod")', "_orig_mod"),
        ("from torch.utils import _python_dispatch", "torch.utils._python_dispatch"),
        ("import torch.fx._symbolic_trace", "torch.fx._symbolic_trace"),
    ],
)
def test_a_file_that_names_a_private_part_is_found(tmp_path: Path, code: str, word: str) -> None:
    path = tmp_path / "file.py"
    path.write_text(f'"""Prose may name module._forward_hooks."""\n{code}\n')
    assert private_words(path) == {word}


# -- what torch does, where a name alone does not say it ----------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_the_frame_of_a_call_is_behind_the_frame_that_calls_its_hooks(fails: bool) -> None:  # noqa: FBT001 - a parameter
    frames = []

    def before(*_: Any) -> None:
        frames.append((sys._getframe(1), sys._getframe(1).f_back))

    module = torch.nn.Linear(3, 2)
    module.register_forward_pre_hook(before)
    module.register_forward_hook(before, always_call=True)
    for _ in range(2):
        if fails:
            with pytest.raises(RuntimeError, match="shapes"):
                module(torch.ones(1, 9))
        else:
            module(torch.ones(1, 3))
    first_before, first_after, second_before, _ = frames
    why = (
        "torch.nn.Module._call_impl calls hooks in another way: flowprov cannot tell one forward from another"
    )
    assert first_before[1] in first_after, why
    assert first_before[1] is not second_before[1], why


def test_the_flag_of_fx_is_read_where_each_thread_has_its_own(tmp_path: Path) -> None:
    """Torch has it so since 2.14."""
    run(
        """
        import threading, torch, torch.fx
        fx = torch.fx._symbolic_trace
        vars(fx).pop("_is_fx_tracing_flag", None)
        fx._is_fx_tracing_tls = threading.local()
        from flowprov.capture.torch._torch_private import is_traced
        assert not is_traced()
        fx._is_fx_tracing_tls.flag = True
        assert is_traced()
        answers = []
        thread = threading.Thread(target=lambda: answers.append(is_traced()))
        thread.start()
        thread.join()
        assert answers == [False]
        """,
        tmp_path,
    )


# -- without a part -----------------------------------------------------------------------------------------

# Torch itself runs by these, and capture looks at frames, not at the names.
NEVER_MISSING = {"torch.nn.Module._call_impl", "torch.optim.Optimizer.profile_hook_step"}

# Runs a model in a forked child for each part, where the part was missing when flowprov was imported.
WITHOUT = '''
import importlib.util, json, os, pkgutil, sys
import torch, torch.fx, torch.utils.checkpoint, torch.utils.flop_counter

FOLDER = sys.argv[1]
# Capture looks these up at each forward, and torch only while it traces.
LIVE = ("_trace_module_map", "_is_fx_tracing_flag")

def hide(name):
    """Hide a part; return how to show it again, or None if it cannot be hidden."""
    owner, _, word = name.rpartition(".")
    try:
        holder = pkgutil.resolve_name(owner)
        value = getattr(holder, word)
        delattr(holder, word)
    except (ImportError, AttributeError, TypeError):
        return None
    if name in sys.modules:
        sys.modules[name] = None
    def show():
        setattr(holder, word, value)
        if name in sys.modules:
            sys.modules[name] = value
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return show
    return None  # operators come back when they are asked for

def load_private(word):
    """Load the names as they are, but one that torch does not have."""
    name = "flowprov.capture.torch._torch_private"
    spec = importlib.util.spec_from_file_location(name, os.path.join(FOLDER, "_torch_private.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    replaced = False
    for key, value in list(vars(module).items()):
        if value == word and isinstance(value, str):
            setattr(module, key, "_missing_in_torch")
            replaced = True
        elif key in ("WRAPPER_CLASSES", "OPERATORS_WITHOUT_FORMULA"):
            others = type(value)(each for each in value if each.rpartition(":")[2] != word)
            replaced = replaced or others != value
            setattr(module, key, others)
        elif key == "SAME_FORMULA" and word.startswith("_scaled_dot_product_flash_attention"):
            setattr(module, key, {None: None})
            replaced = True
    return replaced

def forward(name):
    word = name.rpartition(".")[2]
    show = hide(name)
    replaced = load_private(word)
    if show is not None and word not in LIVE:
        show()
    assert show is not None or replaced, "the part was not hidden"
    import flowprov
    from flowprov import guard
    everything = {
        "what": "parent_and_children", "children_mode": "tensor_inspection", "tensor_statistics": True,
        "backward": True, "optimizer": "steps_and_gradient_norm",
    }
    flowprov.configure(journal={"path": "buffer-" + word}, instrumentation={"torch": everything})
    model = flowprov.torch_capture(torch.nn.Sequential(torch.nn.Linear(3, 2)), get_profile=True)
    with flowprov.workflow("W"):
        model(torch.ones(4, 3)).sum().backward()
        if "optim" in name or ".amp." in name:  # otherwise it costs the import of the compiler
            torch.optim.SGD(model.parameters(), lr=0.1).step()
    flowprov.torch_release(model)
    rows = flowprov.read_buffer("buffer-" + word, return_df=False)
    forwards = [row["status"] for row in rows if row["subtype"] == "parent_forward"]
    return {"forwards": forwards, "faults": guard.internal_errors()}

results = {}
for name in json.loads(sys.argv[2]):
    receiver, sender = os.pipe()
    if (child := os.fork()) == 0:
        try:
            result = forward(name)
        except BaseException as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        os.write(sender, json.dumps(result).encode())
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as file:
        results[name] = json.loads(file.read() or "null")
    os.waitpid(child, 0)
print(json.dumps(results))
'''


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a forward left where one part was missing, for each part."""
    names = [part.name for part in PARTS if part.name not in NEVER_MISSING]
    printed, _ = run(
        WITHOUT, tmp_path_factory.mktemp("without"), str(PACKAGE), json.dumps(names), timeout=250
    )
    results: dict[str, Any] = json.loads(printed)
    return results


@pytest.mark.soak  # a process for each part
@pytest.mark.parametrize(
    "part", [part for part in PARTS if part.name not in NEVER_MISSING], ids=lambda part: part.name
)
def test_without_the_part_capture_imports_and_a_forward_is_recorded(
    part: TorchPart, without: dict[str, Any]
) -> None:
    assert without[part.name] == {"forwards": ["FINISHED"], "faults": {}}


def test_without_the_execution_engine_a_warning_says_that_no_backward_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backward, "execution_engine", None)
    flowprov.configure(journal={"path": str(tmp_path / "b")}, instrumentation={"torch": {"backward": True}})
    for _ in range(2):
        model = flowprov.torch_capture(Plain())
        model(batch()).sum().backward()
    assert {task.subtype for task in tasks(tmp_path / "b")} == {"parent_forward"}
    assert caplog.text.count("records no backward passes") == 1
