"""``flowprov settings``: files to start from, what holds, what is wrong, what a key means.

Flows in: settings, as a program that starts here would find them. Flows out: text, or JSON.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click
import msgspec

from flowprov.cli.completion import complete_profiles
from flowprov.cli.output import Failure, print_all, print_json, print_lines, table
from flowprov.cli.suggestions import SuggestingGroup
from flowprov.cli.tables import fit_columns
from flowprov.errors import SettingsError
from flowprov.settings import Settings, load_settings, parse_assignment
from flowprov.settings.explanation import describe_key, find_key, keys_below
from flowprov.settings.inspection import inspect_settings
from flowprov.settings.json_schema import settings_schema
from flowprov.settings.key_tree import FieldSpec, KeyPath, all_keys
from flowprov.settings.loader import FILE_NAME, PATH_VARIABLE, is_used
from flowprov.settings.origins import DEFAULT, DEFAULT_PROFILE
from flowprov.settings.profiles import PROFILES, describe_profile
from flowprov.settings.yaml_document import effective_yaml, starting_yaml, to_yaml

_Command = TypeVar("_Command", bound=Callable[..., Any])

_EXPERT = "expert"


class _SettingsGroup(SuggestingGroup):
    meant: ClassVar[Mapping[str, str]] = {"check": "validate"}


@click.group(cls=_SettingsGroup)
def settings() -> None:
    """Write, show, check and explain settings.

    Code and --set go above the environment, that above the file, that above its profile, and that above the
    defaults.
    """


def _source_options(command: _Command) -> _Command:
    """Add the options that say which settings are meant."""
    command = click.option("--set", "assignments", multiple=True, metavar="A.B=VALUE", help="A setting.")(
        command
    )
    return click.option(
        "--profile",
        metavar="NAME",
        help="The profile; by default that of the settings.",
        shell_complete=complete_profiles,
    )(command)


def _complete_key(_: click.Context, __: click.Parameter, beginning: str) -> list[str]:
    names = (".".join(path) for path, _ in all_keys())
    return [name for name in names if name.startswith(beginning)]


def _overrides(
    context: click.Context, profile: str | None, assignments: tuple[str, ...]
) -> dict[str, Any] | None:
    whole = (*(context.find_root().params.get("assignments") or ()), *assignments)
    overrides = dict(map(parse_assignment, whole))
    if profile is not None:
        overrides["profile"] = profile
    return overrides or None


@settings.command()
@click.argument("file", default=FILE_NAME, metavar="[FILE]")
@click.option("--profile", metavar="NAME", default=DEFAULT_PROFILE, help="The profile; cpu_only by default.")
@click.option("--full", is_flag=True, help="With the keys for experts.")
@click.option("--force", is_flag=True, help="Also over a file that is there.")
def init(file: str, profile: str, *, full: bool, force: bool) -> None:
    """Write a commented file of settings to start from.

    FILE is settings.yaml by default; "-" prints it. Only the profile is set in it. Each key stands in a
    comment, with the value that it has.
    """
    # What holds here by flowprov's own variables is not what the file says.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPROV_")}
    loaded = load_settings({"profile": profile}, environ=environ)
    if loaded.origins.of("journal.path") == DEFAULT:  # loading made it absolute
        path = Settings().journal.path
        journal = msgspec.structs.replace(loaded.journal, path=path)
        loaded = msgspec.structs.replace(loaded, journal=journal)
    text = starting_yaml(profile, loaded, full=full)
    if file == "-":
        print_all(text.splitlines())
        return
    try:
        with open(file, "w" if force else "x", encoding="utf-8") as stream:  # noqa: PTH123  a NUL is an OSError
            stream.write(text)
    except FileExistsError as error:
        raise Failure(f"{file} exists already: give another name, or --force to write over it") from error
    except ValueError as error:
        raise Failure(f"{file!r} is not a valid path") from error
    print_lines(f"wrote {file}, with the profile {profile}")


@settings.command()
@_source_options
@click.option("--origin", is_flag=True, help="Where each value comes from.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def show(
    context: click.Context, profile: str | None, assignments: tuple[str, ...], *, origin: bool, as_json: bool
) -> None:
    """Show the settings that hold for a program that starts here.

    Credentials are concealed. --origin shows for each key a file with its line, a variable, an override, a
    profile, or that it is a default.
    """
    root = context.find_root().params
    loaded = load_settings(root.get("path"), _overrides(context, profile, assignments))
    public = loaded.to_public_dict()
    values = dict(_flat({name: public[name] for name in loaded.key_names()}))
    origins = {key: loaded.origins.of(key) for key in values}
    if as_json:
        print_json({**public, "origins": origins} if origin else public)
    elif origin:
        rows = [(key, to_yaml(value), origins[key]) for key, value in values.items()]
        print_lines(f"profile {public['profile']}", "")
        print_all(fit_columns(table(("key", "value", "origin"), rows)))
    else:
        print_all(effective_yaml(loaded).splitlines())


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key that holds a value; a section that is off is one of them."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@settings.command()
@click.argument("file", required=False)
@_source_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def validate(
    context: click.Context,
    file: str | None,
    profile: str | None,
    assignments: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Check settings, and report everything that is wrong with them at once.

    FILE is by default what a program that starts here would use, else ./settings.yaml. The environment counts
    too. The exit status is 2 if anything is wrong.
    """
    named = file or context.find_root().params.get("path") or os.environ.get(PATH_VARIABLE) or None
    notes = []
    if named is None and Path(FILE_NAME).is_file():
        named = FILE_NAME
        if not is_used(FILE_NAME):
            notes.append(
                f'{FILE_NAME}: flowprov leaves it alone, as another program\'s; "flowprov: 1" as its first '
                "line says that it is flowprov's"
            )
    inspection = inspect_settings(named, _overrides(context, profile, assignments))
    notes += inspection.notes
    problems = inspection.problems
    if as_json:
        print_json({"valid": not problems, "problems": problems.lines(), "notes": notes})
        sys.exit(2 if problems else 0)
    print_all(f"note: {note}" for note in notes)
    if problems:
        raise Failure(problems.error())
    name = inspection.settings.origins.profile if inspection.settings is not None else DEFAULT_PROFILE
    print_lines(f"{named or 'the defaults'}: nothing is wrong; the profile is {name}")


