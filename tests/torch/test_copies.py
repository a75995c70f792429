"""Copies of captured models: saved, sent, copied; with flowprov and without it."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from tests.support import clean_environment, run, tasks
from tests.torch.support import Net, Plain, batch, forwards, hooks


def _through_pickle(original: Any) -> Any:
    return pickle.loads(pickle.dumps(original))


def _through_torch_save(original: Any) -> Any:
    file = io.BytesIO()
    torch.save(original, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("through", [copy.deepcopy, _through_pickle, _through_torch_save])
def test_a_copy_computes_the_same_and_is_not_captured(buffer: Path, through: object) -> None:
    assert callable(through)
    model = Net()
    model(batch())
    copied = through(through(model))
    assert torch.equal(copied(batch()), model(batch()))
    assert torch.equal(copied(x=batch()), model(x=batch()))
    assert len(forwards(buffer)) == 3


def test_a_copy_can_fail_and_be_captured_and_be_released(buffer: Path) -> None:
    copied = copy.deepcopy(Net())
    with pytest.raises(RuntimeError):
        copied(torch.ones(1, 99))
    flowprov.torch_capture(copied)
    assert hooks(copied) == 2
    copied(batch())
    assert len(forwards(buffer)) == 1
    again = copy.deepcopy(copied)
    flowprov.torch_release(again)
    assert hooks(again) == 0


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_saved_model_loads_and_runs_where_flowprov_is_not_installed(tmp_path: Path, kind: str) -> None:
    (tmp_path / "users_model.py").write_text(
        textwrap.dedent("""
        import torch
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = torch.nn.Linear(3, 2)
            def forward(self, x):
                return self.linear(x)
        """)
    )
    run(
        f"""
        import pickle, torch, flowprov, users_model
        model = flowprov.torch_capture(users_model.Model())
        model(torch.ones(1, 3))
        if {kind!r} == "pickle":
            pickle.dump(model, open("model", "wb"))
        else:
            torch.save(model, "model")
        """,
        tmp_path,
    )
    code = f"""
import sys
sys.modules["flowprov"] = None
import pickle, torch
load = {{"pickle": lambda: pickle.load(open("model", "rb")),
        "torch": lambda: torch.load("model", weights_only=False)}}[{kind!r}]
model = load()
assert model(torch.ones(4, 3)).shape == model(x=torch.ones(4, 3)).shape == (4, 2)
try:
    model(torch.ones(4, 9))
except RuntimeError as error:
    assert "shapes" in str(error)
pickle.dumps(model)
print(sorted(name for name in sys.modules if name.startswith("flowprov")))
"""
    environment = {name: value for name, value in clean_environment().items() if name != "PYTHONPATH"}
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(tmp_path)},
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip() == "['flowprov']"  # the None that keeps it out
    assert "Warning" not in shown.stderr


def test_a_class_of_the_main_program_travels_by_value_and_is_captured_there(tmp_path: Path) -> None:
    pytest.importorskip("cloudpickle")
    (tmp_path / "worker.py").write_text(
        textwrap.dedent("""
        import pickle, sys
        import flowprov
        flowprov.configure(journal={"path": sys.argv[2]})
        train = pickle.load(open(sys.argv[1], "rb"))
        with flowprov.workflow("on the worker"):
            print(train())
        """)
    )
    run(
        """
        import subprocess, sys
        import cloudpickle, torch, flowprov

        @flowprov.torch_capture(name="traveller")
        class Model(torch.nn.Module):
            def __init__(self, width, **others):
                super().__init__()
                self.linear = torch.nn.Linear(width, 2)
            def forward(self, x):
                return self.linear(x)

        @flowprov.torch_capture
        class Bare(torch.nn.Module):
            def forward(self, x):
                return x

        def train():
            model = Model(3, custom_metadata={"trial": 1})
            assert type(model) is Model and model.__init__.__func__ is Model.__init__
            Bare()(model(torch.ones(4, 3)))
            flowprov.torch_release(Model)
            return model.state_dict().keys() == Model(3).state_dict().keys()

        if __name__ == "__main__":
            Model(3)(torch.ones(1, 3))  # the class travels with whatever a use leaves in it
            with open("function", "wb") as file:
                cloudpickle.dump(train, file)
            shown = subprocess.run([sys.executable, "worker.py", "function", "there"],
                                   capture_output=True, text=True)
            assert shown.returncode == 0, shown.stderr
            assert shown.stdout.strip() == "True", shown.stdout
        """,
        tmp_path,
    )
    found = forwards(tmp_path / "there")
    assert [each.activity_id for each in found] == ["traveller", "Bare"]
    assert found[0].custom_metadata is not None
    assert found[0].custom_metadata["trial"] == 1


def test_an_instance_travels_by_value_as_a_plain_model(buffer: Path) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")

    class Local(Plain): ...

    model = flowprov.torch_capture(Local)()
    copied = pickle.loads(cloudpickle.dumps(model))
    assert torch.equal(copied(batch()), model(batch()))
    assert len(forwards(buffer)) == 1


@pytest.mark.parametrize("through", [copy.deepcopy, _through_pickle, _through_torch_save])
def test_a_trainer_is_copied_and_saved_in_the_middle_of_its_step(buffer: Path, through: object) -> None:
    everything = {
        "what": "parent_and_children",
        "backward": True,
        "optimizer": "steps_and_gradient_norm",
        "tensor_statistics": True,
    }
    flowprov.configure(journal={"path": str(buffer)}, instrumentation={"torch": everything})
    assert callable(through)
    with flowprov.workflow("W") as wf:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        epochs = flowprov.EpochLoop(1, model)
        for _ in epochs:
            for _ in (batches := flowprov.BatchLoop([batch()], epochs)):
                loss = model(batch()).sum()
                trainer = {"model": model, "optimizer": optimizer, "loops": (epochs, batches), "workflow": wf}
                copied = through(trainer)
                recorded = len(forwards(buffer))
                copied["model"](batch())
                assert len(list(copied["loops"][1])) == 1
                assert copied["loops"][0].model is copied["model"]
                assert len(forwards(buffer)) == recorded
                loss.backward()
                optimizer.step()
    statuses = {task.status for task in tasks(buffer)}
    assert statuses == {"FINISHED"}
