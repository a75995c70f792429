"""The schema of the settings: a tree of frozen structs with every default.

Flows in: checked values from ``validation``. Flows out: ``Settings``, which other parts of flowprov take as
an argument; its JSON for another process of flowprov; a redacted mapping and a digest for the record.
"""

# The annotations are evaluated at once: as texts they would be compiled at each import.
import hashlib
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType, field

from flowprov.errors import SettingsError
from flowprov.settings.capture_sections import InstrumentationSettings, TelemetrySettings, TorchSettings
from flowprov.settings.content_sections import ArtifactsSettings, PrivacySettings, ValuesSettings
from flowprov.settings.origins import DEFAULT, Origins
from flowprov.settings.redaction import redact_uri
from flowprov.settings.section import Key, Section, changed_keys, public_value
from flowprov.settings.storage_sections import (
    DaskSettings,
    JournalSettings,
    MLflowSettings,
    MongoDBSettings,
    RedisSettings,
    SinkSettings,
)
from flowprov.settings.version_section import VersionSettings

__all__ = [
    "ArtifactsSettings",
    "DaskSettings",
    "InstrumentationSettings",
    "JournalSettings",
    "MLflowSettings",
    "MongoDBSettings",
    "PrivacySettings",
    "RedisSettings",
    "Settings",
    "SinkSettings",
    "TelemetrySettings",
    "TorchSettings",
    "ValuesSettings",
    "VersionSettings",
    "settings_from_json",
    "settings_to_json",
]


class Settings(Section, frozen=True, kw_only=True):
    """The settings of one process, checked and immutable.

    ``load_settings`` returns checked settings. Settings that were built by hand are checked when they pass
    through it. Settings are equal if their values are, wherever they come from.
    """

    instrumentation: Annotated[
        InstrumentationSettings, Key("Whether your own code is recorded, and what of it.")
    ] = InstrumentationSettings()

    telemetry_capture: Annotated[
        TelemetrySettings | None,
        Key(
            "The machine's load while your tasks run.",
            '"~" is off. To switch it on, name the kinds that you want. The others stay false:',
        ),
    ] = None

    journal: Annotated[
        JournalSettings,
        Key("Where each process writes its records: to a journal, a file in the buffer folder."),
    ] = JournalSettings()

    sinks: Annotated[
        SinkSettings,
        Key(
            "The servers to which a separate process delivers the journals.",
            'A sink without a URI is off, and so is a sink whose whole section is "~".',
        ),
    ] = SinkSettings()

    dask: Annotated[
        DaskSettings,
        Key(
            "What is recorded of Dask clusters.",
            "If a worker does not see the buffer of the program that opened the workflow, it has a buffer of "
            "its own, on its machine. The program fetches the worker's journals over Dask's connections.",
        ),
    ] = DaskSettings()

    values: Annotated[
        ValuesSettings,
        Key("How much is recorded of the values that your program uses and generates."),
    ] = ValuesSettings()

    privacy: Annotated[PrivacySettings, Key("What is kept out of records.")] = PrivacySettings()

    artifacts: Annotated[
        ArtifactsSettings,
        Key("What is recorded of the files, folders and objects that your program logs as artifacts."),
    ] = ArtifactsSettings()
    versions: Annotated[
        VersionSettings,
        Key("What is recorded of the code, the data and the environment of each workflow."),
    ] = VersionSettings()

    orchestrators: Annotated[
        bool,
        Key(
            "Whether workflows record the step and the run of Dagster in which they are opened.",
            "The workflows of one run share a campaign then, unless the program has named one.",
        ),
    ] = True

    known_origins: Origins | UnsetType = field(default=UNSET, name="origins")

    @classmethod
    def key_names(cls) -> tuple[str, ...]:
        """Return the names of the sections: where values come from is no key."""
        return tuple(name for name in cls.__struct_fields__ if name != "known_origins")

    @property
    def origins(self) -> Origins:
        """Where the values come from; nothing is known of settings that were built by hand."""
        return Origins() if self.known_origins is UNSET else self.known_origins

    def to_public_dict(self) -> dict[str, Any]:
        """Return the settings for the record of a workflow.

        Returns
        -------
        dict
            JSON types only; URIs without their credentials, wherever they stand. Behind the sections:
            ``profile``, its name, and ``origins``, where each value comes from that is no default.
        """
        found = ((key, self.origins.of(key)) for key in changed_keys(self, Settings()))
        origins = {key: origin for key, origin in found if origin != DEFAULT}
        more = {"profile": self.origins.profile, "origins": origins}
        public: dict[str, Any] = public_value("", {**_values(self), **more})
        return public

    def digest(self) -> str:
        """Return a short digest: equal settings have equal digests, and credentials do not enter it.

        Returns
        -------
        str
            16 hexadecimal digits of a SHA-256.

        Raises
        ------
        SettingsError
            If the tree was built by hand and is not valid.
        """
        # Through JSON and back, so that 10 and 10.0 have the same digest.
        public = public_value("", _values(settings_from_json(settings_to_json(self))))
        return hashlib.sha256(msgspec.json.encode(public, order="sorted")).hexdigest()[:16]


def _values(settings: Settings) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(settings))
    values.pop("origins", None)
    return values


def settings_to_json(settings: Settings) -> bytes:
    """Return settings as JSON for another process of flowprov, with the credentials of URIs in them."""
    return msgspec.json.encode(settings)


def settings_from_json(encoded: bytes | str) -> Settings:
    """Return the settings that ``settings_to_json`` encoded. No file and no environment variable is read.

    Raises
    ------
    SettingsError
        If the bytes are no valid settings.
    """
    try:
        return msgspec.json.decode(encoded, type=Settings)
    except (msgspec.MsgspecError, UnicodeError) as error:
        # Without the cause: a decoder's traceback may quote what it read.
        reason = redact_uri(str(error))
        raise SettingsError(f"The settings from another process are not valid: {reason}") from None
