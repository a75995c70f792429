"""``flowprov ui``: the campaigns of a buffer in a browser, kept up to date.

Flows in: a buffer folder. Flows out: an address on this machine, until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import webbrowser

import click

from flowprov.cli.completion import complete_files
from flowprov.cli.output import Failure, print_lines
from flowprov.read.source import Source
from flowprov.report.page import require_templates
from flowprov.ui.pages import Pages
from flowprov.ui.server import ADDRESS, Server

_PORT = 8230


@click.command()
@click.argument("folder", required=False, shell_complete=complete_files)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=_PORT,
    show_default=True,
    metavar="N",
    help="The port; 0 takes a free one.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open a browser.")
@click.pass_obj
def ui(default: str | None, folder: str | None, port: int, *, open_browser: bool) -> None:
    """Show the campaigns of a buffer in a browser, with what is new every two seconds.

    The pages are those of flowprov report, for all campaigns, with links to runs and records, and a
    comparison of two runs. They are served on this machine alone (127.0.0.1), and nothing is written. Ctrl-C
    ends it.
    """
    require_templates()
    chosen = folder or default
    if chosen is not None and "://" in chosen:
        raise Failure("flowprov ui shows a buffer folder; of a server, flowprov report writes a page")
    Source(chosen).all_paths()  # says what is wrong with it
    try:
        server = Server(Pages(chosen), port)
    except OSError as error:
        raise Failure(
            f"port {port} of {ADDRESS} cannot be used: {error.strerror or error}. --port 0 takes a free one"
        ) from error
    with server:
        print_lines(f"flowprov ui: {server.url}  (Ctrl-C ends it)")
        if open_browser:
            webbrowser.open(server.url)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
