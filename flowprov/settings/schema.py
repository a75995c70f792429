"""The schema of the settings: a tree of frozen structs with every default.

Flows in: checked values from ``validation``. Flows out: ``Settings``, which other parts of flowprov take as
an argument; its JSON for another process of flowprov; a redacted mapping and a digest for the record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from flowprov.errors import SettingsError
from flowprov.settings.redaction import redact_text, redact_uri

# The standard library's functions that wait overflow on much larger numbers. Thirty years are enough.
_MAX_SECONDS = 1e9
_MAX_COUNT = 2**63 - 1

Seconds = Annotated[float, Meta(gt=0, le=_MAX_SECONDS, description="seconds: a number above 0, at most 1e9")]
SecondsFromZero = Annotated[float, Meta(ge=0, le=_MAX_SECONDS, description="seconds: a number from 0 to 1e9")]
Count = Annotated[int, Meta(ge=1, le=_MAX_COUNT, description="a whole number from 1 (at most 63 bits)")]
ByteBudget = Annotated[
    int, Meta(ge=4_096, le=2**30, description="a whole number of bytes from 4096 to 1073741824 (1 GiB)")
]
FolderPath = Annotated[str, Meta(min_length=1, description="the path of a folder, as a string")]
RedisURI = Annotated[
    str, Meta(pattern="^(redis|rediss|unix)://", description="a redis://, rediss:// or unix:// URI")
]
MongoURI = Annotated[
    str, Meta(pattern=r"^mongodb(\+srv)?://", description="a mongodb:// or mongodb+srv:// URI")
]
FileMode = Literal["0600", "0640", "0644", "0660", "0664"]
LoopDetail = Literal["default", "lightweight"]
_ClassName = Annotated[str, Meta(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*$")]
ExceptionNames = Annotated[
    tuple[_ClassName, ...],
    Meta(description="a list of classes of exceptions with their modules, as in [optuna.TrialPruned]"),
]

Patterns = Annotated[
    tuple[str, ...],
    Meta(description="a list of regular expressions that match no empty text, as in ['EMP-[0-9]{6}']"),
]


def _public(name: str, value: Any) -> Any:
    """Return a value without credentials: somebody may have put an address where none belongs."""
    if isinstance(value, str):
        return redact_uri(value) if name == "uri" else redact_text(value)
    if isinstance(value, dict):
        return {key: _public(key, one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_public(name, one) for one in value)
    return value


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections of the tree: immutable, strict, and without credentials in their repr."""

    when_null: ClassVar[Mapping[str, Any] | None] = {}
    """The values that a null instead of this section stands for; None if a null is a mistake."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the fields for a repr, with credentials concealed."""
        return [(name, _public(name, getattr(self, name))) for name in self.__struct_fields__]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({fields})"


class TorchSettings(Section, frozen=True, kw_only=True):
    """What is captured of PyTorch models and their loops.

    Attributes
    ----------
    what
        Which forwards are recorded; None: none.
    children_mode
        What is recorded of the forwards of child modules.
    epoch_loop, batch_loop
        ``default`` records telemetry with each iteration, ``lightweight`` does not; None: no rows.
    capture_epochs_at_every, capture_batches_at_every
        Only every n-th epoch or batch is recorded, counted from 0.
    register_workflow
        Whether each model instance is recorded as a workflow of its own.
    depth
        How many levels of child modules are recorded.
    include, exclude
        Patterns over module paths.
    tensor_statistics
        Whether statistics are recorded of the tensors that recorded forwards use and generate.
    backward
        Whether the backward passes of models are recorded.
    optimizer
        What is recorded of the steps of optimizers; None: nothing.
    """

    when_null: ClassVar[Mapping[str, Any] | None] = {
        "what": None,
        "children_mode": None,
        "epoch_loop": None,
        "batch_loop": None,
        "register_workflow": False,
    }

    what: Literal["parent_only", "parent_and_children"] | None = "parent_only"
    children_mode: (
        Literal["lightweight", "tensor_inspection", "telemetry", "telemetry_and_tensor_inspection"] | None
    ) = None
    epoch_loop: LoopDetail | None = "default"
    batch_loop: LoopDetail | None = "default"
    capture_epochs_at_every: Count = 1
    capture_batches_at_every: Count = 1
    register_workflow: bool = True
    depth: Count | Literal["all"] = 1
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    tensor_statistics: bool = False
    backward: bool = False
    optimizer: Literal["steps", "steps_and_gradient_norm"] | None = None


class InstrumentationSettings(Section, frozen=True, kw_only=True):
    """Whether the program's own code is captured, and what of it.

    Attributes
    ----------
    enabled
        Whether it is captured.
    control_flow_exceptions
        Classes of exceptions, as ``module.Class``, that are control flow: what they or their subclasses end
        is FINISHED.
    torch
        What is captured of PyTorch.
    """

    # An "instrumentation:" of which every line is commented out must not silently switch recording off.
    when_null: ClassVar[Mapping[str, Any] | None] = None

    enabled: bool = True
    control_flow_exceptions: ExceptionNames = ()
    torch: TorchSettings = TorchSettings()


