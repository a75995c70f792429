"""How the values of this process are encoded: by which summarizer, and with which redactor.

Flows in: the settings. Flows out: the summarizer, and the globals of the encoders of arguments that
`capture.function_spec` generates. All of these share one dictionary, so that new settings reach encoders that
were generated before.
"""

from __future__ import annotations

from typing import Any

import msgspec

from flowprov.settings import Settings
from flowprov.values import Limits, Summarizer
from flowprov.values.redaction import DEFAULT, Redactor, set_redactor

_encode = msgspec.json.Encoder().encode

encoder_globals: dict[str, Any] = {
    "_flowprov_json": _encode,
    "_flowprov_len": len,  # a parameter may be called len or type
    "_flowprov_type": type,
    "_flowprov_plain_texts": DEFAULT.plain_texts,
    "_flowprov_is_plain": DEFAULT.is_plain,
}


def limits_of(settings: Settings) -> Limits:
    """Return the limits on values."""
    values = settings.values
    return Limits(
        max_bytes=values.max_bytes,
        # What a record used is read in one go, and the rest in another, which has at least a quarter of this.
        # So half is for what the clock does not stop: a value that is begun, encoding and writing.
        max_seconds=values.max_time * 0.4,
        object_reprs=values.object_reprs,
    )


def create_summarizer(settings: Settings) -> Summarizer:
    """Return the summarizer of this process by its settings. Names and generated encoders follow them too."""
    privacy = settings.privacy
    redactor = Redactor(
        enabled=privacy.redact, names=privacy.names, patterns=privacy.patterns, allow=privacy.allow
    )
    set_redactor(redactor)
    limits = limits_of(settings)
    summarizer = Summarizer(limits, redactor=redactor)
    is_small = limits.max_bytes < Limits().max_bytes
    encoder_globals.update(
        _flowprov_encode=summarizer.encode_mapping,
        # A function was decorated before the settings named its parameter a secret, or made the budget small.
        _flowprov_json=summarizer.encode_mapping if redactor.has_own_rules or is_small else _encode,
        _flowprov_plain_texts=redactor.plain_texts,
        _flowprov_is_plain=redactor.is_plain,
    )
    return summarizer


def create_unhurried(settings: Settings, hurried: Summarizer) -> Summarizer:
    """Return a summarizer for what is recorded once in a run: it may take longer than a record of a task."""
    return Summarizer(
        msgspec.structs.replace(limits_of(settings), max_seconds=None), redactor=hurried.redactor
    )
