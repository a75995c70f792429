"""Where the output goes: a terminal, a file, a pipe.

Flows in: lines in which nothing steers a terminal any more. Flows out: the same lines, in color on a terminal
where rich is installed.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # as in flowprov/__init__.py
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_STYLES = {
    "green": "FINISHED|COMPLETE",
    "red": "ERROR|INCOMPLETE",
    "yellow": "INTERRUPTED|CANCELLED",
    "cyan": "RUNNING|SUBMITTED",
}
_SHORT = 19  # characters: terminals may be so narrow
_IN_A_COLUMN = r"(?:(?<=  )|^)(?:{})(?=  |:|$)"  # not where a recorded text has the same word


class OutputError(OSError):
    """The output cannot be written: a full disk, or a device that fails."""


def write(lines: Iterable[str], stream: Any) -> bool:
    """Write lines; return whether anybody reads on. A reader that closes the pipe early is no error."""
    if stream is None:  # the command was started without one
        return False
    encoding = stream.encoding or "utf-8"
    paint = _painter(stream)
    for line in lines:
        # The text may hold characters that this terminal cannot show.
        shown = paint(line.encode(encoding, "backslashreplace").decode(encoding))
        if not _attempt(lambda text=shown: print(text, file=stream), stream):  # type: ignore[misc]
            return False
    return _attempt(stream.flush, stream)


def is_terminal(stream: Any) -> bool:
    """Whether a person sees what is written to a stream, at once."""
    return stream is not None and bool(stream.isatty())


def wait(seconds: float, stream: Any) -> bool:
    """Wait; return whether anybody reads a stream on. It ends at once if nobody does."""
    import select

    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # it has no descriptor: nobody can close it
        time.sleep(seconds)
        return True
    found = poll.poll(seconds * 1000)
    if found and found[0][1] & select.POLLNVAL:  # a kind of file that this system cannot watch
        time.sleep(seconds)
        return True
    return not found


def overwrite_line(text: str, stream: Any) -> None:
    """Write a short text over the present line of a terminal, which stays the present one."""
    _attempt(lambda: print(f"\r{text:<{_SHORT}}\r{text}", end="", file=stream, flush=True), stream)


def end_line(stream: Any) -> None:
    """End the line in which a terminal shows ``^C``."""
    if is_terminal(stream):
        write([""], stream)


def _attempt(action: Callable[[], Any], stream: Any) -> bool:
    try:
        action()
    except BrokenPipeError:
        _discard(stream)
        return False
    except OSError as error:
        _discard(stream)
        raise OutputError(error.errno, error.strerror) from error
    return True


def _discard(stream: Any) -> None:
    """Lead a stream nowhere: the interpreter flushes it once more at its end, and would report that."""
    try:  # noqa: SIM105 - contextlib takes time to import, and `flowprov --help` none
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except OSError:  # it has no descriptor
        pass


def _painter(stream: Any) -> Callable[[str], str]:
    """Return what colors a line: nothing does in a pipe, with NO_COLOR, or without rich."""
    if not is_terminal(stream) or os.environ.get("NO_COLOR"):
        return str
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        return str
    console = Console(file=stream, soft_wrap=True, highlight=False)

    def paint(line: str) -> str:
        text = Text(line)
        for style, words in _STYLES.items():
            text.highlight_regex(_IN_A_COLUMN.format(words), style)
        with console.capture() as capture:
            console.print(text, end="")
        return capture.get()

    return paint
