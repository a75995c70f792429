"""Any Python value to what a record keeps of it.

Flows in: arguments, results, items and parameters of any kind. Flows out: a summary in JSON: scalars as they
are, containers within limits, tensors and arrays by shape, dtype, device and size, secrets concealed,
anything else by its type and a short repr. `marks` lists the forms of what JSON does not know.
"""

from __future__ import annotations

from flowprov.values.arrays import array_summary, tensor_json, tensor_raw
from flowprov.values.markers import JSONable, restore
from flowprov.values.redaction import is_secret_key, redact_urls
from flowprov.values.summarizer import Summarizer
from flowprov.values.walker import Limits

__all__ = [
    "JSONable",
    "Limits",
    "Summarizer",
    "array_summary",
    "is_secret_key",
    "redact_urls",
    "restore",
    "tensor_json",
    "tensor_raw",
]
