"""Starting and waking threads where a signal, or an exception from outside, may arrive at any instruction.

Flows in: a thread, or what it waits for. Flows out: the same thread, running.
"""

from __future__ import annotations

import _thread
import threading


def start_thread(thread: threading.Thread) -> None:
    """Start a thread, and return when it runs.

    A signal handler of the program that raises inside ``Thread.start`` makes the standard library forget the
    thread: it comes up, finds itself unknown, prints a traceback and ends. Handlers run in the main thread
    only. So a thread of the interpreter's own, which is started in one instruction, calls ``Thread.start``.

    Parameters
    ----------
    thread
        The thread. If an exception from outside interrupts this function, it runs or was never started.

    Raises
    ------
    RuntimeError
        If no thread can be started: when the interpreter ends, or at the limit of processes.
    """
    started = _thread.allocate_lock()
    failures: list[RuntimeError] = []

    def start() -> None:
        try:
            thread.start()
        except RuntimeError as error:
            failures.append(error)
        finally:
            started.release()

    started.acquire()
    _thread.start_new_thread(start, ())
    started.acquire()
    if failures:
        raise failures[0]


_IS_SET = ("release unlocked lock",)


class AutoResetEvent:
    """An event for which one thread waits, and that is unset again when it was waited for.

    What the standard library has for this fails where signals arrive. An exception from outside that
    interrupts ``threading.Condition``, and with it ``threading.Event``, leaves a lock taken. Up to Python
    3.12, ``queue.SimpleQueue.get`` waits for ever if a signal interrupts it shortly before its time is over.
    A lock has neither fault: to take it is one instruction, and so is to release it.
    """

    def __init__(self) -> None:
        self._unset = _thread.allocate_lock()
        self._unset.acquire()

    def set(self) -> None:
        """Let the thread that waits go on, or the next one that would wait."""
        try:
            self._unset.release()
        except RuntimeError as error:
            if error.args != _IS_SET:  # of a signal handler
                raise

    def wait(self, timeout: float) -> None:
        """Wait until it is set, for so many seconds at most, and unset it."""
        self._unset.acquire(timeout=max(timeout, 0))
