"""YAML files of settings, made from the keys: the delivered one, one to start from, and what holds.

Flows in: the keys, and the settings whose values stand in the file. Flows out: text.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from flowprov.settings.key_tree import FieldSpec, fields
from flowprov.settings.origins import DEFAULT_PROFILE
from flowprov.settings.profiles import PROFILES, describe_profile
from flowprov.settings.schema import Settings
from flowprov.settings.section import Section, public_value
from flowprov.settings.sources import PROFILE_KEY, VERSION_KEY
from flowprov.settings.yaml_text import parse_value

_WIDTH = 108
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./ +-]*")
_EXPERT = "[expert] "

_HEAD = """\
The settings of flowprov. Each line that begins with "#" and a key shows a value that holds already. To change
it, take away the "#" before the key and before the sections around it; the other keys keep the values of the
profile. Keep this file as settings.yaml in the folder in which your program starts, or name it with

    flowprov.configure("path/to/settings.yaml")      or      FLOWPROV_SETTINGS_PATH=path/to/settings.yaml

You can also set single keys in the environment, with two underscores between the levels. They go above this
file:

    FLOWPROV__JOURNAL__HEARTBEAT=30

"flowprov settings" writes such a file (init), checks it (validate), says what a key means (explain), and what
holds and where it comes from (show --origin).

"~" means "nothing" or "off". ${NAME} and ${NAME:-default} stand for variables of the environment. An unknown
key, or a value of a wrong type, is reported with its line when the settings are loaded. Durations are in
seconds, sizes in bytes."""

_MARK = """\
Marks this file as flowprov's, because other programs have a settings.yaml too. Keep it as the first key. A
file ./settings.yaml without it is used only if every line of it is valid here; else it is left alone, and
that is said if it looks like flowprov's."""


def delivered_yaml() -> str:
    """Return the text of the delivered ``settings.yaml``: every key, with its default."""
    return starting_yaml(DEFAULT_PROFILE, Settings(), full=True)


def starting_yaml(profile: str, settings: Settings, *, full: bool) -> str:
    """Return the text of a file to start from, in which only the profile is set.

    A key that is set goes above every profile, so the others stand in comments.

    Parameters
    ----------
    profile
        The profile.
    settings
        Its settings: their values stand in the comments.
    full
        Whether the keys for experts are there, too.
    """
    lines = [*_comment(_HEAD, wrap=False), "", *_comment(_MARK, wrap=False), f"{VERSION_KEY}: 1", ""]
    lines += _comment("The profile: what the keys have that are not set here.")
    lines += _choices({name: describe_profile(name) for name in PROFILES})
    lines += _comment("A profile of your own extends one of them: {extends: single_gpu, journal: …}.")
    lines += [f"{PROFILE_KEY}: {to_yaml(profile)}", "", *_section(settings, full=full, indent=0)]
    return "\n".join(lines).rstrip() + "\n"


def _section(section: Section, *, full: bool, indent: int) -> Iterator[str]:
    """Yield the lines of the keys of a section, each in a comment."""
    for name, spec in fields(type(section)).items():
        if not (full or _is_for_all(spec)):
            continue
        value = getattr(section, name)
        yield from _key_comment(spec, indent)
        start = f"#{' ' * indent}{name}:"
        if isinstance(value, Section):
            yield start
            yield from _section(value, full=full, indent=indent + 2)
        else:
            if spec.section is not None:
                yield from _example(name, spec.section)
            yield f"{start} {to_yaml(public_value(name, value))}"
            yield ""


def _is_for_all(spec: FieldSpec) -> bool:
    """Whether a key, or one of those in a section, is not only for experts."""
    if spec.section is None:
        return not spec.key.expert
    return any(_is_for_all(inner) for inner in fields(spec.section).values())


def _key_comment(spec: FieldSpec, indent: int) -> list[str]:
    key = spec.key
    text = f"{_EXPERT if key.expert else ''}{key.meaning} {key.details}".rstrip()
    return [*_comment(text, indent=indent), *_choices(key.choices, indent)]


def _comment(text: str, *, indent: int = 0, wrap: bool = True) -> list[str]:
    start = " " * indent + "#"
    lines = textwrap.wrap(text, _WIDTH - indent - 2) if wrap else text.splitlines()
    return [f"{start} {line}".rstrip() for line in lines]


def _choices(choices: Mapping[str, str], indent: int = 0) -> list[str]:
    """Return a comment with a line for each choice, its meaning behind it."""
    width = max(map(len, choices), default=0)
    lines: list[str] = []
    for choice, meaning in choices.items():
        beginning = f"{' ' * indent}#   {choice.ljust(width)}    "
        following = f"{' ' * indent}#   {' ' * width}    "
        lines += textwrap.wrap(meaning, _WIDTH, initial_indent=beginning, subsequent_indent=following)
    return lines


def _example(name: str, section: type[Section]) -> Iterator[str]:
    """Yield an example of a section that is off, as a comment."""
    yield "#"
    yield f"#     {name}:"
    for inner, spec in fields(section).items():
        value = spec.default if spec.key.example is None else spec.key.example
        start = f"#       {inner}: {to_yaml(value)}".ljust(26)
        texts = [f"{spec.key.meaning}", *(f"{choice}: {text}" for choice, text in spec.key.choices.items())]
        yield f"{start} # {texts[0]}"
        for text in texts[1:]:
            yield f"{'#'.ljust(26)} # {text}"


def to_yaml(value: Any) -> str:
    """Return a value of the settings as YAML on one line."""
    if value is None:
        return "~"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(int(value)) if float(value).is_integer() else repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(to_yaml(one) for one in value)}]"
    text = str(value)
    is_plain = _PLAIN.fullmatch(text) is not None and text == text.strip() and parse_value(text) == text
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def effective_yaml(settings: Settings) -> str:
    """Return settings as YAML without comments, their credentials concealed."""
    public = settings.to_public_dict()
    name = public["profile"]
    # Of a profile of the user's only the name is known; all of its values stand below.
    profile = f"{PROFILE_KEY}: {to_yaml(name)}" if name in PROFILES else f"# {PROFILE_KEY}: {name}"
    lines = [f"{VERSION_KEY}: 1", profile]
    return "\n".join([*lines, *_plain({name: public[name] for name in settings.key_names()}, 0)]) + "\n"


def document_of(values: Mapping[str, Any]) -> str:
    """Return the text of a settings file with these values, and the mark that it is flowprov's."""
    return "\n".join([f"{VERSION_KEY}: 1", *_plain(values, 0)]) + "\n"


def _plain(values: Mapping[str, Any], indent: int) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield f"{' ' * indent}{name}:"
            yield from _plain(value, indent + 2)
        else:
            yield f"{' ' * indent}{name}: {to_yaml(value)}"
