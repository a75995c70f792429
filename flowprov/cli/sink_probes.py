"""The sinks that ``flowprov verify`` and ``flowprov rm`` ask what they hold.

Flows in: the settings, or URIs. Flows out: what asks each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import NamedTuple

import click

from flowprov.cli.output import Failure
from flowprov.read.sink_check import RunProbe, SinkProbe
from flowprov.settings import load_settings, parse_assignment, redact_uri
from flowprov.shipping.service import is_tracking_uri

# As a string: it loads all that reads runs, and only where there is MLflow.
_MLFLOW = "flowprov.export.mlflow.run_probe:MLflowProbe"


class Probes(NamedTuple):
    """What asks the sinks of lines, and what asks those of runs."""

    lines: Sequence[SinkProbe]
    runs: Sequence[RunProbe]

    def close(self) -> None:
        """Close the connections."""
        for sink in self.lines:
            sink.close()


def open_probes(context: click.Context, uris: tuple[str, ...], *, from_server: bool) -> Probes:
    """Return what asks the sinks: those that are named, else those of the settings.

    There are none if the campaign itself is read from one.
    """
    if from_server:
        if uris:
            raise Failure("--to asks what a sink holds of a buffer: give the buffer folder, not a server")
        return Probes((), ())
    options = context.find_root().params
    settings = load_settings(options["path"], dict(map(parse_assignment, options["assignments"]))).sinks
    known = (settings.redis.uri, settings.mongodb.uri, settings.mlflow.uri)
    configured = [uri for uri in known if uri is not None]
    by_name = {redact_uri(uri): uri for uri in uris or configured}  # one for each name that people see
    chosen = by_name.values()
    return Probes(
        [SinkProbe(uri, maxlen=settings.redis.maxlen) for uri in chosen if not is_tracking_uri(uri)],
        [resolve_name(_MLFLOW)(uri) for uri in chosen if is_tracking_uri(uri)],
    )


__all__ = ["Probes", "open_probes"]
