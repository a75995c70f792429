"""Programs that this process starts: they learn from their environment where they belong.

Flows in: calls that start a program, and the current scope. Flows out: the same calls, with a few more
variables in the environment of the program alone.

``os.environ`` is not written to: all threads share it, and changing it while another thread reads it has
crashed programs. ``os.system`` takes no environment; its command is preceded by an ``export``. What native
code starts by itself (``system`` of the C library, MPI's spawn), and what was imported by
``from os import ...`` before the first workflow opened, is not reached.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from flowprov import guard
from flowprov.runtime import inheritance, runtime

_POPEN_ENV = 11  # the position of `env` among the arguments of Popen.__init__
_SPAWN_ENV = 2  # and among those of os.posix_spawn and os.execve
_MAX_COMMAND = 100_000  # the kernel takes no argument beyond 128 KiB


def wrap_all() -> None:
    """Wrap every function of Python that starts a program."""
    popen = _with_env(subprocess.Popen.__init__, _POPEN_ENV, optional=True)
    subprocess.Popen.__init__ = popen  # type: ignore[method-assign]
    for name in ("posix_spawn", "posix_spawnp"):
        _replace(name, lambda original: _with_env(original, _SPAWN_ENV, optional=sys.version_info >= (3, 13)))
    _replace("execve", lambda original: _with_env(original, _SPAWN_ENV, optional=False))
    # All others of this family (execl, execvp, spawnl, spawnvp ...) call one of these two.
    _replace("execv", _exec_with_variables)
    if os.name == "posix":
        _replace("system", _system_with_variables)


def _replace(name: str, wrap: Callable[[Any], Any]) -> None:
    original = getattr(os, name, None)
    if original is not None:
        wrapper = wrap(original)
        wrapper.__module__ = "os"  # where pickle finds it: `pool.map(os.system, commands)`
        setattr(os, name, wrapper)


def _with_env(original: Any, position: int, *, optional: bool) -> Any:
    """Return a function that adds the variables to the environment among its arguments.

    Parameters
    ----------
    original
        The function.
    position
        Where the environment stands, if it is not given as ``env``.
    optional
        Whether None stands for the environment of this process.
    """

    @functools.wraps(original)
    def start(*args: Any, **kwargs: Any) -> Any:
        with guard.guarded("propagating the campaign to a program"):
            given = args[position] if len(args) > position else kwargs.get("env")
            if optional or given is not None:
                env = with_variables(given)
                if len(args) > position:
                    args = (*args[:position], env, *args[position + 1 :])
                elif env is not None:
                    kwargs["env"] = env
        return original(*args, **kwargs)

    return start


def _exec_with_variables(original: Any) -> Any:
    @functools.wraps(original)
    def execv(path: Any, argv: Any, /) -> Any:
        env = None
        with guard.guarded("propagating the campaign to a program"):
            env = with_variables(None)
        return original(path, argv) if env is None else _execve(path, argv, env)

    return execv


_execve = os.execve


def _system_with_variables(original: Any) -> Any:
    @functools.wraps(original)
    def system(command: Any) -> int:
        with guard.guarded("propagating the campaign to a program"):
            command = _with_export(command)
        status: int = original(command)
        return status

    return system


def _with_export(command: Any) -> Any:
    """Return a command of the shell that is preceded by the variables."""
    if not isinstance(command, (str, bytes)) or len(command) > _MAX_COMMAND:
        return command
    variables = inheritance.variables(runtime.peek())
    if not variables:
        return command
    variables[inheritance.ENV_BUFFER] = os.environ.get(
        inheritance.ENV_BUFFER, variables[inheritance.ENV_BUFFER]
    )
    assignments = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    stale = [name for name in inheritance.NAMES if name in os.environ and name not in variables]
    prefix = f"export {assignments}; " + (f"unset {' '.join(stale)}; " if stale else "")
    return prefix + command if isinstance(command, str) else os.fsencode(prefix) + command


def with_variables(env: Any) -> Any:
    """Return an environment with the propagated variables added.

    An environment whose ``PATH`` is not that of this process was built from nothing on purpose: it stays as
    it is. So does what is no environment: the function that is called says so itself.
    """
    variables = inheritance.variables(runtime.peek())
    if not variables:
        return env
    if env is None:
        env = os.environ
    elif not isinstance(env, Mapping) or env.get("PATH") != os.environ.get("PATH"):
        return env
    # What this process inherited may be over: a child gets all of it from here, or nothing.
    others = {name: value for name, value in env.items() if name not in inheritance.NAMES}
    own_buffer = {name: env[name] for name in (inheritance.ENV_BUFFER,) if name in env}
    return {**others, **variables, **own_buffer}
