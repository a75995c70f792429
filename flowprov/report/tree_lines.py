"""The tree of a campaign, as ``flowprov show`` prints it.

Flows in: the journals of a campaign. Flows out: lines.
"""

from __future__ import annotations

from flowprov.read.attempts import id_of_key
from flowprov.read.campaign_sources import CampaignSource
from flowprov.read.labels import title_of
from flowprov.read.outline import Outline
from flowprov.read.siblings import TreeNode
from flowprov.report.parts import TreeLine
from flowprov.report.text import format_duration, shown

MAX_LINES = 160
MOST_SIBLINGS = 2
_MAX_LEVEL = 12
_MAX_TEXT = 160


def tree_of(campaign: CampaignSource) -> tuple[list[TreeLine], int]:
    """Return the first lines of the tree of a campaign, and how many are left out."""
    outline = Outline(campaign.journals, most=MOST_SIBLINGS, digests=campaign.digests())
    outline.read()
    lines: list[TreeLine] = []
    left_out = 0
    for node in outline.nodes():
        if len(lines) < MAX_LINES:
            lines.append(_line(outline, node))
        else:
            left_out += 1
    return lines, left_out


def _line(outline: Outline, node: TreeNode) -> TreeLine:
    level = min(node.level, _MAX_LEVEL)
    if node.key is None:
        return TreeLine(level, shown(node.text.strip(), _MAX_TEXT), "", "", "")
    fields = outline.fields(node.key)
    title, status = title_of(fields), str(fields.get("status") or "")
    started, ended = fields.get("started_at"), fields.get("ended_at")
    seconds = None if started is None or ended is None else (ended - started) / 1e9
    rest = [
        part.replace("-> ", "→ ", 1) if part.startswith("-> ") else part
        for part in node.text.split("  ")[1:]
        if part
    ][(1 + (seconds is not None)) if status else 0 :]
    return TreeLine(
        level,
        shown(title, 80),
        shown(status, 20),
        "" if seconds is None else format_duration(seconds),
        shown(" · ".join(rest).replace(" · → ", " → "), _MAX_TEXT),
        str(fields.get("task_id") or id_of_key(node.key)),
    )
