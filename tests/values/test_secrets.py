"""Secrets are concealed by name and in URLs; the ordinary names of training code are left alone."""

from __future__ import annotations

import dataclasses
import enum
import functools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprov.values import Summarizer, is_secret_key, redact_urls
from flowprov.values.redaction import Redactor, redactor
from tests.values.support import ASKING, SUMMARIZER, recorded, words

REDACTED = {"$redacted": True}

SECRET_NAMES = words(
    "password PASSWORD Password passwd db_password dbPassword dbpassword user.password pass_word "
    "passphrase pwd  api_key API-KEY apiKey apikey APIKEY openai_api_key OPENAI_KEY wandb_api_key "
    "x-api-key api_keys secret secrets client_secret clientSecret clientsecret secret_key "
    "SECRET_ACCESS_KEY aws_access_key_id access_key accessKey private_key ssh_private_key session_key "
    "credential credentials credentials_json aws_credentials authorization Authorization "
    "proxy-authorization cookie cookies set-cookie token TOKEN hf_token HF_TOKEN access_token authToken "
    "auth_token use_auth_token github_token bearer bearer_token refresh_token my_token "
    "user_access_token id_token  token_value csrf_token jwt auth basic_auth redis_pass signing_key "
    "encryption_key connection_string conn_str connStr connection-string authentication otp totp "
    "one_time_otp otp_code pin card_pin userPin pin_code admin_pass license_key activation_key "
    "snowflakeKey hmac_key recovery_code seed_phrase key_pass PGPASS mqtt_token stripe_key"
)

ORDINARY_NAMES = words(
    "tokenizer tokens ntokens n_tokens num_tokens max_tokens maxTokens max_new_tokens token_ids "
    "token_id pad_token  eos_token bos_token unk_token mask_token cls_token sep_token padToken "
    "additional_special_tokens token_type_ids  tokenizer_type tokenizer_name tokenized pad_token_id "
    "eos_token_id token_count token_dim tokens_per_second  loss_per_token next_token image_token "
    "prompt_tokens completion_tokens key keys key_padding_mask query_key_value  key_dim author authors "
    "coauthor authority secretary secretion secreted_proteins keyboard monkey primary_key  sort_key "
    "cache_key lr batch_size x i forward_pass pass passes pass_through bypass compass session_id "
    "signature  public_key credit sign design cooker cls_token_embedding user_token private "
    "shared_memory accessed api client pin_memory pinned spin opinion pinning otp_version foreign_key "
    "foreignKey partition_key image_key s3_key monitor_key rng_key prng_key jax_key dask_key x_key turkey "
    "whiskey hockey donkey key_value keyframe text_key label_key hash_key group_key unique_key input_key "
    "authentication_method public_key_path keypoint keynote wandb_project wandb"
)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_names_of_secrets_are_recognized(name: Any) -> None:
    assert is_secret_key(name)
    assert recorded({name: "value-of-it"}) == {name: REDACTED}
    assert msgspec.json.decode(SUMMARIZER.encode_mapping({name: "value-of-it", "x": 1})) == {
        name: REDACTED,
        "x": 1,
    }
    assert recorded("value-of-it", key=name) == REDACTED


@pytest.mark.parametrize("name", ORDINARY_NAMES)
def test_ordinary_names_are_left_alone(name: Any) -> None:
    assert not is_secret_key(name)
    assert recorded({name: "value"}) == {name: "value"}


@pytest.mark.parametrize("name", ["", "$", "___", "日本", "\ud800", "x" * 100_000, "1"])
def test_strange_names_are_no_secrets(name: Any) -> None:
    assert not is_secret_key(name)


def test_secrets_are_concealed_at_any_depth_and_of_any_type() -> None:
    value = {"a": [{"password": ["x", {"y": "z"}]}], "secrets": {"db": "x"}, 5: {"api_key": b"x"}}
    assert recorded(value) == {"a": [{"password": REDACTED}], "secrets": REDACTED, "5": {"api_key": REDACTED}}
    assert "hunter2" not in SUMMARIZER.encode({"password": [["hunter2"]]}).decode()


def test_a_value_that_reveals_nothing_of_a_secret_is_kept() -> None:
    assert recorded({"password": None, "use_auth_token": True}) == {"password": None, "use_auth_token": True}
    assert recorded({"token": 523, "password": 1234}) == {"token": 523, "password": REDACTED}


