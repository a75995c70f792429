"""The summarizer: any Python value in, what a record keeps of it out.

Flows in: arguments, results, items and parameters of any kind. Flows out: JSON. Scalars stay as they are.
Containers are kept within limits, tensors and arrays by shape, dtype, device and size, and anything else by
its type. Code of classes that are not known does not run. Secrets are concealed. `markers` lists the forms of
what JSON cannot hold.
"""

from __future__ import annotations

from flowprov.values.budget import Limits
from flowprov.values.mappings import as_dict, as_mapping
from flowprov.values.markers import JSONable, restore, restore_object, to_json_text
from flowprov.values.names import as_id, as_name, as_names
from flowprov.values.redaction import is_secret_key, redact_urls
from flowprov.values.summarizer import Summarizer, bytes_spent, plain_string_limit
from flowprov.values.tensors import array_summary, tensor_json, tensor_raw

__all__ = [
    "JSONable",
    "Limits",
    "Summarizer",
    "array_summary",
    "as_dict",
    "as_id",
    "as_mapping",
    "as_name",
    "as_names",
    "bytes_spent",
    "is_secret_key",
    "plain_string_limit",
    "redact_urls",
    "restore",
    "restore_object",
    "tensor_json",
    "tensor_raw",
    "to_json_text",
]
