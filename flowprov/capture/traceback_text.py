"""The traceback of an exception as text: what Python prints, in bounded time and without foreign code.

Flows in: an exception of the program. Flows out: its frames, message and notes, its causes and members.
``traceback`` opens whatever file a frame names, and compiles each line of source twice to point at a part of
it. Here lines come from :mod:`flowprov.source_lines`, and nothing is pointed at. The text of a frame is put
together once for each place in the code: programs retry, and use exceptions to return.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from itertools import groupby
from types import CodeType, TracebackType
from typing import Any

from flowprov.source_lines import source_lines
from flowprov.values.messages import short_text

_MAX_FRAMES = 40
_MAX_CAUSES = 10
_MAX_MEMBERS = 15  # of a group, as Python has it
_MAX_DEPTH = 10  # of groups in groups, as above
_MAX_EXCEPTIONS = 100  # of all groups together
_MAX_NOTES = 100
_MAX_NOTE = 2_000
_MAX_REPEATED = 3  # times that a line of a recursion is shown, as above
_MAX_PLACES = 1_024

_FRAME = '  File "'
_HEAD = "Traceback (most recent call last):\n"
RECURRING = (_FRAME, _HEAD)
"""How those parts begin that are the same for many exceptions."""

# As the interpreter puts it.
_CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
_FOLLOWED = "\nDuring handling of the above exception, another exception occurred:\n\n"

# An exception's own class may declare attributes of these names. Its code does not run.
_cause_of, _context_of, _suppresses_context, _trace_of, _attributes_of = (
    BaseException.__dict__[name].__get__
    for name in ("__cause__", "__context__", "__suppress_context__", "__traceback__", "__dict__")
)
_GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())  # since Python 3.11
_members_of = _GROUP.__dict__["exceptions"].__get__ if _GROUP else None
_SYNTAX = {name: SyntaxError.__dict__[name].__get__ for name in ("filename", "lineno", "text", "msg")}

# By place: the code, which is kept so that no other gets its id, and the text.
_places: dict[tuple[int, int | None], tuple[CodeType, str]] = {}


def exception_parts(error: BaseException, message_of: Callable[[BaseException], str]) -> list[str]:
    """Return what Python would print, without frames and causes that are far away from the exception.

    Each task through which an exception passes records it. So the cost of each record must not grow with the
    number of tasks.

    Parameters
    ----------
    error
        The exception.
    message_of
        Returns the message of an exception; it is called once for each that is printed.

    Returns
    -------
    list of str
        The text in parts of whole lines: a frame; or type, message and notes of an exception.
    """
    text = _Text(message_of)
    text.add_chain(error)
    return text.parts


class _Text:
    """The text of an exception, as far as it is written.

    Parameters
    ----------
    message_of
        As for `exception_parts`.
    """

    def __init__(self, message_of: Callable[[BaseException], str]) -> None:
        self.parts: list[str] = []
        self._message_of = message_of
        self._seen: set[int] = set()
        self._left = _MAX_EXCEPTIONS
        self._depth = 0  # of groups
        self._is_closed = True  # whether no group waits for the line at its end

    def add_chain(self, error: BaseException) -> None:
        """Add an exception behind its causes."""
        chain = [(error, "")]
        self._seen.add(id(error))
        while len(chain) < _MAX_CAUSES:
            nearer, link = _cause_of(error), _CAUSED
            if nearer is None:
                nearer, link = None if _suppresses_context(error) else _context_of(error), _FOLLOWED
            if nearer is None or id(nearer) in self._seen:
                break
            self._seen.add(id(nearer))
            chain.append((nearer, link))
            error = nearer
        self._left -= len(chain)
        for error, link in reversed(chain):
            if not issubclass(type(error), _GROUP):
                self._add_alone(error, _HEAD)
            elif self._depth > _MAX_DEPTH:
                self._add(f"... (max_group_depth is {_MAX_DEPTH})\n")
            else:
                self._add_group(error)
            if link:
                self._add(link)

    def _add(self, text: str, margin: str = "| ") -> None:
        """Add lines, at the depth of their group."""
        if self._depth:
            indent = "  " * self._depth + margin
            text = "".join([indent + line for line in text.splitlines(keepends=True)])
        self.parts.append(text)

    def _add_alone(self, error: BaseException, head: str, margin: str = "| ") -> None:
        """Add an exception without its causes and members."""
        trace = _last_frames(_trace_of(error))
        if trace is not None:
            self._add(head, margin)
            texts = _frame_texts(trace)
            if self._depth == 0:
                self.parts += texts
            else:
                self._add("".join(texts))
        self._add(_last_lines(error, self._message_of(error)))

    def _add_group(self, error: BaseException) -> None:
        is_outermost = self._depth == 0
        self._depth += is_outermost
        self._add_alone(error, f"Exception Group {_HEAD}", "+ " if is_outermost else "| ")
        members = _members_of(error)  # type: ignore[misc]  # there are no groups without it
        shown = members[: max(min(_MAX_MEMBERS, self._left), 0)]
        left_out = len(members) - len(shown)
        titles = [str(number + 1) for number in range(len(shown))] + ["..."] * bool(left_out)
        self._is_closed = True
        for number, title in enumerate(titles):
            is_last = number == len(titles) - 1
            self._is_closed = not is_last  # a group within adds the line at its end for this one, too
            indent = "  " * self._depth + ("  " if number else "+-")
            self.parts.append(f"{indent}+---------------- {title} ----------------\n")
            self._depth += 1
            if number < len(shown):
                self.add_chain(shown[number])
            else:
                self._add(f"and {left_out} more exception{'s' * (left_out > 1)}\n")
            if is_last and not self._is_closed:
                self.parts.append("  " * self._depth + "+------------------------------------\n")
                self._is_closed = True
            self._depth -= 1
        self._depth -= is_outermost


def _last_lines(error: BaseException, message: str) -> str:
    """Return what stands below the frames: the type and the message of an exception, and its notes."""
    name = _type_text(type(error))
    if issubclass(type(error), SyntaxError):
        text = _syntax_error_text(error, name)
    else:
        text = f"{name}: {message}\n" if message else f"{name}\n"
    notes = dict.get(_attributes_of(error), "__notes__")
    if notes is None:
        return text
    items = notes[-_MAX_NOTES:] if type(notes) in (list, tuple) else [notes]
    for note in items:
        text += (note[:_MAX_NOTE] if type(note) is str else short_text(note, _MAX_NOTE)) + "\n"
    return text


def _type_text(kind: type[BaseException]) -> str:
    is_plain = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if is_plain else f"{kind.__module__}.{kind.__qualname__}"


def _syntax_error_text(error: BaseException, name: str) -> str:
    """Return what is said of an error in a source: where it is, and the line."""
    filename, line, source, message = (read(error) for read in _SYNTAX.values())
    filename = filename if type(filename) is str else None
    place, text = "", ""
    if type(line) is int:
        place = f'  File "{filename or "<string>"}", line {line}\n'
    elif filename is not None:
        text = f" ({filename})"
    if type(source) is str:
        place += f"    {source.strip()[:_MAX_NOTE]}\n"
    return f"{place}{name}: {message if type(message) is str else '<no detail available>'}{text}\n"


def _last_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without frames that are far away from where the exception was raised."""
    ahead = trace
    for _ in range(_MAX_FRAMES):
        ahead = None if ahead is None else ahead.tb_next
    while ahead is not None and trace is not None:
        ahead, trace = ahead.tb_next, trace.tb_next
    return trace