def test_redaction_can_be_turned_off() -> None:
    unredacted = Summarizer(redactor=Redactor(enabled=False))
    value = {"password": "pw", "uri": "redis://u:p@h"}
    assert recorded(value, summarizer=unredacted) == value
    assert msgspec.json.decode(unredacted.encode_mapping(value)) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://user:pw@h:6379/0", "redis://***@h:6379/0"),
        ("redis://:pw@h", "redis://***@h"),
        ("redis://:p@ss@h", "redis://***@h"),
        ("redis://:pa/ss@h", "redis://***@h"),
        ("redis://:12#34@h", "redis://***@h"),
        ("at mongodb+srv://u:p@h1:1,h2:2/db?x=1 now", "at mongodb+srv://***@h1:1,h2:2/db?x=1 now"),
        ("redis://u:p@a,redis://u:q@b", "redis://***@a,redis://***@b"),
        ("https://ghp_abc@github.com/x.git", "https://***@github.com/x.git"),
        ("http://h/p?a=1&token=abc&b=2#access_token=x", "http://h/p?a=1&token=***&b=2#access_token=***"),
        ("https://h/?password=a+b&max_tokens=5", "https://h/?password=***&max_tokens=5"),
        ("https://b/?X-Amz-Credential=a&X-Amz-Signature=b", "https://b/?X-Amz-Credential=***&X-Amz-Signature=***"),
        ("https://h/c?sv=1&sig=abc", "https://h/c?sv=1&sig=***"),
        ("jdbc:sqlserver://h;user=a;password=b;x=1", "jdbc:sqlserver://h;user=a;password=***;x=1"),
        ("https://h/?to=http://u:p@x", "https://h/?to=http://***@x"),
        ("'http://u:p@h' and \"http://v:q@i\"", "'http://***@h' and \"http://***@i\""),
    ],
)  # fmt: skip
def test_credentials_in_urls_are_concealed(text: Any, expected: Any) -> None:
    assert redact_urls(text) == expected
    assert recorded(text) == expected
    assert recorded({text: [text]}) == {expected: [expected]}


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/path@2x.png", "https://host/a@b", "ssh://git@github.com/x", "s3://bucket/key",
        "file:///C:/a@b", "http://[::1]:80/a@b", "://", "a://", "://@", "no url tokens=abc",
        "http://h/?tokenizer=x", "user:pw@host", "a@b.c", "1 / 2 :// 3",
    ],
)  # fmt: skip
def test_text_without_credentials_is_untouched(text: Any) -> None:
    assert redact_urls(text) == text
    assert recorded(text) == text


@given(st.text(alphabet="ab:/?#@=&;'\" ,[.1\ud800", max_size=60))
def test_any_text_can_be_redacted_and_a_second_redaction_undoes_nothing(text: Any) -> None:
    once = redact_urls(text)
    assert redact_urls(once).count("***") >= once.count("***") - text.count("***")
    if "://" not in text:
        assert once == text


password_characters = st.characters(codec="ascii", categories=("L", "N"), include_characters="!$%^*-_.:@")


@given(password=st.text(password_characters, min_size=8))
def test_a_password_never_survives_in_a_url(password: Any) -> None:
    redacted = redact_urls(f"before redis://user:{password}@host:6379/0 after")
    assert redacted == "before redis://***@host:6379/0 after"


def test_a_credential_is_not_halved_by_the_cut() -> None:
    for lead in range(960, 1_010):
        form = recorded("a" * lead + " redis://user:hunter2hunter2@host/" + "b" * 200)
        assert "hunter" not in form["$str"]
        assert len(form["$str"]) <= 1_000


def test_redaction_takes_linear_time() -> None:
    for text in (
        "://" * 300_000,
        "a://b@" * 150_000,
        "http://" + "a" * 900_000,
        "x=" * 400_000,
        "http://?" + "&a=" * 300_000,
    ):
        assert redact_urls(text)
        assert len(recorded(text)["$str"]) <= 1_000


class Shown:
    """Has secrets in its repr."""

    def __repr__(self) -> str:
        return (
            "Client('http://u:pw1@h', api_key='pw2', token = \"pw3\", lr=0.1, {'password': 'pw4'}, "
            "Authorization: Bearer pw5, at='x password=pw6')"
        )


