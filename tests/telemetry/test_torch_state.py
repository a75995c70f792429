"""The recorded seeds and flags of torch follow what the program sets, and reading them changes nothing."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from flowprov import guard
from flowprov.telemetry import machine, torch_state
from flowprov.values import restore


def description() -> dict[str, Any]:
    values = torch_state.describe_torch()
    assert values is not None
    return values


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


@pytest.fixture(autouse=True)
def restored_torch() -> Iterator[None]:
    """Restore what a test sets in torch."""
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(mode=False)
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


@pytest.mark.parametrize("seed", [0, 1234, 2**63, 2**64 - 1])
def test_the_seed_is_that_of_the_program(seed: int) -> None:
    torch.manual_seed(seed)
    assert restore(machine.describe_machine()["torch"])["seed"] == seed  # type: ignore[index]


def test_the_flags_of_determinism_are_those_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (description()["deterministic_algorithms"], description()["deterministic_warn_only"]) == (
        False,
        False,
    )
    torch.use_deterministic_algorithms(mode=True)
    assert (description()["deterministic_algorithms"], description()["deterministic_warn_only"]) == (
        True,
        False,
    )
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    assert (description()["deterministic_algorithms"], description()["deterministic_warn_only"]) == (
        True,
        True,
    )
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    assert (description()["cudnn_deterministic"], description()["cudnn_benchmark"]) == (True, True)


def test_the_number_of_threads_is_that_of_the_program_whichever_thread_reads_it() -> None:
    requests: Queue[bool] = Queue()
    answers: Queue[dict[str, Any]] = Queue()

    def answer() -> None:
        while requests.get():
            answers.put(description())

    threading.Thread(target=answer, daemon=True).start()
    for number in (1, 2, 1):
        torch.set_num_threads(number)
        requests.put(True)
        assert answers.get(timeout=60)["threads"] == number
    requests.put(False)


def test_the_number_of_threads_is_left_out_if_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert "threads" not in description()
    assert "seed" in description()


def test_the_precision_of_multiplication_is_that_of_the_program() -> None:
    torch.set_float32_matmul_precision("highest")
    assert description()["allow_tf32_matmul"] is False
    torch.set_float32_matmul_precision("high")
    assert description()["allow_tf32_matmul"] is True


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="this torch has only the older flags"
)
def test_the_newer_setting_of_the_precision_is_read_without_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard.reset()
    matmul: Any = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert description()["allow_tf32_matmul"] is True
        assert description()["float32_precision"]["cuda_matmul"] == "tf32"
    finally:
        matmul.fp32_precision = before
    assert not caplog.records


def test_the_older_flags_are_read_if_torch_has_no_newer_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Matmul:
        allow_tf32 = True

    monkeypatch.setattr(torch.backends.cuda, "matmul", Matmul())
    values = description()
    assert values["allow_tf32_matmul"] is True
    assert values["float32_matmul_precision"] == "highest"
    assert "float32_precision" not in values


def test_a_description_does_not_initialize_cuda_or_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for name in ("_lazy_init", "init", "synchronize", "current_device", "device_count", "is_available"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name: called.append(name))
    in_use = _cuda_in_use()
    values = machine.describe_machine()["torch"]
    assert called == []
    assert _cuda_in_use() == in_use
    assert in_use or not {"cuda_seeds", "cudnn"} & set(values)


def test_the_seeds_of_gpus_are_included_if_cuda_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    generators = tuple(torch.Generator().manual_seed(seed) for seed in (7, 8))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002, raising=False)
    assert description()["cuda_seeds"] == [7, 8]
    assert description()["cudnn"] == 91002


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_the_seeds_of_real_gpus_are_those_of_the_program() -> None:
    torch.zeros(1, device="cuda")
    torch.cuda.manual_seed_all(99)
    assert description()["cuda_seeds"] == [99] * torch.cuda.device_count()
    assert description()["cuda"] == torch.version.cuda


def test_a_description_does_not_change_random_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    machine.describe_machine()
    assert torch.equal(torch.rand(3), expected)
