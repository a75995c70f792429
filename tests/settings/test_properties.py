"""Whatever it is given, loading returns settings or raises a ``SettingsError``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flowprov.errors import SettingsError
from flowprov.settings import (
    DaskSettings,
    InstrumentationSettings,
    JournalSettings,
    MongoDBSettings,
    PrivacySettings,
    RedisSettings,
    Settings,
    SinkSettings,
    TelemetrySettings,
    TorchSettings,
    ValuesSettings,
    load_settings,
    parse_assignment,
    redact_uri,
    settings_from_json,
    settings_to_json,
)
from flowprov.settings.key_tree import all_paths
from tests.settings.support import load

KEYS = st.sampled_from(sorted({path[-1] for path in all_paths()} | {"flowprov"}))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from(
        ["off", "all", "1e9", "1e999", "default", "redis://u:p@h", "~", "~x/y", 10**400, -(10**400)]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS | st.text(), inner, max_size=4)
        | st.dictionaries(SCALARS, inner, max_size=2)
    ),
    max_leaves=12,
)


@st.composite
def near_trees(draw: st.DrawFn) -> dict[str, Any]:
    """Draw trees with valid keys and any values."""
    tree: dict[str, Any] = {}
    for path in draw(st.lists(st.sampled_from(all_paths()), max_size=6)):
        node = tree
        for key in path[:-1]:
            below = node.get(key)
            node[key] = node = below if isinstance(below, dict) else {}
        node[path[-1]] = draw(VALUES)
    return tree


def loads_or_reports(*args: Any, **kwargs: Any) -> bool:
    """Whether settings load and survive a round trip, or fail with a report that can be encoded."""
    try:
        settings = load(*args, **kwargs)
    except SettingsError as error:
        return bool(str(error).encode())
    return bool(settings_from_json(settings_to_json(settings)) == load(settings) == settings)


@given(st.dictionaries(KEYS | st.text(), VALUES, max_size=4) | near_trees())
def test_any_mapping_loads_or_is_reported(tree: dict[str, Any]) -> None:
    assert loads_or_reports(tree)
    assert loads_or_reports(None, tree)


@given(VALUES)
def test_any_value_as_overrides_loads_or_is_reported(value: Any) -> None:
    assert loads_or_reports(None, value)


@given(
    st.dictionaries(
        st.sampled_from(["FLOWPROV__" + "__".join(path).upper() for path in all_paths()])
        | st.text(st.characters(exclude_characters="=\0")).map("FLOWPROV__".__add__),
        st.text() | st.text("[]{}'\"&*!|>%@`:,#?- ~019.e\n\\Uxabc"),
    )
)
def test_any_environment_loads_or_is_reported(environ: dict[str, str]) -> None:
    assert loads_or_reports(environ=environ)


@given(st.text() | st.text("[]{}'\"&*!|>%@`:,#?- ~019.e=\n\\Uxabc"))
def test_any_assignment_is_parsed_or_reported(text: str) -> None:
    try:
        key, value = parse_assignment(text)
    except SettingsError:
        return
    assert loads_or_reports(None, {key: value})


@given(
    st.binary()
    | st.text().map(str.encode)
    | st.text("[]{}'\"&*!|>%@`:,#?- ~019.e\n\t\\Uxjournal").map(str.encode)
    | near_trees().map(lambda tree: yaml.safe_dump(tree, allow_unicode=True).encode()),
    st.sampled_from([b"", b"flowprov: 1\n", b"journal: "]),
)
def test_any_file_loads_or_is_reported_and_an_unnamed_one_may_be_ignored(
    content: bytes, start: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.yaml"
        path.write_bytes(start + content)
        assert loads_or_reports(path)
        assert loads_or_reports(cwd=Path(folder))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
PRINTABLE = st.text(st.characters(exclude_categories=["C"]), max_size=8)
URIS = st.builds("redis://{}:{}@{}".format, PRINTABLE, PRINTABLE, PRINTABLE)
SECONDS = st.floats(0, 1e9, exclude_min=True)
COUNTS = st.integers(1, 2**63 - 1)
LOOPS = st.sampled_from(["default", "lightweight", None])
PATTERNS = st.lists(TEXTS, max_size=3).map(tuple)

VALID = st.builds(
    Settings,
    instrumentation=st.builds(
        InstrumentationSettings,
        enabled=st.booleans(),
        control_flow_exceptions=st.lists(st.from_regex(r"[a-z_]+(\.[A-Za-z_]+)*", fullmatch=True)).map(tuple),
        torch=st.builds(
            TorchSettings,
            what=st.sampled_from(["parent_only", "parent_and_children", None]),
            children_mode=st.sampled_from(["lightweight", "tensor_inspection", "telemetry", None]),
            epoch_loop=LOOPS,
            batch_loop=LOOPS,
            capture_epochs_at_every=COUNTS,
            capture_batches_at_every=COUNTS,
            register_workflow=st.booleans(),
            depth=COUNTS | st.just("all"),
            include=PATTERNS,
            exclude=PATTERNS,
        ),
    ),
    telemetry_capture=st.none()
    | st.builds(
        TelemetrySettings,
        cpu=st.booleans(),
        gpu=st.booleans(),
        interval=SECONDS,
        mode=st.sampled_from(["sampled", "exact"]),
    ),
    journal=st.builds(
        JournalSettings,
        path=TEXTS.map(lambda text: "/" + text.replace("\0", "").replace("$", "")),  # "$" names a variable
        writer=st.sampled_from(["auto", "mapped", "write"]),
        max_bytes=st.none() | COUNTS,
        sync=st.sampled_from(["off", "interval", "record"]),
        heartbeat=SECONDS,
    ),
    sinks=st.builds(
        SinkSettings,
        redis=st.builds(RedisSettings, uri=st.none() | URIS, maxlen=st.none() | COUNTS),
        mongodb=st.builds(
            MongoDBSettings,
            uri=st.none() | URIS.map("mongodb+srv".__add__).map(lambda uri: uri.replace("redis", "", 1)),
        ),
        stop_timeout=st.floats(0, 1e9),
        give_up_after=SECONDS,
    ),
    dask=st.builds(DaskSettings, collect_interval=SECONDS, close_timeout=st.floats(0, 1e9)),
    values=st.builds(
        ValuesSettings,
        max_bytes=st.integers(4_096, 2**30),
        max_time=SECONDS,
        object_reprs=st.booleans(),
    ),
    privacy=st.builds(
        PrivacySettings,
        redact=st.booleans(),
        names=st.lists(st.sampled_from(["employee", "badge_number"])).map(tuple),
        patterns=st.lists(st.sampled_from(["EMP-[0-9]{6}", "a+"])).map(tuple),
        allow=st.lists(st.sampled_from(["jwt", "session_key"])).map(tuple),
    ),
)


@given(VALID)
def test_valid_settings_survive_yaml_and_json(settings: Settings) -> None:
    dumped = yaml.safe_dump(msgspec.json.decode(settings_to_json(settings)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dumped.yaml"
        path.write_bytes(dumped.encode())
        assert load(path) == settings
    assert load(settings) == settings
    assert settings_from_json(settings_to_json(settings)) == settings


@given(VALID)
def test_no_public_form_reveals_a_password(settings: Settings) -> None:
    for sink in (settings.sinks.redis, settings.sinks.mongodb):
        if sink.uri is not None:
            assert redact_uri(sink.uri).partition("://")[2].startswith("***@")
    public = msgspec.json.encode(settings.to_public_dict())
    assert b'"uri":"redis://***@' in public or settings.sinks.redis.uri is None


@given(PRINTABLE, PRINTABLE.filter(lambda host: "@" not in host))
def test_everything_before_the_host_is_concealed(password: str, host: str) -> None:
    redacted = redact_uri(f"redis://:{password}@{host}")
    assert redacted.startswith("redis://***@")
    assert len(redacted) <= len(f"redis://***@{host}") + 3 * host.count("=")


def test_an_address_in_any_place_shows_no_credentials(tmp_path: Path) -> None:
    include = ["redis://u:correct-horse@host", "encoder.*"]
    settings = load_settings({"instrumentation": {"torch": {"include": include}}}, environ={}, cwd=tmp_path)
    assert settings.instrumentation.torch.include == tuple(include)
    assert "correct-horse" not in repr(settings) + str(settings.to_public_dict())
    assert "encoder.*" in repr(settings)
