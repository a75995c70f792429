"""The page in a real browser: it asks no host for anything, and its script runs under its own policy."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flowprov.report.collect import collect
from flowprov.report.page import to_html
from tests.report.buffers import Page, record

pytestmark = pytest.mark.soak

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"),
    *("--window-size=390,844", "--virtual-time-budget=3000", "--dump-dom"),
)
# What the browser asks for itself, whatever the page: updates, the time, its account.
_OWN = re.compile(r"^https?://[\w.-]*\.(google|googleapis|gvt1)\.com[/:]")


def _browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("NO CHROMIUM: install it (apt-get install chromium)")
    return found


def test_the_page_runs_its_script_and_asks_no_host(tmp_path: Path) -> None:
    browser = _browser()
    page, log = tmp_path / "page.html", tmp_path / "net.json"
    page.write_text(to_html(collect(source=record(tmp_path))))
    done = subprocess.run(
        [browser, *_FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    shown = Page(done.stdout)
    assert "live" in str(shown.of("html")[0]["class"])
    curves = [path for path in shown.of("path") if "curve" in str(path.get("class"))]
    assert len(curves) > 6
    asked = {
        str(event["params"]["url"])
        for event in json.loads(log.read_text())["events"]
        if "url" in event.get("params", {})
    }
    of_the_page = {url for url in asked if not url.startswith(("file:", "data:", "chrome"))}
    assert {url for url in of_the_page if not _OWN.search(url)} == set()
