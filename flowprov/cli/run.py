"""``flowprov run``: an unchanged script, inside a workflow.

Flows in: a script and its arguments. Flows out: what the script prints, and its exit status.
"""

from __future__ import annotations

import os
import sys

import click

from flowprov.cli.completion import complete_files
from flowprov.cli.output import Failure
from flowprov.settings import parse_assignment
from flowprov.settings.profiles import PROFILES
from flowprov.settings.variables import PROFILE_VARIABLE


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("-m", "module", metavar="MODULE", help="Run a module, as python -m does.")
@click.option("--name", metavar="NAME", help="Name of the workflow; by default that of the script.")
@click.option("--profile", metavar="NAME", help="The profile: flowprov settings profiles lists them.")
@click.option("--set", "assignments", multiple=True, metavar="A.B=VALUE", help="A setting; can be repeated.")
@click.argument("script", required=False, shell_complete=complete_files)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(
    context: click.Context,
    module: str | None,
    name: str | None,
    profile: str | None,
    assignments: tuple[str, ...],
    script: str | None,
    arguments: tuple[str, ...],
) -> None:
    """Run a Python script inside a workflow that is named after it.

    The workflow holds the arguments, the exit status and the last lines of the output; what the script
    decorates is inside. The exit status is that of the script.
    """
    # Only here: the other commands do without the part of flowprov that records.
    from flowprov.runtime.runtime import configure
    from flowprov.script_run import run_module, run_script

    overrides = dict(map(parse_assignment, assignments))
    parent = context.parent.params if context.parent is not None else {}
    overrides = {**dict(map(parse_assignment, parent.get("assignments") or ())), **overrides}
    if profile is not None:
        overrides["profile"] = profile
    if parent.get("path") is not None or overrides:
        configure(parent.get("path"), **overrides)
    if profile is not None:
        _hand_over(profile)
    if module is not None:
        sys.exit(run_module(module, [*([script] if script is not None else []), *arguments], name=name))
    if script is None:
        raise Failure("flowprov run takes a script, as in: flowprov run train.py --lr 0.1")
    sys.exit(run_script(script, arguments, name=name))


def _hand_over(profile: str) -> None:
    """Let the programs that the script starts find the profile: each of them finds its settings by itself."""
    if profile not in PROFILES and not profile.startswith(("~", "$")):
        profile = os.path.abspath(profile)  # noqa: PTH100 - they may start in another folder
    os.environ[PROFILE_VARIABLE] = profile