def test_secrets_in_reprs_are_concealed() -> None:
    form = recorded(Shown(), summarizer=ASKING)
    assert "pw" not in form["repr"]
    assert "lr=0.1" in form["repr"]


def test_secrets_in_messages_of_exceptions_are_concealed() -> None:
    form = recorded(ConnectionError("cannot reach redis://u:pw@h"))
    assert form == {"$exception": "ConnectionError", "message": "cannot reach redis://***@h"}


# -- beside their names --------------------------------------------------------------------------------------

HUNTER = "hunter2hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"password={HUNTER}", f"password = '{HUNTER}'", f'"password": "{HUNTER}"', f"password: {HUNTER}",
        f"'password': b'{HUNTER}'", f"password => {HUNTER}", f"password:={HUNTER}", f"DB_PASSWORD={HUNTER}",
        f"conn.password = '{HUNTER}'", f"os.environ['API_KEY'] = '{HUNTER}'", f"password='x {HUNTER}'",
        f"password='x\\' {HUNTER}'", f"password='x {HUNTER}", f'password="""x\n{HUNTER}"""',
        f"password=SecretStr('x {HUNTER}')", f"secrets={{'a': 'x', 'b': ['y', '{HUNTER}']}}",
        f"passwords=['x', '{HUNTER}'", f'{{\\"password\\": \\"x {HUNTER}\\"}}', f"password=a,{HUNTER}",
        f"password=a;{HUNTER}", f"password=a){HUNTER}", f"password=a&{HUNTER}", f"password: str = '{HUNTER}'",
        f"--password {HUNTER}", f"--password={HUNTER}", f"--db-password '{HUNTER}'", f"x -password {HUNTER}",
        f"['prog', '--token', '{HUNTER}']", f"[('Authorization', 'x {HUNTER}')]", f"['Cookie', '{HUNTER}']",
        f"[(b'authorization', b'{HUNTER}')]", f"Authorization: Basic {HUNTER}", f"Authorization: {HUNTER}",
        f'Authorization: Digest username="bob", response="{HUNTER}"', f"Cookie: a=b; c={HUNTER}; d=e",
        f"Set-Cookie: id={HUNTER}; Path=/", f"API key: {HUNTER}", f"Access token: {HUNTER}",
        f"AccountName=a;AccountKey={HUNTER}==;x=y", f"Endpoint=sb://h/;SharedAccessKey={HUNTER};x=1",
        f"Server=h;User Id=bob;Password={HUNTER};", f"host=h user=bob password={HUNTER}", f"PWD={HUNTER}",
        f"https://h/?password={HUNTER}", f"a=1&token={HUNTER}&b=2", f"redis://:{HUNTER}", f"otp={HUNTER}",
        f"redis://:{HUNTER}@h", f"https://{HUNTER}@h", f"wandb: {'0123456789abcdef' * 2}{HUNTER[:0]}",
    ],
)  # fmt: skip
def test_a_secret_beside_its_name_is_concealed(text: str) -> None:
    for lead, tail in (("", ""), ("x ", " y"), ("(", ")"), ("\n", "\n")):
        form = str(recorded(lead + text + tail))
        assert "hunter2" not in form
        assert "0123456789abcdef" not in form
    assert "hunter2" not in recorded(ValueError(text))["message"]


def test_what_stands_around_a_secret_stays() -> None:
    for text, expected in (
        ("lr=0.1, password='x', epochs=3", "lr=0.1, password=***, epochs=3"),
        ("host=h password=x dbname=d", "host=h password=*** dbname=d"),
        ("f(password='x', y=(1, 2))", "f(password=***, y=(1, 2))"),
        ("secrets={'a': [1, 2]}, lr=0.1", "secrets=***, lr=0.1"),
        ("prog --token x --lr 5", "prog --token *** --lr 5"),
        ("password=None, token=523, secret=True", "password=None, token=523, secret=True"),
        ("Cookie: a=b; c=d\nHost: h", "Cookie: ***\nHost: h"),
        ("password=a,lr=0.1", "password=***,lr=0.1"),
    ):
        assert recorded(text) == expected
        assert recorded(expected) == expected


