"""What is said of keys: in ``flowprov settings explain``, in the table of the reference.

Flows in: the keys. Flows out: texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowprov.errors import UnknownIdError
from flowprov.settings.key_tree import FieldSpec, KeyPath, all_keys
from flowprov.settings.profiles import PROFILES, describe_profile
from flowprov.settings.report import closest, shorten
from flowprov.settings.variables import ENVIRONMENT_PREFIX, variable_of
from flowprov.settings.wording import describe_type
from flowprov.settings.yaml_document import to_yaml


def find_key(key: str) -> tuple[KeyPath, FieldSpec]:
    """Return the path and the description of a key, given as ``a.b`` or ``FLOWPROV__A__B``.

    Raises
    ------
    UnknownIdError
        If there is none; the message names the closest.
    """
    wanted = key.removeprefix(ENVIRONMENT_PREFIX).replace("__", ".").lower()
    by_name = {".".join(path): (path, spec) for path, spec in all_keys()}
    if wanted in by_name:
        return by_name[wanted]
    ends = [name for name in by_name if name.endswith(f".{wanted}")]
    if len(ends) == 1:
        return by_name[ends[0]]
    last = {path[-1]: name for name, (path, _) in reversed(by_name.items())}
    choice = closest(wanted, by_name) or last.get(closest(wanted.rpartition(".")[2], last) or "")
    if len(ends) > 1:
        choice = '" or "'.join(ends)
    hint = f'did you mean "{choice}"?' if choice else "flowprov settings explain lists all"
    raise UnknownIdError(f'the settings have no key "{shorten(key)}"; {hint}')


def keys_below(path: KeyPath) -> Iterator[tuple[KeyPath, FieldSpec]]:
    """Yield a key and what is in it, sections left out."""
    for other, spec in all_keys():
        if other[: len(path)] == path and spec.section is None:
            yield other, spec


def describe_key(path: KeyPath, spec: FieldSpec) -> list[tuple[str, str]]:
    """Return what is known of a key that is no section, as pairs of a word and a text."""
    pairs = [("expected", describe_type(spec.type_hint))]
    pairs += [(f"  {choice}", meaning) for choice, meaning in spec.key.choices.items()]
    pairs.append(("default", to_yaml(spec.default)))
    pairs.append(("off", _off(spec) or "it has no off"))
    pairs.append(("variable", variable_of(path)))
    return pairs


def keys_table() -> str:
    """Return a table of all keys in Markdown."""
    rows = [("key", "expected", "default", "off", "what")]
    for path, spec in keys_below(()):
        choices = "; ".join(f"`{choice}`: {meaning}" for choice, meaning in spec.key.choices.items())
        meaning = " ".join(filter(None, [spec.key.meaning, choices and f"{choices}.", spec.key.details]))
        expected = describe_type(spec.type_hint)
        mark = " *(expert)*" if spec.key.expert else ""
        off = f"`{_off(spec)}`" if _off(spec) else ""
        rows.append((f"`{'.'.join(path)}`{mark}", expected, f"`{to_yaml(spec.default)}`", off, meaning))
    return _markdown(rows)


def profiles_table() -> str:
    """Return a table of the profiles in Markdown."""
    return _markdown([("profile", "for"), *((f"`{name}`", describe_profile(name)) for name in PROFILES)])


def _off(spec: FieldSpec) -> str:
    """Return what a person writes to switch a key off; empty if it cannot be off."""
    return "~" if spec.can_be_off() else "false" if spec.type_hint is bool else ""


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