def _frame_texts(trace: TracebackType | None) -> list[str]:
    """Return the frames of a traceback. A line that recurs is shown three times, and then counted."""
    places: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        known = _places.get((id(code), trace.tb_lineno))
        places.append(_describe_place(trace) if known is None else known[1])
        trace = trace.tb_next
    if len(set(places)) == len(places):
        return places
    parts: list[str] = []
    for text, repeated in groupby(places):
        count = len(list(repeated))
        parts += [text] * min(count, _MAX_REPEATED)
        if count > _MAX_REPEATED:
            more = count - _MAX_REPEATED
            parts.append(f"  [Previous line repeated {more} more time{'s' * (more > 1)}]\n")
    return parts


def _describe_place(trace: TracebackType) -> str:
    """Return the text of a frame: file, line and function, and the line of source if it can be had."""
    code, number = trace.tb_frame.f_code, trace.tb_lineno
    text = f'{_FRAME}{code.co_filename}", line {number}, in {code.co_name}\n'
    lines = source_lines(code.co_filename, trace.tb_frame.f_globals)
    if number is not None and 0 < number <= len(lines):
        line = lines[number - 1]
        if type(line) is str and (line := line.strip()):
            text += f"    {line}\n"
    if len(_places) >= _MAX_PLACES:  # a program may make new code without end
        _places.clear()
    _places[id(code), number] = code, text
    return text
