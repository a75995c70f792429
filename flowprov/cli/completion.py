"""What a shell completes: the names and ids of campaigns and runs.

Flows in: the beginning of a word. Flows out: words. Whatever goes wrong, a shell gets no word and no message.
A shell reads words and what is said of them line by line: neither may break a line, nor begin an option.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem

from flowprov.display import printable
from flowprov.settings.profiles import PROFILES

_MAX_BYTES = 20 << 20  # of journals, to look for runs: a person waits for the answer
_MAX_ITEMS = 200


class _Candidate(NamedTuple):
    id: str
    name: str | None
    help: str


def complete_campaigns(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the campaigns that a word can mean."""
    return _items(context, incomplete, with_runs=False)


def complete_ids(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the campaigns and runs that a word can mean; runs only of a buffer that is read in a moment."""
    return _items(context, incomplete, with_runs=True)


def complete_files(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Leave it to the shell to complete files and folders."""
    return [CompletionItem(incomplete, type="file")]


def complete_profiles(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Return the profiles that come with flowprov."""
    return [name for name in PROFILES if name.startswith(incomplete)]


def complete_sources(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the campaigns and runs that a word can mean; the shell adds files."""
    found = complete_files(context, parameter, incomplete)
    return found + complete_ids(context, parameter, incomplete)


def _items(context: click.Context, incomplete: str, *, with_runs: bool) -> list[CompletionItem]:
    logger = logging.getLogger("flowprov")
    logger.disabled = True
    try:
        found = list(_candidates(context, with_runs=with_runs))
    except Exception:  # of journals, settings, servers: a person who types a word asked for none of them
        return []
    finally:
        logger.disabled = False
    found.reverse()  # the latest first
    names = Counter(one.name for one in found)
    words = {word: one.help for one in found for word in _words(one, names, incomplete)}
    return [CompletionItem(word, help=words[word]) for word in list(words)[:_MAX_ITEMS]]


def _candidates(context: click.Context, *, with_runs: bool) -> Iterator[_Candidate]:
    from flowprov.read.campaign_names import campaign_of
    from flowprov.read.grouping import by_campaign
    from flowprov.read.questions import run_table
    from flowprov.read.source import Source

    given = context.params.get("sources") or [context.params.get("source") or _default(context)]
    for source in given:
        place = Source(source)
        groups = by_campaign(place.summaries())
        for name, journals in groups.items():
            yield _Candidate(name, campaign_of(journals).name, "campaign")
        size = sum(journal.path.stat().st_size for journals in groups.values() for journal in journals)
        if with_runs and not place.is_server and size <= _MAX_BYTES:
            for line in run_table(source):
                campaign = printable(line["campaign"] or "a campaign")
                yield _Candidate(str(line["run_id"]), line["name"], f"run of {campaign}")


def _default(context: click.Context) -> str | None:
    """Return the buffer folder of the options before the command; None if there are none."""
    from flowprov.settings import load_settings, parse_assignment

    options = context.find_root().params
    overrides = dict(map(parse_assignment, options.get("assignments") or ()))
    if options.get("path") is None and not overrides:
        return None
    return load_settings(options.get("path"), overrides).journal.path


def _words(one: _Candidate, names: Mapping[str | None, int], incomplete: str) -> Iterator[str]:
    """Yield the word that means a candidate alone, if it begins so: its name, else its id."""
    is_unique = one.name is not None and names[one.name] == 1
    if is_unique and _is_word(str(one.name)) and str(one.name).startswith(incomplete):
        yield str(one.name)
    elif one.id.startswith(incomplete) and _is_word(one.id):
        yield one.id


def _is_word(text: str) -> bool:
    """Whether a shell takes a text as one word, as it stands, and a command as no option.

    What click gives to fish ends a word at a comma.
    """
    return (
        text.isprintable()
        and not text.startswith("-")
        and not any(char in " \t'\"\\$`;|&<>()*?[]{}!#~," for char in text)
    )
