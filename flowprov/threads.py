"""Starting threads where an exception from outside may arrive at any instruction.

Flows in: a thread. Flows out: the same, running.
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
