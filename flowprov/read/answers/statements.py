"""What running a statement has in common in SQLite and in duckdb.

Flows in: a function that runs a statement, and one that interrupts it. Flows out: what the first returns, or
what a signal handler of the program raised meanwhile; and the error for a statement that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from flowprov.errors import UsageError

_AGAIN_S = 0.1
T = TypeVar("T")


def run_interruptibly(run: Callable[[], T], interrupt: Callable[[], object]) -> T:
    """Return what a function returns, which runs in a thread: in this one no signal handler would run.

    Parameters
    ----------
    run
        Runs a statement.
    interrupt
        Ends a statement that runs.

    Raises
    ------
    BaseException
        What `run` raised, or what a signal handler raised meanwhile. The statement is interrupted then.
    """
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(run)
        try:
            return answer.result()
        except BaseException:  # raised on; if the statement still runs, it is what a signal handler raised
            while not answer.done():
                interrupt()  # what has not begun yet is not interrupted
                wait([answer], _AGAIN_S)
            raise


def reason_of(error: Exception) -> str:
    """Return the first line of what a database says, without the mark at its end."""
    return str(error).split("\n", 1)[0].rstrip(".!")


def statement_error(reason: str, tables: Iterable[str]) -> UsageError:
    """Return the error for a statement that is wrong, or that would do anything but read."""
    return UsageError(
        f"flowprov cannot run this query: {reason}. It takes one SELECT over the tables "
        f'{", ".join(tables)}; names with dots stand in quotes ("params.lr").'
    )


def memory_error(reason: str) -> UsageError:
    """Return the error for a statement that takes more memory than there is."""
    return UsageError(
        f"flowprov cannot run this query, as the memory does not suffice: {reason}. Select fewer columns, "
        "let the statement sum up (count, avg, group by), or ask for one campaign."
    )
