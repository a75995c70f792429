"""The buffers of the benchmark are such as flowprov writes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.read_sizes import Layout, make_buffer
from flowprov.read.questions import campaign_table, run_table


def test_a_buffer_of_the_benchmark_is_complete(tmp_path: Path) -> None:
    make_buffer(tmp_path, 1_000, Layout(journals=4, campaigns=2))
    lines = campaign_table(tmp_path)
    assert [(line["status"], line["runs"], line["errors"]) for line in lines] == [("COMPLETE", 2, 0)] * 2
    runs = run_table(tmp_path)
    assert len(runs) == 4
    assert {"metrics.loss", "metrics.val_loss", "metrics.accuracy", "params.lr"} <= set(runs[0])
