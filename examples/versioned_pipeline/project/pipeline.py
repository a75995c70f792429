"""The pipeline as a job of Dagster: two ops and a notebook, each in a process of its own."""

from __future__ import annotations

import sys

import dagster as dg
import dagstermill
import steps


@dg.op
def clean() -> int:
    """Clean the data, and commit its new version."""
    steps.clean(commit=True)
    return 1


@dg.op
def train(cleaned: int) -> str:  # noqa: ARG001 - it only says that the data is there
    """Train; return the best checkpoint."""
    return steps.train()


report = dagstermill.define_dagstermill_op(
    "report", dg.file_relative_path(__file__, "report.ipynb"), ins={"best": dg.In(str)}
)


@dg.job(resource_defs={"output_notebook_io_manager": dagstermill.local_output_notebook_io_manager})
def sentiment_analysis() -> None:
    """Clean, train, report."""
    report(train(clean()))


if __name__ == "__main__":
    job = dg.reconstructable(sentiment_analysis)
    with dg.execute_job(job, instance=dg.DagsterInstance.get()) as done:
        if not done.success:
            sys.exit("the run failed")
        print(done.output_for_node("train"))
