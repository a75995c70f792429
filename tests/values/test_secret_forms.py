"""Secrets by their form: each is found wherever it stands, ordinary values stay, and no text takes long."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowprov.records import Task
from flowprov.values import Summarizer
from flowprov.values.redaction import DEFAULT, Redactor
from flowprov.values.secret_forms import FORMS, is_secret_of_aws
from tests.support import REPOSITORY, lines, of_type, run
from tests.values.secret_samples import FURTHER, HOSTILE, INNOCENT, SAMPLES, SHA1
from tests.values.support import SUMMARIZER, recorded

PART = 8


PLACES: dict[str, Callable[[str], Any]] = {
    "alone": lambda secret: secret,
    "in a sentence": lambda secret: f"we use {secret} for it",
    "quoted": lambda secret: f'["x", "{secret}"]',
    "behind a name": lambda secret: f"x={secret}",
    "behind a colon": lambda secret: f"value:{secret}",
    "in a URL": lambda secret: f"https://host/{secret}/x",
    "behind a hyphen": lambda secret: f"the-{secret}",
    "long text": lambda secret: "lorem ipsum " * 60 + secret + " dolor" * 20,
    "at the cut": lambda secret: "lorem ipsum " * 82 + secret + " dolor" * 99,
    "in a list": lambda secret: ["a", [secret]],
    "in a set": lambda secret: {secret, "b"},
    "as a key": lambda secret: {secret: 1},
    "as an error": lambda secret: ValueError(f"bad {secret}"),
}


def _left(secret: str, form: object) -> list[str]:
    """Return the parts of a secret, without the words that all of its form have, that are still there."""
    body = re.sub(
        r"-----[A-Z ]+-----|^(?:https://)?[a-z.]+/[a-z/0-9]*|^sk_live_|/sendMessage|github_pat_|AGE-SECRET-KEY",
        " ",
        secret,
    )
    parts = [word[i : i + PART] for word in re.split(r"[\s\\]+", body) for i in range(len(word) - PART + 1)]
    assert parts
    return [part for part in parts if part in str(form)]


def test_there_is_a_sample_of_each_form() -> None:
    assert list(SAMPLES) == [form.name for form in FORMS]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", [*SAMPLES, *FURTHER])
def test_a_secret_is_found_by_its_form(name: str, place: str) -> None:
    secret = {**SAMPLES, **FURTHER}[name]
    form = recorded(PLACES[place](secret))
    assert not _left(secret, form), form
    # The fast path of plain mappings.
    assert not _left(secret, SUMMARIZER.encode_mapping({"a": 1, "x": PLACES[place](secret)}).decode())


@pytest.mark.parametrize("name", SAMPLES)
def test_a_form_can_be_allowed(name: str) -> None:
    secret = SAMPLES[name]
    allowing = Summarizer(redactor=Redactor(allow=[name]))
    form = recorded(secret, summarizer=allowing)
    others = [other for other, sample in SAMPLES.items() if other != name and sample in secret]
    assert form == secret or others or name in ("teams-address", "azure-signature")


@pytest.mark.parametrize("text", INNOCENT)
def test_ordinary_text_stays(text: str) -> None:
    assert len(INNOCENT) > 100
    assert DEFAULT.text(text) == text
    for value in (text, [text, 1], {"x": text}, {"name": text, "value": 1.0}):
        assert "***" not in str(recorded(value))
        assert "redacted" not in str(recorded(value))


@pytest.mark.parametrize(
    "value",
    [
        ["token", "label"], ("token", "label"), ["text", "secret_of_it"], {"name": "loss", "value": "0.5"},
        ["--lr", "0.1", "--epochs", "3"], [("lr", 0.1), ("batch_size", "32")], {"key": "lr", "value": "x"},
        {"primary_key": "id", "sort_key": "name", "image_key": "img", "foreign_key": "a_id", "monkey": "x"},
        {"pin_memory": True, "spin": "up", "opinion": "x", "pinned": "y"}, {"wandb_project": "flowprov"},
        {"wandb_commit": SHA1}, {"keyboard": "qwerty", "turkey": "x", "whiskey": "y"},
        {"authentication_method": "oauth2"}, {"otp_version": "27"} , {"key": "v", "keys": ["a"]},
    ],
)  # fmt: skip
def test_ordinary_values_stay(value: Any) -> None:
    assert "redacted" not in str(recorded(value))
    assert "***" not in str(recorded(value))


def test_the_secret_beside_an_access_key_of_aws_is_found_in_text_and_in_a_value() -> None:
    identifier, secret = "AKIA" + "IOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY"
    assert recorded(secret) == secret, "alone it might be anything"
    assert secret[:PART] not in str(recorded(f"{identifier}, {secret}"))
    assert secret[:PART] not in str(recorded([identifier, secret]))
    assert secret[:PART] not in SUMMARIZER.encode_mapping({"a": identifier, "b": secret}).decode()


@pytest.mark.parametrize("name", ["wandb", "WANDB_LOGIN", "wandb_auth_value", "datadog", "cohere"])
def test_hex_digits_are_a_key_under_the_name_of_a_service(name: str) -> None:
    assert recorded({name: SHA1}) == {name: {"$redacted": True}}
    assert recorded({name: "disabled", name + "_run": SHA1}) == {
        name: "disabled",
        name + "_run": SHA1,
    }


def test_what_is_plain_is_what_redaction_leaves_as_it_is() -> None:
    texts = [*INNOCENT, *SAMPLES.values(), *FURTHER.values()]
    for text in texts:
        assert Redactor().is_plain(text) == (DEFAULT.text(text) == text)


_PIECES = st.sampled_from(
    [form.shape.replace("`", "").replace("…", "") for form in FORMS]
    + [
        "password",
        "token",
        "key",
        "=",
        ":",
        "'",
        '"',
        "\\",
        " ",
        "--",
        "://",
        "@",
        "?",
        "&",
        "(",
        "]",
        "{",
        ",",
        "\n",
    ]
    + ["<password>", "</", ">", ":/", "\n  x input_value=", ", input_type=x]"]
    + ["Bearer ", "basic ", "eyJ", ".", "_", "-", "~", "A1b2C3d4E5f6", "0a1b2c3d4e5f60718293", "é", "\ud800"]
)


@given(st.lists(_PIECES, max_size=30).map("".join))
@settings(max_examples=500)
def test_redaction_is_done_after_one_pass_and_tells_what_is_plain(text: str) -> None:
    redactor = Redactor()
    once = redactor.text(text)
    if not is_secret_of_aws(text):  # alone it might be anything: what stands beside it decides
        assert redactor.is_plain(text) == (once == text)
    assert len(once.replace("***", "")) <= len(text)
    for limit in (0, 5, 20):
        assert len(redactor.start(text, limit)) <= limit


@given(st.lists(_PIECES, max_size=10).map("".join), st.sampled_from(sorted(SAMPLES)), st.integers(0, 120))
@settings(max_examples=500)
def test_no_cut_leaves_half_of_a_secret(lead: str, name: str, limit: int) -> None:
    secret = SAMPLES[name]
    body = secret.split("\n")[-2] if "\n" in secret else secret[-20:]
    text = f"{lead.encode('ascii', 'ignore').decode()} {secret} and more" + " more" * 99
    cut = Redactor().start(text, limit)
    if body in Redactor().text(text):
        return  # the text before it makes something else of it: a part of a longer word
    assert not [body[i : i + PART] for i in range(len(body) - PART + 1) if body[i : i + PART] in cut]


def _steps(function: Callable[[], object]) -> int:
    """Return how long a call takes: the shortest of some, in nanoseconds of this thread's own time."""
    shortest = 10**18
    for _ in range(3):
        start = time.thread_time_ns()
        function()
        shortest = min(shortest, time.thread_time_ns() - start)
    return shortest


