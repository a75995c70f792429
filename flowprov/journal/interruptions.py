"""Exceptions from outside, as the journal meets them: raised on, whatever their class.

Flows in: what was caught in the code of a journal. Flows out: the same exception, if it is none of ours.
"""

from __future__ import annotations

from flowprov import guard


class OwnSignal(Exception):  # noqa: N818 - part of normal work, and never seen outside the journal
    """Base of what the code of a journal raises to itself."""


def pass_on(error: BaseException) -> None:
    """Raise an exception again if it came from outside; else return.

    Notes
    -----
    The guard finds most of them. It leaves open what arrived in a function of the standard library, as the
    code of a value may call one, too. No code of a value runs in a journal. So here an exception without
    arguments is one that the interpreter was told to raise: failures of the system have an error number.

    Raises
    ------
    BaseException
        ``error`` itself.
    """
    if isinstance(error, OwnSignal):
        return
    guard.pass_on(error)
    if not error.args:
        raise error
