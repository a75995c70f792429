"""The errors that a person may see.

Flows in: nothing. Flows out: exception types that the other parts of flowprov raise. Each message names the
location, what was found, what was expected, and how to fix it.
"""

from __future__ import annotations

from flowprov.display import printable, printable_lines


class FlowprovError(Exception):
    """Base of every error that flowprov raises on purpose.

    Messages may quote what was recorded, so they are escaped where they are shown: each is one line.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class SettingsError(FlowprovError):
    """The settings are not valid: an unknown key, a wrong value, a named file that is missing.

    One error reports every problem of a file, each with its key, its line and the closest valid key.
    """

    def __str__(self) -> str:
        return printable_lines(Exception.__str__(self))


class MissingExtraError(FlowprovError, ImportError):
    """A framework that an optional part of flowprov needs is not installed.

    Parameters
    ----------
    package
        The package that could not be imported.
    extra
        The extra of flowprov that installs it.
    purpose
        What it is needed for: the end of the sentence "… is needed to <purpose>".
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f'{package} is needed to {purpose}. Install it with: pip install "flowprov[{extra}]"'
        )
        self.package = package
        self.extra = extra


class JournalError(FlowprovError):
    """A source of records cannot be read at all: it does not exist, or it is of an unknown kind."""


class UnknownIdError(JournalError, LookupError):
    """A source holds nothing with the id that was asked for. The message names the nearest."""


class UsageError(FlowprovError, TypeError):
    """A public function was called with arguments that it does not support."""


class SinkError(FlowprovError):
    """A delivery failed. It is tried again later.

    Parameters
    ----------
    message
        What happened, in words for a person and without credentials.
    """


class SinkUnavailableError(SinkError):
    """The server cannot be reached, does not answer in time, or closed the connection."""


class SinkRefusedError(SinkError):
    """The server answers but refuses records: wrong password, read-only, out of memory or disk."""