@settings.command()
@click.argument("key", required=False, shell_complete=_complete_key)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def explain(context: click.Context, key: str | None, *, as_json: bool) -> None:
    """Explain a key, or list the keys of a section, or all of them.

    KEY is a dotted name (journal.heartbeat), or its end if that is the end of one key only (heartbeat).
    """
    path, spec = find_key(key) if key is not None else ((), None)
    if as_json:
        print_json([_as_json(*one) for one in keys_below(path)])
    elif spec is None or spec.section is not None:
        if spec is not None:
            print_lines(".".join(path), f"  {spec.key.meaning} {spec.key.details}".rstrip(), "")
        rows = [
            (".".join(one), _EXPERT if inner.key.expert else "", inner.key.meaning)
            for one, inner in keys_below(path)
        ]
        print_all(fit_columns(table(("key", "", "what"), rows)))
    else:
        mark = f"  ({_EXPERT})" if spec.key.expert else ""
        print_lines(".".join(path) + mark, f"  {spec.key.meaning} {spec.key.details}".rstrip(), "")
        pairs = [*describe_key(path, spec), ("now", _now(context, path))]
        width = max(len(word) for word, _ in pairs)
        print_all(f"  {word.ljust(width)}  {text}" for word, text in pairs)


def _now(context: click.Context, path: KeyPath) -> str:
    """Return the value that a key has here, and where it comes from."""
    try:
        loaded = load_settings(context.find_root().params.get("path"), _overrides(context, None, ()))
    except SettingsError:
        return "not known: flowprov settings validate says what is wrong"
    value: Any = loaded.to_public_dict()
    for name in path:
        value = None if value is None else value[name]
    return f"{to_yaml(value)}  ({loaded.origins.of('.'.join(path))})"


def _as_json(path: KeyPath, spec: FieldSpec) -> dict[str, Any]:
    words = dict(describe_key(path, spec))
    return {
        "key": ".".join(path),
        "meaning": spec.key.meaning,
        "details": spec.key.details,
        "expected": words["expected"],
        "choices": dict(spec.key.choices),
        "default": msgspec.to_builtins(spec.default),
        "can_be_off": spec.can_be_off(),
        _EXPERT: spec.key.expert,
        "variable": words["variable"],
    }


@settings.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def profiles(*, as_json: bool) -> None:
    """List the profiles.

    flowprov settings show --profile NAME --origin shows what one of them sets.
    """
    described = {name: describe_profile(name) for name in PROFILES}
    if as_json:
        print_json([{"name": name, "description": text} for name, text in described.items()])
    else:
        print_all(fit_columns(table(("profile", "for"), list(described.items()))))


@settings.command()
def schema() -> None:
    """Print the JSON Schema of a settings file, for editors."""
    print_json(settings_schema())
