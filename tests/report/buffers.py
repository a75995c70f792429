"""The campaign that the tests of reports share, with names that would be HTML, and a reader of pages."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from tests.support import WITHOUT_VERSIONS, run

SCRIPT, IMAGE = "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>"
_PROGRAM = """
    import time
    from pathlib import Path
    import flowprov

    NAMES = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a\\nb", "x" * 10_000,
             "\\u202e{{ 7 * 7 }}", "plain"]

    @flowprov.task
    def load(path):
        return {"rows": 3}

    @flowprov.task
    def train(lr, layers, name):
        load("data")
        loop = flowprov.EpochLoop(400)
        for epoch in loop:
            loss = float("nan") if layers == 5 and 300 < epoch < 350 else lr + 1 / (epoch + 1)
            if epoch == 77:
                loss += 5  # a peak of one step
            loop.end_iter({"val_loss": loss, "acc <b>": 1 - lr})
            if layers == 2 and epoch == 9:
                raise ValueError(f"diverged <b>{name}</b>\\nsecond line")

    flowprov.configure(telemetry_capture={"cpu": True, "mem": True, "process": True, "interval": 0.02})
    with flowprov.campaign("search <b>&amp;</b>"), flowprov.workflow("W </title>", used={"data": "d"}):
        with open("in.bin", "wb") as file:
            file.write(b"1234")
        flowprov.use_artifact("in.bin", name="in </svg>")
        for number, name in enumerate(NAMES):
            try:
                train(0.5 - number / 100, number, name)
            except ValueError:
                pass
        with open("out.bin", "wb") as file:
            file.write(b"12345")
        flowprov.log_artifact("out.bin", name="out")
        # On a busy machine all of this may be over before the sampler has begun.
        while sum(path.read_bytes().count(b'{"type":"sample"') for path in Path().rglob("*.jsonl")) < 5:
            time.sleep(0.01)
"""
_VOID = {"meta", "input", "br"}


def record(folder: Path) -> Path:
    """Record the campaign; return its buffer."""
    run(_PROGRAM, folder, env=WITHOUT_VERSIONS)
    return folder / "flowprov_buffer"


class Page(HTMLParser):
    """What a page holds: its elements, the text of each kind of element, and whether all are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of an element without content."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element, which must be of that name."""
        assert self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data: str) -> None:
        """Take note of a text."""
        if data.strip() and self.open:
            self.texts.setdefault(self.open[-1], []).append(data.strip())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of a name."""
        return [attributes for name, attributes in self.elements if name == tag]
