"""``flowprov ui``: pages of a buffer on this machine, and on no other."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest

from flowprov.read.questions import campaign_table, run_table
from flowprov.ui.pages import Pages, Response
from flowprov.ui.server import Server
from tests.cli.support import flowprov
from tests.report.buffers import Page, record
from tests.support import run, start_command


@pytest.fixture(scope="module")
def buffer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("ui"))


@pytest.fixture(scope="module")
def server(buffer: Path) -> Iterator[Server]:
    with Server(Pages(str(buffer)), 0) as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield started
        started.shutdown()
        thread.join()


def _ask(
    server: Server, path: str, method: str = "GET", host: str | None = None, **headers: str
) -> tuple[Response, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    try:
        named = host or f"127.0.0.1:{server.server_port}"
        connection.request(method, path, headers={"Host": named, **headers})
        response = connection.getresponse()
        sent = dict(response.getheaders())
        kind = sent.get("Content-Type", "")
        return Response(response.status, kind, response.read().decode(), sent.get("Location")), sent
    finally:
        connection.close()


def test_the_first_page_lists_the_campaigns(server: Server, buffer: Path) -> None:
    answer, headers = _ask(server, "/")
    page = Page(answer.text)
    (campaign,) = campaign_table(buffer)
    assert (answer.status, page.open) == (200, [])
    assert "search <b>&amp;</b>" in page.texts["a"]
    assert f"/campaign/{campaign['campaign_id']}" in [link.get("href") for link in page.of("a")]
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "DENY"


def test_the_page_of_a_campaign_leads_to_its_runs_and_records(server: Server, buffer: Path) -> None:
    (campaign,) = campaign_table(buffer)
    page = Page(_ask(server, f"/campaign/{campaign['campaign_id']}")[0].text)
    links = {str(link.get("href")) for link in page.of("a")}
    runs = [str(line["run_id"]) for line in run_table(buffer)]
    assert {f"/run/{name}" for name in runs} <= links
    records = sorted(link for link in links if link.startswith("/record/"))
    assert records
    for link in (records[0], f"/run/{runs[0]}"):
        answer, _ = _ask(server, link)
        assert (answer.status, Page(answer.text).open) == (200, [])
    compared, _ = _ask(server, f"/compare?run={runs[0]}&run={runs[1]}")
    assert {"Parameters", "Metrics"} <= set(Page(compared.text).texts["h2"])


def test_a_name_is_found_and_what_is_not_there_is_said(server: Server) -> None:
    found, _ = _ask(server, f"/find?id={quote('W </title>')}")
    assert found.status == 303
    assert str(found.location).startswith("/record/")
    for path in ("/run/elsewhere", "/nothing", "/record/%3Cscript%3E", "/campaign/..%2f..%2fetc%2fpasswd"):
        answer, _ = _ask(server, path)
        assert (answer.status, Page(answer.text).open) == (404, [])
    assert _ask(server, "/compare?run=one")[0].status == 400


def test_the_state_changes_with_the_records_alone(server: Server, buffer: Path) -> None:
    first, again = (json.loads(_ask(server, "/state/")[0].text) for _ in range(2))
    assert first == again
    page = Page(_ask(server, "/")[0].text)
    assert page.of("body")[0]["data-state"] == first["state"]
    run("import flowprov\nwith flowprov.campaign('next'), flowprov.workflow('w'):\n    pass\n", buffer.parent)
    assert json.loads(_ask(server, "/state/")[0].text) != first
    assert (
        len([link for link in Page(_ask(server, "/")[0].text).of("a") if "/campaign/" in str(link["href"])])
        == 2
    )


def test_only_this_machine_is_answered_and_only_for_reading(server: Server) -> None:
    port = server.server_port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1.evil.example:{port}"):
        answer, _ = _ask(server, "/", host=host)
        assert (answer.status, "campaign" in answer.text) == (403, False)
    assert _ask(server, "/", host=f"localhost:{port}")[0].status == 200
    assert _ask(server, "/", **{"Sec-Fetch-Site": "cross-site"})[0].status == 403
    assert _ask(server, "/", method="POST")[0].status == 501
    head, headers = _ask(server, "/", method="HEAD")
    assert (head.text, int(headers["Content-Length"]) > 1_000) == ("", True)


def test_the_command_says_where_it_is_until_ctrl_c(buffer: Path, tmp_path: Path) -> None:
    with start_command("ui", buffer, "--port", "0", cwd=tmp_path) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        port = int(said.partition("127.0.0.1:")[2].partition("/")[0])
        taken = flowprov("ui", buffer, "--port", str(port), cwd=tmp_path)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert (taken.status, "cannot be used" in taken.err) == (2, True)
    assert flowprov("ui", "redis://nowhere", cwd=tmp_path).status == 2
