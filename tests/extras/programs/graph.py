"""The extra ``graph``: a lineage is a graph of networkx."""

from __future__ import annotations

from pathlib import Path

import flowprov

Path("model.bin").write_bytes(b"model")
with flowprov.workflow("W"):
    flowprov.log_artifact("model.bin")
graph = flowprov.lineage("model.bin").to_networkx()
assert graph.number_of_edges() > 0
print(f"done: a graph of {graph.number_of_nodes()} nodes")
