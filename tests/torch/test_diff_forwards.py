"""Which module call tells two runs apart: single bits of weights are flipped, and each is found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

import flowprov
from flowprov.capture.torch import bit_sum
from flowprov.errors import JournalError

EPOCHS, BATCHES = 2, 3
FLIPS = 24


class Net(torch.nn.Module):
    """Integers go in; it has nested modules, two of a kind, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(10, 4)
        self.blocks = torch.nn.Sequential(
            torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 4), torch.nn.Tanh()
        )
        self.head = torch.nn.Linear(4, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return three numbers for each token."""
        return self.head(self.blocks(self.blocks(self.embedding(tokens))))  # type: ignore[no-any-return]


def flip(weights: torch.Tensor, element: int, bit: int) -> None:
    bits = weights.detach().view(torch.int32).view(-1)
    bits[element] ^= torch.tensor(1 << bit if bit < 31 else -(1 << 31), dtype=torch.int32)


def train(name: str, flipped: tuple[str, int, int] | None = None, at_step: int = 0) -> torch.Tensor:
    """Record a run; in one step, and from then on, a bit of a weight is flipped. Return all outputs."""
    torch.manual_seed(7)
    net = flowprov.torch_capture(Net(), what="parent_and_children", depth="all")
    tokens = [torch.randint(10, (2, 5)) for _ in range(BATCHES)]
    outputs, step = [], 0
    with flowprov.workflow(name):
        for _ in flowprov.EpochLoop(EPOCHS):
            for batch in flowprov.BatchLoop(tokens):
                if flipped is not None and step == at_step:
                    path, element, bit = flipped
                    flip(net.get_parameter(path), element, bit)
                outputs.append(net(batch))
                step += 1
    return torch.stack(outputs)


@pytest.fixture
def buffer(tmp_path: Path) -> Path:
    folder = tmp_path / "buffer"
    flowprov.configure(journal={"path": str(folder)}, instrumentation__torch__tensor_statistics=True)
    return folder


def test_the_module_and_the_step_of_every_flipped_bit_are_found(buffer: Path) -> None:
    chosen = random.Random(3)  # noqa: S311 - no secret
    parameters = {name: one.numel() for name, one in Net().named_parameters()}
    plain, changed = train("plain"), 0
    for number in range(FLIPS):
        path = chosen.choice(list(parameters))
        flipped = path, chosen.randrange(parameters[path]), chosen.randrange(32)
        at_step = chosen.randrange(EPOCHS * BATCHES)
        outputs = train(f"flip {number}", flipped, at_step)
        found = flowprov.diff("plain", f"flip {number}", buffer, forwards=True).to_dict().get("forwards")
        if torch.equal(outputs.view(torch.int32), plain.view(torch.int32)):
            continue
        changed += 1
        assert found is not None, flipped
        assert found["module_path"] == path.rpartition(".")[0], flipped
        assert found["step"] >= at_step
        assert found["epoch"] == found["step"] // BATCHES
        parted = (outputs.view(torch.int32) != plain.view(torch.int32)).flatten(1).any(1)
        assert found["step"] <= int(parted.int().argmax())
    assert changed >= FLIPS // 2


def test_equal_runs_have_no_call_that_differs(buffer: Path) -> None:
    train("a")
    train("b")
    told = flowprov.diff("a", "b", buffer, forwards=True)
    assert "forwards" not in told.to_dict()


def test_a_call_that_differs_is_said_in_words(buffer: Path) -> None:
    train("a")
    train("b", ("head.bias", 0, 31), 4)
    assert "head, call 4, epoch 1, step 4" in str(flowprov.diff("a", "b", buffer, forwards=True))


def test_other_data_is_no_module_that_differs(buffer: Path) -> None:
    net = flowprov.torch_capture(Net(), what="parent_and_children", depth="all")
    for name, token in (("a", 1), ("b", 2)):
        with flowprov.workflow(name):
            net(torch.tensor([[token]]))
    assert "forwards" not in flowprov.diff("a", "b", buffer, forwards=True).to_dict()


def test_without_statistics_there_is_an_error_that_says_what_to_set(tmp_path: Path) -> None:
    flowprov.configure(journal={"path": str(tmp_path / "b")})
    train("a")
    train("b")
    with pytest.raises(JournalError, match="tensor_statistics: true"):
        flowprov.diff("a", "b", tmp_path / "b", forwards=True)


DTYPES = [
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float8_e5m2,
    torch.complex64,
    torch.complex128,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.uint16,
]


def total(tensor: torch.Tensor) -> int:
    return int(bit_sum.compute(tensor))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_bit_sum_knows_bits_and_no_order(dtype: torch.dtype) -> None:
    tensor = torch.randint(0, 2, (4, 6)).to(dtype)
    before = total(tensor)
    assert before == total(tensor.t()) == total(tensor.flip(0))
    assert before == bit_sum.from_pieces(bit_sum.to_pieces(torch.tensor(before)).tolist()) - (
        (1 << 64) if before < 0 else 0
    )
    raw = tensor.view(torch.uint8)
    for bit in (0,) if dtype is torch.bool else range(8):
        raw[3, 2] ^= 1 << bit
        assert total(tensor) != before
        raw[3, 2] ^= 1 << bit
    assert total(tensor) == before


def test_lazy_conjugates_and_negatives_are_read_as_what_they_stand_for() -> None:
    numbers = torch.tensor([1 + 2j, 3 - 1j])
    assert total(numbers.conj()) == total(numbers.conj().resolve_conj().clone())
    assert total(numbers.conj().imag) == total(numbers.conj().imag.resolve_neg().clone())
