"""Training with parent, children and tensor inspection: the same numbers, to the bit, as without."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import flowprov
from flowprov.runtime import context
from tests.torch.support import Plain, batch, children, forwards, metadata, open_scopes, paths

ALL: dict[str, Any] = {
    "what": "parent_and_children",
    "depth": "all",
    "children_mode": "telemetry_and_tensor_inspection",
}


class Net(torch.nn.Module):
    """A model with dropout, normalization, a buffer, and children that may be checkpointed."""

    def __init__(self, checkpointed: bool | None = None) -> None:  # noqa: FBT001 - whether reentrant
        super().__init__()
        self.first = torch.nn.Sequential(
            torch.nn.Linear(3, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3)
        )
        self.second = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.GELU(), torch.nn.Dropout(0.3))
        self.head = torch.nn.Linear(16, 2)
        self.checkpointed = checkpointed

    def forward(self, x: torch.Tensor) -> Any:
        """Compute."""
        x = self.first(x)
        if self.checkpointed is None:
            x = self.second(x)
        else:
            x = checkpoint(self.second, x, use_reentrant=self.checkpointed)
        return self.head(x)


def _train(optimizer_class: Any, *, captures: bool, amp: bool, steps: int, reentrant: bool | None) -> Any:
    torch.manual_seed(0)
    model: torch.nn.Module = Net(reentrant)
    if captures:
        flowprov.torch_capture(model, get_profile=True, **ALL)
    optimizer = optimizer_class(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", enabled=amp, init_scale=4.0, growth_interval=3)
    outputs = []
    for _ in flowprov.EpochLoop(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
            output = model(torch.randn(8, 3))
            loss = output.square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        outputs.append(output.detach())
    moments = [value for state in optimizer.state.values() for value in state.values()]
    gradients = [each.grad for each in model.parameters()]
    state = list(model.state_dict().values())
    tensors = [*outputs, *moments, *gradients, *state, torch.get_rng_state()]
    return tensors, scaler.state_dict(), list(model.state_dict())


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("reentrant", [None, False, True])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_twenty_steps_give_the_same_to_the_bit(
    buffer: Path,
    optimizer: Any,
    amp: bool,  # noqa: FBT001 - a parameter
    reentrant: bool | None,  # noqa: FBT001 - as above
) -> None:
    steps = 20
    expected, scaler, keys = _train(optimizer, captures=False, amp=amp, steps=steps, reentrant=reentrant)
    with flowprov.workflow("W"):
        found, found_scaler, found_keys = _train(
            optimizer, captures=True, amp=amp, steps=steps, reentrant=reentrant
        )
    assert (found_scaler, found_keys) == (scaler, keys)
    assert len(found) == len(expected)
    for left, right in zip(expected, found, strict=True):
        assert torch.equal(torch.as_tensor(left), torch.as_tensor(right))
    inner = children(buffer)
    again = [task for task in inner if metadata(task).get("recomputed")]
    # A checkpoint that is not reentrant stops as soon as it has what backward needs.
    recomputed = {None: set(), True: {"second", "second.0", "second.1", "second.2"}}.get(reentrant)
    assert recomputed is None or set(paths(again)) == recomputed
    assert len(inner) - len(again) == steps * 9
    assert {metadata(task).get("autocast_dtype") for task in inner if task not in again} == {
        "bfloat16" if amp else None
    }
    assert len(forwards(buffer)) == steps
    assert open_scopes() == 0


# Files of flowprov, and files of torch that keep something for its hooks.
_FILES = ("*/flowprov/*", "*/torch/nn/*", "*/torch/utils/*")


def _grows(forwards_each: int) -> tuple[int, int]:
    """Return how many scopes and bytes more there are after many forwards than after half of them.

    Other tests may have left threads of other libraries, which allocate as well.
    """
    model, x = flowprov.torch_capture(Plain(), **ALL), batch(1)

    def many() -> tuple[int, int]:
        with torch.no_grad():
            for _ in range(forwards_each):
                model(x)
        gc.collect()
        scopes = sum(1 for each in gc.get_objects() if issubclass(type(each), context.Scope))
        filters = [tracemalloc.Filter(inclusive=True, filename_pattern=pattern) for pattern in _FILES]
        return scopes, sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(filters).traces)

    with flowprov.workflow("W"):
        tracemalloc.start()
        try:
            many()  # now caches are filled, and the journal has its largest segment
            first, second = many(), many()
        finally:
            tracemalloc.stop()
        assert open_scopes() == 0
    return second[0] - first[0], second[1] - first[1]


@pytest.mark.soak
def test_five_thousand_forwards_with_children_leave_nothing(buffer: Path) -> None:
    scopes, size = _grows(2_500)
    assert scopes <= 0
    assert size < 20_000


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_a_hundred_thousand_forwards_with_children_leave_nothing(buffer: Path) -> None:
    scopes, size = _grows(50_000)
    assert scopes <= 0
    assert size < 20_000
