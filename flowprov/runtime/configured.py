"""``configured``: other settings for a block of code.

Flows in: single settings. Flows out: a context in which they hold.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from flowprov.runtime import runtime
from flowprov.settings import warn_of_findings


@contextlib.contextmanager
def configured(**overrides: Any) -> Iterator[None]:
    """Change settings for a block of code.

    Parameters
    ----------
    **overrides
        Single settings, as :func:`flowprov.configure` takes them. The others stay as they are. ``profile``
        replaces the profile; what was set by a file, the environment or code stays.

    Raises
    ------
    SettingsError
        If the settings are invalid. Then the block does not begin.

    Notes
    -----
    Scopes that are open stay in the journal in which they began. What begins in the block follows the changed
    settings, and so do the processes of multiprocessing and of Dask that it starts. Each block that records
    has a journal of its own.

    Examples
    --------
    >>> with configured(instrumentation__torch__tensor_statistics=True):  # doctest: +SKIP
    ...     model(batch)
    """
    before = runtime.get().settings
    runtime.configure(before, **overrides)
    warn_of_findings(runtime.get().settings)
    try:
        yield
    finally:
        runtime.configure(before)