@pytest.mark.parametrize(
    "value",
    [
        [("Authorization", HUNTER)], [["X-Api-Key", HUNTER]], [(b"cookie", HUNTER.encode())],
        ("password", HUNTER),
        {b"password": HUNTER}, {("db", "password"): HUNTER}, [{"name": "DB_PASSWORD", "value": HUNTER}],
        {"key": "client_secret", "value": [HUNTER]}, ["--password", HUNTER, "-v"],
        [{"Name": "DB_PASSWORD", "Value": HUNTER}], {"Key": "DB_PASSWORD", "Value": HUNTER},
        {"NAME": "DB_PASSWORD", "VALUE": HUNTER}, {"KEY": "DB_PASSWORD", "VALUE": HUNTER},
        ["-v", "--api-key", HUNTER],
        ["prog", f"--password={HUNTER}"], {"headers": (("Cookie", HUNTER),)}, {"pin": 47110815},
    ],
)  # fmt: skip
def test_a_secret_that_the_value_beside_it_names_is_concealed(value: Any) -> None:
    form = str(recorded(value))
    assert "hunter2" not in form
    assert "47110815" not in form
    assert "redacted" in form or "***" in form


def test_a_field_of_a_numpy_record_that_is_named_like_a_secret_is_concealed() -> None:
    record = np.array(
        [("bob", (HUNTER, 0.5), 7)],
        dtype=[("user", "U5"), ("inner", [("password", "U40"), ("lr", "f8")]), ("token", "i8")],
    )[0]
    assert recorded(record) == ["bob", [REDACTED, 0.5], 7]


class Login1(enum.Enum):
    """Secrets by their names."""

    PASSWORD = HUNTER
    PIN = 47110815
    HOST = "localhost"
    API_KEY = "api-key"


class Login2(str, enum.Enum):
    """Secrets that are strings."""

    PASSWORD = HUNTER
    HOST = "localhost"
    API_KEY = "api_key"


def test_the_value_of_an_enum_member_that_is_named_like_a_secret_is_concealed() -> None:
    values = {member.name: recorded(member)["value"] for member in Login1}
    assert values == {"PASSWORD": REDACTED, "PIN": REDACTED, "HOST": "localhost", "API_KEY": "api-key"}
    assert [recorded(member) for member in Login2] == [REDACTED, "localhost", "api_key"]


def test_what_pydantic_says_of_a_field_that_is_named_like_a_secret_is_concealed() -> None:
    pydantic = pytest.importorskip("pydantic")
    long = pydantic.Field(min_length=80)
    inner = pydantic.create_model("Inner", api_key=(str, long), host=(str, long))
    model = pydantic.create_model("Model", password=(str, long), inner=(inner, ...), lr=(float, ...))
    given = {"password": f"a, input_type={HUNTER}", "inner": {"api_key": HUNTER, "host": "node-1"}, "lr": "x"}
    with pytest.raises(ValueError, match="validation errors") as raised:
        model(**given)
    error = raised.value
    margin = "  | " + str(error).replace("\n", "\n  | ")
    cut = str(error).partition("hunter2")[0] + "hunter2"
    for text in (str(error), margin, cut):
        shown = redactor().text(text)
        assert "hunter2" not in shown
        assert "String should have at least 80 characters" in shown
    for kept in ("input_value=***, input_type=str]", "input_value='node-1'", "input_value='x'"):
        assert kept in redactor().text(str(error))


def test_the_text_of_an_element_that_is_named_like_a_secret_is_concealed() -> None:
    for text, expected in (
        (f"<password>{HUNTER}</password>", "<password>***</password>"),
        (f'<db.api_key kind="a">\n {HUNTER}\n</db.api_key>', '<db.api_key kind="a">***</db.api_key>'),
        ("<name>bob</name><token>5</token>", "<name>bob</name><token>5</token>"),
        ("<password></password>", "<password></password>"),
        ("type <password> here, </b>", "type <password> here, </b>"),
    ):
        assert recorded(text) == expected


def test_credentials_in_the_path_that_was_made_of_a_url_are_concealed() -> None:
    assert recorded(Path(f"https://bob:{HUNTER}@host/x")) == "https:/***@host/x"
    assert recorded(Path(f"/data/redis://:{HUNTER}@host/0")) == "/data/redis:/***@host/0"
    for text in ("registry:/model:v2@sha256:0a1b", "C:/a:b@c", "file:/data/a:b@c", "volume:/data:ro"):
        assert recorded(text) == text


# -- hidden by their classes ---------------------------------------------------------------------------------


