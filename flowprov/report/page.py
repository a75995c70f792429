"""Write a report down: as a page that needs nothing else, or as a card.

Flows in: a report. Flows out: HTML or Markdown. The page asks no host for anything: its style and its script
are in it, and its content security policy allows these two alone, by their digests. All that was recorded is
escaped by the templates.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowprov.errors import MissingExtraError
from flowprov.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from flowprov.report.parts import Report
from flowprov.report.text import shown
from flowprov.version import __version__

if TYPE_CHECKING:
    import jinja2

_TEMPLATES = Path(__file__).parent / "templates"
_MAX_CODE = 200  # characters
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$!&])")
_CHART = {
    "width": WIDTH,
    "height": HEIGHT,
    "left": LEFT,
    "right": WIDTH - RIGHT,
    "bottom": HEIGHT - BOTTOM,
    "box": f"{LEFT} {TOP} {WIDTH - RIGHT} {HEIGHT - BOTTOM}",
}


def require_templates() -> None:
    """Make sure that reports can be written, before much is read for one.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    """
    _environment(escape_html=True)


def to_html(report: Report, *, state: str | None = None) -> str:
    """Return a report as one page of HTML.

    Parameters
    ----------
    report
        The report.
    state
        Of a page that ``flowprov ui`` serves: the state of the records. Such a page has links, and looks
        every two seconds whether there is another one.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    """
    labels = [row.label for row in report.runs.rows]
    return render_page("report.html", state=state, report=report, labels=labels, size=_CHART)


def render_page(template: str, *, state: str | None = None, **values: Any) -> str:
    """Return a page with the style and the script of reports; see :func:`to_html`.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    """
    style, script = ((_TEMPLATES / name).read_text("utf-8") for name in ("report.css", "report.js"))
    live = state is not None
    if live:
        script += (_TEMPLATES / "live.js").read_text("utf-8")
    own = "connect-src 'self'; form-action 'self'" if live else "form-action 'none'"
    allowed = f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    policy = f"default-src 'none'; {allowed}; {own}; base-uri 'none'"
    given = {"style": style, "script": script, "policy": policy, "live": live, "state": state or ""}
    return _render(template, version=__version__, **given, **values) + "\n"


def to_markdown(report: Report) -> str:
    """Return a report as a card: what a repository shows of it.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    """
    return _render("card.md", report=report).strip() + "\n"


def _digest(text: str) -> str:
    """Return the digest of a text, as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _render(template: str, **values: Any) -> str:
    environment = _environment(escape_html=template.endswith(".html"))
    # What was recorded may hold lone surrogates, which no file takes.
    return environment.get_template(template).render(**values).encode("utf-8", "replace").decode()


def _environment(*, escape_html: bool) -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("jinja2", "report", "write a report") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=escape_html,  # noqa: S701 - in Markdown the filter "md" escapes
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"md": escape_markdown, "code": _without_ticks}
    return environment


def escape_markdown(text: str) -> str:
    """Return a text in which nothing has a meaning in Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;")).replace(r"\&", "&")


def _without_ticks(text: str) -> str:
    """Return a text of one line that does not end a piece of code in Markdown."""
    return shown(text, _MAX_CODE).replace("`", "'")
