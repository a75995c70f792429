"""Git as a process: it runs no code of the repository, writes and fetches nothing, and never takes too long.

Flows in: a folder, arguments, a deadline. Flows out: what git printed, or why there is no answer.

A repository's own configuration may name programs: hooks, a monitor of files, filters, programs for diffs.
All of them are switched off, and the callers empty the filters (see ``git_filters``). The process is waited
for here and not by :mod:`subprocess`: that takes a process for a success which somebody else has waited for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flowprov.regular_files import FileIdentity, close_own, is_own, mark_own

NOT_INSTALLED = "git is not installed"
TIMEOUT = "git took too long"
_CLOSED = "the program closed the pipes of git"

_NEVER_RUNS = (
    "--no-pager",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "diff.autoRefreshIndex=false"),
    *("-c", "status.submoduleSummary=false"),
    *("-c", "core.quotePath=false"),
)
_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
# Of git's variables those stay that say where it is and how the user has configured it. The others would lead
# to another repository, or have git write or start something.
_KEPT_VARIABLES = (
    "GIT_EXEC_PATH",
    "GIT_CONFIG_",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM",
)
_MAX_OUTPUT = 64 << 20
_FIRST_FREE = 3  # the descriptors below are standard input, output and error
_POLL_S = 0.002


class GitAnswer(NamedTuple):
    """What git answered.

    Attributes
    ----------
    output
        What it printed.
    failure
        Why that is no answer; None if it is one.
    """

    output: bytes
    failure: str | None = None


class _End(NamedTuple):
    """An end of a pipe, known by more than its number."""

    number: int
    identity: FileIdentity | None


def run_git(
    folder: Path | str,
    arguments: Sequence[str],
    deadline: float,
    *,
    settings: Iterable[str] = (),
    max_output: int = _MAX_OUTPUT,
) -> GitAnswer:
    """Run a command of git that reads.

    Parameters
    ----------
    folder
        The top of the working tree. If that is no repository, the folders around it are not looked at.
    arguments
        The command.
    deadline
        When it is killed, on the monotonic clock.
    settings
        Further settings, as ``name=value``.
    max_output
        The most bytes that it may print.
    """
    program = find_git()
    if program is None:
        return GitAnswer(b"", NOT_INSTALLED)
    if time.monotonic() >= deadline:
        return GitAnswer(b"", TIMEOUT)
    more = [part for setting in settings for part in ("-c", setting)]
    command: list[str] = [program, "-C", os.fspath(folder), *_NEVER_RUNS, *more, *arguments]
    try:
        return _run(command, reading_environment(folder), deadline, max_output)
    except (OSError, ValueError) as error:  # no process, no descriptor; a NUL in a path
        return GitAnswer(b"", f"git cannot be started: {error}")


def find_git() -> str | None:
    """Return the path of git; None if it is not installed.

    Folders that depend on the current one are left out: a repository may hold a program named git.
    """
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = Path(folder, "git")
        if path.is_absolute() and os.access(path, os.X_OK) and not path.is_dir():
            return str(path)
    return None


def reading_environment(folder: Path | str) -> dict[str, str]:
    """Return the environment of this process, changed so that git only reads, and only this repository."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(_KEPT_VARIABLES)
    }
    return {**kept, **_ENVIRONMENT, "GIT_CEILING_DIRECTORIES": str(Path(folder).parent)}


def _run(command: list[str], environment: Mapping[str, str], deadline: float, max_output: int) -> GitAnswer:
    with contextlib.ExitStack() as ours:
        with contextlib.ExitStack() as ends_of_git:
            output, output_end = _pipe(ours, ends_of_git)
            errors, errors_end = _pipe(ours, ends_of_git)
            if not all(is_own(*end) for end in (output, output_end, errors, errors_end)):
                return GitAnswer(b"", _CLOSED)
            process = _spawn(command, environment, output_end.number, errors_end.number)
        read = status = None
        try:
            read = _read(output, errors, max_output, deadline)
            if read is not None and len(read[0]) <= max_output:
                status = _wait(process, deadline)
        finally:
            if status is None:
                _kill(process)
    if read is not None and len(read[0]) > max_output:
        return GitAnswer(b"", f"git printed more than {max_output >> 20} MiB")
    if read is None or status is None:
        return GitAnswer(b"", TIMEOUT)
    printed, complaint = read
    return GitAnswer(printed, None if status == 0 else _describe_failure(status, complaint))


def _spawn(command: list[str], environment: Mapping[str, str], output: int, errors: int) -> int:
    return os.posix_spawn(
        command[0],
        command,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, errors, 2),
        ],
        setpgroup=0,  # so that it can be killed together with what it started; Ctrl-C does not reach it
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them
    )


def _pipe(readers: contextlib.ExitStack, writers: contextlib.ExitStack) -> tuple[_End, _End]:
    """Return the ends of a pipe, neither of which is a standard stream, even if the program closed these.

    Each end is closed by one of the two stacks, and never twice: another thread may have its number then.
    """
    numbers = os.pipe()
    os.set_blocking(numbers[0], False)
    ends = []
    for number, stack in zip(numbers, (readers, writers), strict=True):
        end = _End(number, mark_own(number))
        if number < _FIRST_FREE:
            high = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
            close_own(*end)
            end = _End(high, end.identity)  # another number for the same open file, which has the mark
        stack.callback(close_own, *end)
        ends.append(end)
    return ends[0], ends[1]


def _read(output: _End, errors: _End, max_output: int, deadline: float) -> tuple[bytes, bytes] | None:
    """Return what comes from two pipes until they end, or one holds too much; None at the deadline.

    None, too, if the program closes them: their numbers may be those of its own files then.
    """
    read: dict[int, list[bytes]] = {output.number: [], errors.number: []}
    known = dict((output, errors))
    size = 0
    poll = select.poll()
    for descriptor in read:
        poll.register(descriptor, select.POLLIN)
    open_pipes = set(read)
    while open_pipes and size <= max_output:
        if (remaining := deadline - time.monotonic()) <= 0:
            return None
        for descriptor, _ in poll.poll(remaining * 1000 + 1):
            if not is_own(descriptor, known[descriptor]):
                return None
            block = os.read(descriptor, 1 << 16)
            if not block:
                poll.unregister(descriptor)
                open_pipes.remove(descriptor)
            elif descriptor == output.number:
                read[output.number].append(block)
                size += len(block)
            elif not read[errors.number]:  # its first words are enough
                read[errors.number].append(block)
    return b"".join(read[output.number]), b"".join(read[errors.number])


def _wait(process: int, deadline: float) -> int | None:
    """Return the exit status of a process that has closed its output; None if it does not end.

    None, too, if the program waits for all children, or ignores their ends: what git says of a failure is the
    same as nothing then.
    """
    while True:
        try:
            ended, status = os.waitpid(process, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(_POLL_S)


def _kill(process: int) -> None:
    """Kill what is left of a process and of those that it started."""
    with contextlib.suppress(OSError):
        os.killpg(process, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):  # it was waited for
        for _ in range(50):  # one that hangs in the kernel is left alone
            if os.waitpid(process, os.WNOHANG)[0]:
                return
            time.sleep(_POLL_S)


def _describe_failure(status: int, errors: bytes) -> str:
    first = errors.decode("utf-8", "replace").strip().splitlines()[:1]
    return first[0] if first else f"git ended with status {status}"
