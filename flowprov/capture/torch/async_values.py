"""Numbers that a device computes, read when they are ready.

Flows in: small tensors of numbers, each with a function that makes a correction of them. Flows out:
corrections of records that were written before.

A number on the CPU is ready at once. A number on another device is copied into pinned memory without waiting,
and an event tells when the copy is done. The next forward, the next optimizer step or the next heartbeat
writes the corrections that are ready. Only the end of the outermost open scope, and that of a journal, wait
for the others, and not for long.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch

from flowprov import guard
from flowprov.capture.torch.modes import suspended_modes
from flowprov.journal import Journal
from flowprov.locks import create_lock
from flowprov.records import Record
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope

MAX_PENDING = 10_000  # copies at a time: about 10 MB
MAX_WAIT_S = 5.0  # at the end of the outermost scope
DROP_REASON = "statistics"


class _PendingCopy(NamedTuple):
    journal: Journal
    numbers: torch.Tensor
    is_ready: Callable[[], bool]
    create_correction: Callable[[list[float]], Record | None]


_pending: deque[_PendingCopy] = deque()
_lock = create_lock()
_fork_hook_registered = False


def is_on_host(tensor: torch.Tensor) -> bool:
    """Whether a tensor can be read without waiting for a device."""
    return tensor.device.type == "cpu"


def defer(
    scope: Scope, numbers: torch.Tensor, create_correction: Callable[[list[float]], Record | None]
) -> None:
    """Correct a record when a device has computed its numbers.

    Parameters
    ----------
    scope
        The scope in which the record lies.
    numbers
        A tensor of one dimension.
    create_correction
        Returns the correction of the record, given the numbers.
    """
    journal = scope.journal
    if len(_pending) >= MAX_PENDING:
        _drop(journal, f"more than {MAX_PENDING} wait to be computed")
        return
    copied, is_ready = start_copy(numbers)
    _pending.append(_PendingCopy(journal, copied, is_ready, create_correction))
    _flush_at_end_of(scope)


def start_copy(numbers: torch.Tensor) -> tuple[torch.Tensor, Callable[[], bool]]:
    """Start to copy numbers into the memory of the host.

    Returns
    -------
    tuple
        The copy, and a function that says whether it is ready.
    """
    module = torch.get_device_module(numbers.device)
    copied = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=numbers.device.type == "cuda")
    copied.copy_(numbers, non_blocking=True)
    event = module.Event()
    event.record(module.current_stream(numbers.device))
    return copied, event.query


def flush_ready() -> None:
    """Write the corrections that are ready, without waiting."""
    if not _pending or not _lock.acquire(blocking=False):
        return
    try:
        while _pending and _write_if_ready(_pending[0]):
            _pending.popleft()
    finally:
        _lock.release()


def _write_if_ready(copy: _PendingCopy) -> bool:
    """Write a correction if it is ready; return whether nothing is left to do for it."""
    try:
        if not copy.is_ready():
            return False
        with suspended_modes():
            numbers = copy.numbers.tolist()
        if (correction := copy.create_correction(numbers)) is not None:
            copy.journal.write_control(correction)
    except Exception as error:  # of the device, to which the program's own kernels may have done anything
        guard.pass_on(error)
        _drop(copy.journal, f"reading them from the device failed with {type(error).__name__}")
    return True


def flush_all(_error: BaseException | None = None) -> None:
    """Write all corrections, and wait for those that are not ready, for a bounded time."""
    deadline = time.monotonic() + MAX_WAIT_S
    flush_ready()
    while _pending and time.monotonic() < deadline:
        time.sleep(0.0005)
        flush_ready()
    with _lock:
        late = list(_pending)
        _pending.clear()
    for copy in late:
        _drop(copy.journal, f"the device had not computed them after {MAX_WAIT_S:g} s")


def _drop(journal: Journal, reason: str) -> None:
    journal.drop(DROP_REASON)
    guard.warn_once(
        f"statistics {reason}",
        "flowprov drops statistics of tensors: %s. The forwards and steps are recorded without them. Each "
        "loss is counted as dropped (%s).",
        reason,
        DROP_REASON,
    )


def _flush_at_end_of(scope: Scope | None) -> None:
    """Flush the rest when the outermost scope ends whose end this process writes."""
    _register_flushes()
    outermost: Scope | None = None
    while scope is not None:
        if scope.recorded and context.is_open(scope):
            outermost = scope
        scope = scope.parent
    if outermost is not None and flush_all not in outermost.ensure_extras().on_end:
        outermost.ensure_extras().on_end.append(flush_all)


def _register_flushes() -> None:
    global _fork_hook_registered  # noqa: PLW0603 - once per process, and forks inherit it
    active = runtime.get()
    if flush_ready not in active.at_heartbeat:
        active.at_heartbeat.append(flush_ready)
    if flush_all not in active.before_close:
        active.before_close.append(flush_all)
    if not _fork_hook_registered:
        _fork_hook_registered = True
        os.register_at_fork(after_in_child=_clear_after_fork)


def _clear_after_fork() -> None:
    """In a forked child: leave pending copies to the parent, which writes them."""
    _pending.clear()