class TelemetrySettings(Section, frozen=True, kw_only=True):
    """Which kinds of telemetry are read, and how.

    Attributes
    ----------
    cpu, mem, swap, disk, network, process, gpu
        The kinds.
    interval
        Seconds between two samples.
    mode
        ``sampled``: a thread of its own reads. ``exact``: each task reads too, at its start and end.
    """

    cpu: bool = False
    mem: bool = False
    swap: bool = False
    disk: bool = False
    network: bool = False
    process: bool = False
    gpu: bool = False
    interval: Seconds = 0.5
    mode: Literal["sampled", "exact"] = "sampled"


class JournalSettings(Section, frozen=True, kw_only=True):
    """Where and how records are written.

    Attributes
    ----------
    path
        The buffer: a folder. Loading makes the path absolute.
    writer
        How records are appended.
    max_bytes
        The largest size of one journal in bytes; None: no limit.
    sync
        When records are flushed to the disk.
    heartbeat
        Seconds between two heartbeats.
    max_wait
        The most seconds that a record waits for a file system that hangs.
    mode
        Who may read the journals and create others beside them, as ``chmod`` has it. Nobody but its own
        process writes to a journal.
    """

    path: FolderPath = "./flowprov_buffer"
    writer: Literal["auto", "mapped", "write", "queued"] = "auto"
    max_bytes: Count | None = None
    sync: Literal["off", "interval", "record"] = "off"
    heartbeat: Seconds = 10.0
    max_wait: Seconds = 1.0
    mode: FileMode = "0600"

    @property
    def file_mode(self) -> int:
        """The mode as a number."""
        return int(self.mode, 8)


class RedisSettings(Section, frozen=True, kw_only=True):
    """Delivery to Redis Streams; off without a URI. ``maxlen``: the most entries that a Stream keeps."""

    when_null: ClassVar[Mapping[str, Any] | None] = {"uri": None}

    uri: RedisURI | None = None
    maxlen: Count | None = None


class MongoDBSettings(Section, frozen=True, kw_only=True):
    """Delivery to MongoDB; off without a URI."""

    when_null: ClassVar[Mapping[str, Any] | None] = {"uri": None}

    uri: MongoURI | None = None


class SinkSettings(Section, frozen=True, kw_only=True):
    """The servers to which the records of journals are delivered.

    Attributes
    ----------
    redis, mongodb
        The sinks.
    stop_timeout
        Seconds that a program waits at its end for delivery.
    give_up_after
        Seconds after which an unreachable sink is no longer tried.
    """

    when_null: ClassVar[Mapping[str, Any] | None] = {"redis": None, "mongodb": None}

    redis: RedisSettings = RedisSettings()
    mongodb: MongoDBSettings = MongoDBSettings()
    stop_timeout: SecondsFromZero = 5.0
    give_up_after: Seconds = 3600.0


class DaskSettings(Section, frozen=True, kw_only=True):
    """What is recorded of Dask clusters, and how journals of workers that do not see the buffer are fetched.

    Attributes
    ----------
    internal_tasks
        Whether internal tasks are recorded: those that only hold Dask's collections together.
    collect_interval
        Seconds between two fetches while a workflow is open.
    close_timeout
        Seconds that a closing workflow waits for the last fetch.
    """

    internal_tasks: bool = False
    collect_interval: Seconds = 60.0
    close_timeout: SecondsFromZero = 5.0


class ValuesSettings(Section, frozen=True, kw_only=True):
    """How much is recorded of the values that a program uses and generates, and what that may cost it.

    Attributes
    ----------
    max_bytes
        Bytes that the values of one record may have. What is beyond them is cut, and the record says so.
    max_time
        Seconds of processor time that the values of one record may take: two fifths for what was used, two
        for the rest, one for encoding and writing.
    object_reprs
        Whether objects of classes that flowprov does not know are recorded with what they say of themselves:
        their ``repr``, the items of a mapping, ``to_dict()``, properties. That code may take any time and do
        anything.
    """

    max_bytes: ByteBudget = 65_536
    max_time: Seconds = 0.001
    object_reprs: bool = False


class PrivacySettings(Section, frozen=True, kw_only=True):
    """What is kept out of records.

    Attributes
    ----------
    redact
        Whether what looks like a secret is concealed.
    names, patterns
        Further names of values that are secrets, and regular expressions for secrets in text.
    allow
        Names that mean no secret, and forms of tokens that are not looked for.
    """

    redact: bool = True
    names: tuple[str, ...] = ()
    patterns: Patterns = ()
    allow: tuple[str, ...] = ()


class Settings(Section, frozen=True, kw_only=True):
    """The settings of one process, checked and immutable.

    ``load_settings`` returns checked settings. Settings that were built by hand are checked when they pass
    through it.
    """

    instrumentation: InstrumentationSettings = InstrumentationSettings()
    telemetry_capture: TelemetrySettings | None = None
    journal: JournalSettings = JournalSettings()
    sinks: SinkSettings = SinkSettings()
    dask: DaskSettings = DaskSettings()
    values: ValuesSettings = ValuesSettings()
    privacy: PrivacySettings = PrivacySettings()

    def to_public_dict(self) -> dict[str, Any]:
        """Return the settings for the record of a workflow.

        Returns
        -------
        dict
            JSON types only; URIs without their credentials, wherever they stand.
        """
        public: dict[str, Any] = _public("", msgspec.json.decode(msgspec.json.encode(self)))
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
        public = settings_from_json(settings_to_json(self)).to_public_dict()
        return hashlib.sha256(msgspec.json.encode(public, order="sorted")).hexdigest()[:16]


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
