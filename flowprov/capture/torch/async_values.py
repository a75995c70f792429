"""Numbers that a device computed, collected when they are there.

Flows in: small tensors of numbers, and what to make of them. Flows out: corrections of records that were
written before. A number on the CPU is there at once. From another device it is copied into pinned memory
without waiting, with an event behind it; whoever comes by (the next forward, the next step, the keeper after
a heartbeat) writes what has arrived. Only when the outermost open scope ends is the rest waited for, and not
for long.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch

from flowprov import guard
from flowprov.capture.torch.modes import suspended_modes
from flowprov.journal import Journal
from flowprov.records import Correction
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope

MAX_PENDING = 10_000  # waiting at a time: about 10 MB
LONGEST_S = 5.0  # of waiting at the end of the outermost scope
DROPPED = "statistics"


class _Waiting(NamedTuple):
    journal: Journal
    numbers: torch.Tensor
    are_there: Callable[[], bool]
    correct: Callable[[list[float]], Correction]


_waiting: deque[_Waiting] = deque()
_lock = threading.Lock()
_prepared = False


def is_on_host(tensor: torch.Tensor) -> bool:
    """Whether reading a tensor waits for nothing."""
    return tensor.device.type == "cpu"


def defer(around: Scope, numbers: torch.Tensor, correct: Callable[[list[float]], Correction]) -> None:
    """Read numbers when the device has computed them.

    Parameters
    ----------
    around
        The scope in which the record lies to which they belong.
    numbers
        A tensor of one dimension.
    correct
        Gives the correction of that record.
    """
    journal = around.journal
    if len(_waiting) >= MAX_PENDING:
        _drop(journal, f"more than {MAX_PENDING} wait to be computed")
        return
    copied, are_there = start_copy(numbers)
    _waiting.append(_Waiting(journal, copied, are_there, correct))
    _collect_at_the_end_of(around)


def start_copy(numbers: torch.Tensor) -> tuple[torch.Tensor, Callable[[], bool]]:
    """Start to copy numbers into the memory of the host; also gives whether they are there."""
    module = torch.get_device_module(numbers.device)
    copied = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=numbers.device.type == "cuda")
    copied.copy_(numbers, non_blocking=True)
    event = module.Event()
    event.record(module.current_stream(numbers.device))
    return copied, event.query


def flush_ready() -> None:
    """Write what has arrived; waits for nothing."""
    if not _waiting or not _lock.acquire(blocking=False):
        return
    try:
        while _waiting and _is_done_with(_waiting[0]):
            _waiting.popleft()
    finally:
        _lock.release()


def _is_done_with(waiting: _Waiting) -> bool:
    try:
        if not waiting.are_there():
            return False
        with suspended_modes():
            numbers = waiting.numbers.tolist()
        waiting.journal.write_control(waiting.correct(numbers))
    except Exception as error:  # of the device, to which the program's own kernels may have done anything
        _drop(waiting.journal, f"reading them from the device failed with {type(error).__name__}")
    return True


def flush_all(_error: BaseException | None = None) -> None:
    """Wait for what is on its way, for a bounded time."""
    last = time.monotonic() + LONGEST_S
    flush_ready()
    while _waiting and time.monotonic() < last:
        time.sleep(0.0005)
        flush_ready()
    with _lock:
        late = list(_waiting)
        _waiting.clear()
    for waiting in late:
        _drop(waiting.journal, f"the device had not computed them after {LONGEST_S:g} s")


def _drop(journal: Journal, reason: str) -> None:
    journal.drop(DROPPED)
    guard.warn_once(
        f"statistics {reason}",
        "flowprov drops statistics of tensors: %s. The forwards or steps are recorded without them; how many "
        "is counted as dropped (%s).",
        reason,
        DROPPED,
    )


def _collect_at_the_end_of(around: Scope | None) -> None:
    """Have the rest collected when the outermost scope ends that this process ends itself."""
    _prepare()
    outermost: Scope | None = None
    while around is not None:
        if around.recorded and context.is_open(around):
            outermost = around
        around = around.parent
    if outermost is not None and flush_all not in outermost.ensure_extras().on_end:
        outermost.ensure_extras().on_end.append(flush_all)


def _prepare() -> None:
    global _prepared  # noqa: PLW0603 - once per process, and forks inherit it
    held = runtime.get()
    if flush_ready not in held.at_heartbeat:
        held.at_heartbeat.append(flush_ready)
    if flush_all not in held.at_exit:
        held.at_exit.append(flush_all)
    if not _prepared:
        _prepared = True
        os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """In a forked child: what waits is the parent's to write."""
    global _lock  # noqa: PLW0603 - another thread may have held it at the fork
    _lock = threading.Lock()
    _waiting.clear()
