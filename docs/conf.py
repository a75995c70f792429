"""How sphinx makes the documentation site: ``make docs``.

The pages are those that people read in the repository. What a site needs besides is made here: the tree of
pages, in the order in which the first page of each folder links them, and the page of public names.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import flowprov
from flowprov.version import __version__

DOCS = Path(__file__).parent

project, author = "flowprov", "The flowprov developers"
copyright = f"2026, {author}"  # noqa: A001 - the name that sphinx reads
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc"]
exclude_patterns = ["_build"]
root_doc = "index"
html_theme = "furo"
html_title = f"flowprov {version}"
html_last_updated_fmt = None  # the same pages for the same sources
html_copy_source = False

myst_heading_anchors = 3
numpydoc_show_class_members = False
autodoc_typehints = "none"  # numpydoc's sections name the types in words
autodoc_member_order = "bysource"

_LINK = re.compile(r"\]\(([\w./-]+)\.md(?:#[\w-]+)?\)")
_OUTSIDE = re.compile(r"\[([^]]+)\]\((?:\.\./)+((?:examples/|settings)[\w./-]+)\)")
_SECTIONS = {"index", "how-to/README"}


def _linked_pages(text: str, folder: Path) -> list[str]:
    """Return the pages of its folder, and of those inside, that a text links: each once, in their order."""
    pages = dict.fromkeys(_LINK.findall(text))
    return [page for page in pages if (folder / f"{page}.md").resolve().is_relative_to(folder)]


def _add_tree(_app: Any, name: str, source: list[str]) -> None:
    """Add the tree of pages to the first page of the site, and of a folder."""
    if name in _SECTIONS:
        pages = "\n".join(_linked_pages(source[0], (DOCS / name).parent))
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"


def _name_files(_app: Any, _name: str, source: list[str]) -> None:
    """Name the files of the repository that are no pages of the site, in place of links to them."""
    source[0] = _OUTSIDE.sub(r"\1 (`\2` in the repository)", source[0])


def _add_names(_app: Any, name: str, source: list[str]) -> None:
    """Add what is public to the page of names."""
    if name == "reference/names":
        names = sorted(set(flowprov.__all__) - {"__version__"}, key=str.lower)
        source[0] += "\n".join(_directive(name, getattr(flowprov, name)) for name in names)


def _directive(name: str, value: Any) -> str:
    if inspect.isclass(value):
        return f"\n```{{eval-rst}}\n.. autoclass:: flowprov.{name}\n   :members:\n```\n"
    return f"\n```{{eval-rst}}\n.. autofunction:: flowprov.{name}\n```\n"


def setup(app: Any) -> None:
    """Connect what is made here."""
    app.connect("source-read", _add_tree)
    app.connect("source-read", _add_names)
    app.connect("source-read", _name_files)