@pytest.mark.parametrize("piece", HOSTILE)
def test_twice_the_text_takes_about_twice_the_time(piece: str) -> None:
    def text_of(length: int) -> str:
        return (piece * (length // len(piece) + 1))[:length]

    half, whole = text_of(2**17), text_of(2**19)
    redactor = Redactor()
    # Four times the text: a quadratic pattern would take sixteen times as long.
    assert _steps(lambda: redactor._conceal(whole)) < 9 * _steps(lambda: redactor._conceal(half)) + 10**7
    # Of a text that is cut, only so much is read as is kept, and a little more.
    assert len(redactor.start(whole, 1_000)) <= 1_000
    assert len(redactor.traceback(whole, 8_000)) <= 8_000


def test_the_reference_lists_the_forms_as_they_are() -> None:
    page = (REPOSITORY / "docs/reference/secrets.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \| (.*) \|$", page, re.MULTILINE)
    assert rows == [(form.name, form.kind, form.shape) for form in FORMS]


def test_a_pattern_that_python_warns_of_warns_no_program(tmp_path: Path) -> None:
    program = """
        import warnings, flowprov
        warnings.simplefilter("error")

        @flowprov.task
        def greet(word):
            return word

        flowprov.configure(privacy={"patterns": ["[[h]unter2"]})
        with flowprov.workflow("greetings"):
            greet("hunter2 and others")
    """
    run(program, tmp_path)
    (task,) = of_type(lines(tmp_path / "flowprov_buffer"), Task)
    assert "hunter2" not in str(task.used)
    assert "and others" in str(task.used)