class HidingText(str):
    """A text that does not show itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"


@dataclasses.dataclass
class Login:
    """Leaves a field out of its repr."""

    user: str
    inner: Any = dataclasses.field(repr=False, default=None)


class Color(str, enum.Enum):
    """An enum of strings, which shows its text."""

    RED = "red"

    def __repr__(self) -> str:
        return "a color"


def connect(host: str, password: str, retries: int = 3) -> None:
    """Have a secret as a positional parameter."""


def connect_any(*arguments: object) -> None:
    """Have no parameters of its own, as a wrapper."""


class Client:
    """Has secrets in its methods."""

    def __init__(self, host: str, token: str) -> None:
        """Have a secret as a positional parameter."""

    def open(self, host: str, secret: str) -> None:
        """Have a secret as a positional parameter."""


def test_what_a_class_hides_is_concealed() -> None:
    assert recorded(Login("bob", HUNTER)) == {"user": "bob", "inner": REDACTED}
    assert recorded(Login("bob", {"a": [HUNTER]}))["inner"] == REDACTED
    assert recorded(Login("bob", 5)) == {"user": "bob", "inner": 5}
    assert recorded(Login("bob")) == {"user": "bob", "inner": None}
    assert recorded(HidingText(HUNTER)) == REDACTED
    assert recorded(Color.RED) == "red"
    assert recorded(np.str_("red")) == "red"
    assert recorded(HidingText(HUNTER), summarizer=Summarizer(redactor=Redactor(enabled=False))) == HUNTER


def test_names_of_classes_functions_and_members_are_text_too() -> None:
    url = f"https://bob:{HUNTER}@host"
    cls = type(url, (), {"__module__": "m"})
    lambda_of_url: Any = lambda: None  # noqa: E731 - its name is set below
    lambda_of_url.__qualname__ = url
    member = enum.Enum("Member", {url: 1})  # type: ignore[misc]
    for value in (cls, cls(), lambda_of_url, next(iter(member)), type(url, (ValueError,), {})("x")):
        assert "hunter2" not in str(recorded(value)), value


def test_what_attrs_and_pydantic_hide_is_concealed() -> None:
    attrs = pytest.importorskip("attrs")
    with_attrs = attrs.make_class(
        "WithAttrs", {"inner": attrs.field(repr=False), "shown": attrs.field(repr=str)}
    )
    form = recorded(with_attrs(HUNTER, HUNTER + "!"))
    assert form == {"inner": REDACTED, "shown": REDACTED}
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model(
        "Model", inner=(str, pydantic.Field(repr=False)), secret_one=(pydantic.SecretStr, ...), x=(int, 1)
    )
    form = recorded(model(inner=HUNTER, secret_one=HUNTER))
    assert form == {"inner": REDACTED, "secret_one": REDACTED, "x": 1}
    assert recorded([pydantic.SecretStr(HUNTER)]) == [REDACTED]


@pytest.mark.parametrize(
    "function",
    [
        connect,
        functools.wraps(connect)(connect_any),
        Client,
        Client("host", "x").open,
    ],
)
def test_a_positional_argument_of_a_partial_is_known_by_its_parameter(function: Any) -> None:
    form = recorded(functools.partial(function, "host", HUNTER))
    assert form["args"] == ["host", REDACTED]


def test_the_partial_of_what_has_no_parameters_is_kept() -> None:
    assert recorded(functools.partial(print, "a", 1))["args"] == ["a", 1]


# -- by the settings -----------------------------------------------------------------------------------------


def test_settings_add_names_and_patterns_and_allow_others() -> None:
    own = Summarizer(
        redactor=Redactor(names=["employee_number"], patterns=["EMP-[0-9]{6}"], allow=["session_key"])
    )
    assert recorded({"employeeNumber": "7", "EMPLOYEE-NUMBER": 7}, summarizer=own) == {
        "employeeNumber": REDACTED,
        "EMPLOYEE-NUMBER": REDACTED,
    }
    assert recorded("employee_number=7 is EMP-123456", summarizer=own) == "employee_number=*** is ***"
    assert recorded("EMP-123456", summarizer=own) == "***"
    assert recorded({"session_key": "x", "api_key": "y"}, summarizer=own) == {
        "session_key": "x",
        "api_key": REDACTED,
    }
    assert recorded({"session_key": "x", "employee_number": 7}) == {
        "session_key": REDACTED,
        "employee_number": 7,
    }
