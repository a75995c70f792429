"""By which metric runs are compared, and whether small or large values are good.

Flows in: the lines of runs. Flows out: a goal, or the reason why there is none.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from flowprov.errors import UsageError
from flowprov.read.answers.tables import Line
from flowprov.report.text import listed, shown

_SMALL = r"loss|err|error|nll|ppl|perplexity|mse|mae|rmse|wer|cer|fid|bpb|bpc|kl|regret|divergence|latency"
_LARGE = (
    r"acc|accuracy|f1|auc|auroc|auprc|bleu|rouge|precision|recall|iou|dice|ndcg|mrr|r2|score|reward|return|"
    r"exact_match|em|win_rate|psnr|ssim|elo"
)
_HELD_OUT = r"val|valid|validation|eval|evaluation|test|dev|heldout"
_NO_GOAL = r"scale|weight|coef|coefficient|count|std|var|lr"  # at the end of a name: loss_scale
_PREFIX = "metrics."


@dataclass(frozen=True)
class Goal:
    """A metric, and whether its smallest value is the best one."""

    metric: str
    minimize: bool

    @property
    def direction(self) -> str:
        """Which value is the best."""
        return "smallest" if self.minimize else "largest"

    def key(self, line: Line) -> float:
        """Return by what runs are sorted, the best ones first; what has no number comes last."""
        value = number_of(line.get(_PREFIX + self.metric))
        return math.inf if value is None else value if self.minimize else -value


def number_of(value: object) -> float | None:
    """Return a finite number; None of all else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def metric_names(lines: Sequence[Line]) -> list[str]:
    """Return the metrics of runs, those of most runs first."""
    counts = Counter(
        name.removeprefix(_PREFIX) for line in lines for name in line if _is_last_value(name, line)
    )
    return sorted(counts, key=lambda name: (-counts[name], not _is(name, _HELD_OUT), name))


def _is_last_value(name: str, line: Line) -> bool:
    """Whether a column is a metric and not the smallest or largest value of one."""
    if not name.startswith(_PREFIX):
        return False
    base, _, end = name.rpartition(".")
    return not (end in ("min", "max") and base in line)


def choose_goal(lines: Sequence[Line], metric: str | None = None, best: str | None = None) -> Goal | None:
    """Return by what runs are compared.

    Parameters
    ----------
    lines
        The runs.
    metric
        The metric that somebody asks for; by default one that most runs have, of held-out data if there is.
    best
        ``"min"`` or ``"max"``; by default the name of the metric decides.

    Raises
    ------
    UsageError
        If no run has the metric, or its name does not say which values are good.
    """
    names = metric_names(lines)
    if metric is not None:
        if metric not in names:
            near = get_close_matches(metric, names, 3) or names[:8]
            raise UsageError(
                f"no run of the report has the metric {shown(metric)}; there is "
                f"{listed(map(shown, near)) or 'none'}"
            )
        minimize = best == "min" if best else _minimizes(metric)
        if minimize is None:
            raise UsageError(
                f"the name {shown(metric)} does not say whether small or large values are good: give --best "
                "min or --best max"
            )
        return Goal(metric, minimize)
    known = [name for name in names if best is not None or _minimizes(name) is not None]
    if not known:
        return None
    most = sum(_PREFIX + known[0] in line for line in lines)
    common = [name for name in known if sum(_PREFIX + name in line for line in lines) >= 0.8 * most]
    chosen = min(common, key=lambda name: (not _is(name, _HELD_OUT), not _is(name, _SMALL), len(name), name))
    return Goal(chosen, best == "min" if best else bool(_minimizes(chosen)))


def _minimizes(name: str) -> bool | None:
    """Whether small values of a metric are good, by the last word of its name that tells; else None."""
    if re.search(rf"(?<![a-z])(?:{_NO_GOAL})$", _split(name)):
        return None
    words = re.findall(rf"(?<![a-z])(?:(?P<small>{_SMALL})|(?P<large>{_LARGE}))(?![a-z])", _split(name))
    return bool(words[-1][0]) if words else None


def _is(name: str, pattern: str) -> bool:
    return re.search(rf"(?<![a-z])(?:{pattern})(?![a-z])", _split(name)) is not None


def _split(name: str) -> str:
    """Return a name in small letters, with its words apart: ``valLoss`` is ``val_loss``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name[:200]).lower()
