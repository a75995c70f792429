"""The curves of a campaign that is too large to read every iteration of it.

Flows in: the runs of a campaign. Flows out: a statement with which duckdb finds points of their curves where
the iterations are, and these points: of each stretch of a loop the smallest and the largest value, and its
ends.

A run has the iterations that began in its time, in its workflow and its process. Steps are counted by loop,
run and name, as they began.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from flowprov.read.answers.run_search import Run
from flowprov.read.parquet_files import quoted
from flowprov.report.curves import MAX_CURVES, Measured
from flowprov.report.downsampling import Point

_STRETCHES = 60
_SUFFIX = "_iteration"
_FOREVER = 2**62
# A name in JSON is asked for by its pointer, in which two characters have a meaning.
_CURVES = f"""
    with spans(run, workflow, first_ns, last_ns, process) as (values {{spans}}),
    iterations as (
        select run, activity_id, epoch_ns(started_at) as began_ns, task_id, generated
        from tasks join spans on workflow_id = workflow and pid = coalesce(process, pid)
            and epoch_ns(started_at) between first_ns and last_ns
        where subtype = 'iteration' and generated is not null and coalesce(rank, 0) = 0
    ),
    named as (
        select run, activity_id, began_ns, task_id, generated, unnest(json_keys(generated::json)) as metric
        from iterations
    ),
    found as (
        select run, activity_id, metric, began_ns, task_id,
            json_extract(generated::json, '/' || replace(replace(metric, '~', '~0'), '/', '~1')) as held
        from named
    ),
    counted as (
        select run, activity_id, metric,
            try_cast(coalesce(json_extract_string(held, '/$float'), held::varchar) as double) as number,
            row_number() over (of_metric order by began_ns, length(task_id), task_id) - 1 as step,
            count(*) over of_metric as total
        from found
        where json_type(held) in ('DOUBLE', 'BIGINT', 'UBIGINT', 'HUGEINT') or json_exists(held, '/$float')
        window of_metric as (partition by run, activity_id, metric)
    )
    select run, activity_id, metric, total, min(step), arg_min(number, step), max(step),
        arg_max(number, step), arg_min(step, number) filter (isfinite(number)),
        min(number) filter (isfinite(number)), arg_max(step, number) filter (isfinite(number)),
        max(number) filter (isfinite(number))
    from counted
    group by run, activity_id, metric, total, step * {_STRETCHES} // total
"""  # noqa: S608 - constants, and what takes their place is quoted


class Span(NamedTuple):
    """Where and when an attempt of a run was; ``pid`` is None if its iterations may be in any process."""

    run_id: str
    workflow_id: str
    began: int
    ended: int
    pid: int | None


def spans_of(groups: Iterable[Sequence[Run]], run_ids: Collection[str]) -> list[Span]:
    """Return where and when some runs were, each attempt by itself."""
    found = []
    for group in groups:
        if group[0].run_id not in run_ids:
            continue
        for run in group:
            record = run.record if run.iterations else None
            if record is not None and record.workflow_id is not None:
                began, ended = record.started_at or 0, record.ended_at
                pid = None if run.task is None else run.task.pid
                end = _FOREVER if ended is None else ended
                found.append(Span(group[0].run_id, record.workflow_id, began, end, pid))
    return found[: 2 * MAX_CURVES]


def curves_statement(spans: Sequence[Span]) -> str:
    """Return the statement that finds the points of some runs."""
    texts = (
        f"({number}, {quoted(span.workflow_id)}, {span.began}, {span.ended}, "
        f"{'null' if span.pid is None else span.pid}::bigint)"
        for number, span in enumerate(spans)
    )
    return _CURVES.format(spans=", ".join(texts))


def add_curves(
    rows: Iterable[Sequence[Any]], spans: Sequence[Span], names: Collection[str], measured: Measured
) -> None:
    """Add the points that were found to those measured.

    Parameters
    ----------
    rows
        What the statement found.
    spans
        The spans that it was asked for.
    names
        The names of the metrics: what is measured in several loops has the name of its loop before its own.
    measured
        To which they are added.
    """
    points: dict[tuple[str, str], dict[float, float]] = {}
    for number, loop, key, _, *pairs in rows:
        full = f"{str(loop or '').removesuffix(_SUFFIX)}/{key}"
        name = full if full in names else str(key)
        found = points.setdefault((spans[number].run_id, name), {})
        found.update(one for one in zip(pairs[::2], pairs[1::2], strict=True) if None not in one)
    for (run_id, name), by_step in points.items():
        curve: list[Point] = sorted(by_step.items())
        measured.add(run_id, name, curve)
