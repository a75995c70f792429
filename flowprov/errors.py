"""The errors that a person may see.

Flows in: nothing. Flows out: exception types that every other room raises. Each message names the place,
what was found, what was expected and the mend.
"""

from __future__ import annotations


class FlowprovError(Exception):
    """Base of every error that flowprov raises on purpose."""


class SettingsError(FlowprovError):
    """The settings cannot be used: an unknown key, a wrong value, a missing named file.

    One report holds every problem of a file, each with its path, its line and the nearest right key.
    """


class MissingExtraError(FlowprovError, ImportError):
    """A framework that an optional part of flowprov needs is not installed.

    Parameters
    ----------
    package
        The package that could not be imported.
    extra
        The extra of flowprov that brings it.
    purpose
        What it is needed for, as the end of the sentence "… is needed to <purpose>".
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f'{package} is needed to {purpose}. Install it with: pip install "flowprov[{extra}]"'
        )
        self.package = package
        self.extra = extra


class JournalError(FlowprovError):
    """A source of records cannot be read at all: it does not exist or is of no known kind."""


class UsageError(FlowprovError, TypeError):
    """A public function was called in a way that it cannot serve."""


class SinkError(FlowprovError):
    """A delivery failed; it is tried again later.

    Parameters
    ----------
    message
        What happened, fit for a person and without credentials.
    """


class SinkUnavailableError(SinkError):
    """The server cannot be reached, does not answer in time, or broke the connection."""


class SinkRefusedError(SinkError):
    """The server answers and does not take records: wrong password, read-only, out of memory or disk."""
