"""The sections that say where records rest and where they go: journals, servers, Dask.

Flows in: nothing. Flows out: structs with their defaults, and what a person is told of each key.
"""

# The annotations are evaluated at once: as texts they would be compiled at each import.
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from flowprov.settings.section import Key, Section
from flowprov.settings.value_types import (
    Count,
    CountFromZero,
    FileMode,
    FileSize,
    FolderPath,
    MongoURI,
    RedisURI,
    Seconds,
    SecondsFromZero,
    TrackingURI,
)


class JournalSettings(Section, frozen=True, kw_only=True):
    """Where and how records are written."""

    path: Annotated[
        FolderPath,
        Key(
            "The buffer folder. Loading makes the path absolute.",
            'A relative path starts at the folder in which the program starts; "~/" is your home, and '
            "variables are replaced: $SCRATCH/prov. On a cluster, choose a disk of the node itself.",
        ),
    ] = "./flowprov_buffer"

    writer: Annotated[
        Literal["auto", "mapped", "write", "queued"],
        Key(
            "How records are appended.",
            choices={
                "auto": "the same as write",
                "mapped": "into mapped memory, which the system writes to the disk; the fastest way. If root "
                "cuts the file or the disk fails, the program ends",
                "write": "with one system call for each record; on network and FUSE file systems the same as "
                "queued",
                "queued": "through a thread, so that the program does not wait if the file system hangs (see "
                "max_wait); on a local disk a record takes longer this way",
            },
            expert=True,
        ),
    ] = "auto"

    max_bytes: Annotated[
        Count | None,
        Key(
            "The largest size of what one process records of a campaign, in bytes, all its files together; "
            '"~" is no limit.',
            "There recording stops, and the program goes on. What is dropped is counted and reported.",
        ),
    ] = None

    sync: Annotated[
        Literal["off", "interval", "record"],
        Key(
            "When records are flushed to the disk: for machines that lose their power.",
            "Records survive the death of the program in any case.",
            choices={
                "off": "when the system does it",
                "interval": "from time to time",
                "record": "after every record; slow",
            },
            expert=True,
        ),
    ] = "off"

    heartbeat: Annotated[
        Seconds,
        Key(
            "Seconds between two heartbeats.",
            "They help to distinguish an interrupted run from a running one.",
            expert=True,
        ),
    ] = 10.0

    roll_bytes: Annotated[
        FileSize | None,
        Key(
            'The size in bytes at which a journal is closed and goes on in a next file; "~" is never.',
            "A closed file never changes, so that it can be read in its Parquet form. All readers take the "
            "files of a process as one.",
            expert=True,
        ),
    ] = 64 << 20

    compact: Annotated[
        Literal["off", "command", "always"],
        Key(
            "When closed journals of 1 MB and more get their Parquet files, besides by flowprov compact.",
            "A program that records never writes them. They need the extra flowprov[query].",
            choices={
                "off": "never",
                "command": "after flowprov ls, runs, show and query, in a process of their own, and when "
                "flowprov ship has delivered everything",
                "always": "also when flowprov ship --follow has delivered everything",
            },
            expert=True,
        ),
    ] = "command"

    max_wait: Annotated[
        Seconds,
        Key(
            "The most seconds that a record waits for a network or FUSE file system that hangs.",
            "Then records stand in memory (up to 64 MB) until it answers; they are lost if the program is "
            "killed before.",
            expert=True,
        ),
    ] = 1.0

    mode: Annotated[
        FileMode,
        Key(
            "Who may read the journals, and record into the same buffer. As chmod has it, in quotes.",
            "Only its own process writes to a journal. Folders that are there already stay as they are.",
            choices={
                "0600": "you alone",
                "0640": "your group may read",
                "0644": "everybody may read",
                "0660": "your group may read and record",
                "0664": "everybody may read, your group may record",
            },
            expert=True,
        ),
    ] = "0600"

    @property
    def file_mode(self) -> int:
        """The mode as a number."""
        return int(self.mode, 8)


class RedisSettings(Section, frozen=True, kw_only=True):
    """Delivery to Redis Streams; off without a URI."""

    when_null: ClassVar[Mapping[str, Any] | None] = {"uri": None}

    uri: Annotated[
        RedisURI | None,
        Key(
            "The address of the server, as in redis://localhost:6379/0; rediss:// and unix:// work too.",
            "Give a password in the environment, as FLOWPROV__SINKS__REDIS__URI, rather than in a file. It "
            "is never shown or recorded.",
        ),
    ] = None

    maxlen: Annotated[
        Count | None,
        Key(
            'The largest number of entries in one Stream; "~" keeps all.',
            "The server drops older ones.",
            expert=True,
        ),
    ] = None


class MongoDBSettings(Section, frozen=True, kw_only=True):
    """Delivery to MongoDB; off without a URI."""

    when_null: ClassVar[Mapping[str, Any] | None] = {"uri": None}

    uri: Annotated[
        MongoURI | None,
        Key("The address, as in mongodb://localhost:27017/provenance; mongodb+srv:// works too."),
    ] = None


class MLflowSettings(Section, frozen=True, kw_only=True):
    """Export of what runs to MLflow, again and again; off without a URI."""

    when_null: ClassVar[Mapping[str, Any] | None] = {"uri": None}

    uri: Annotated[
        TrackingURI | None,
        Key(
            "The tracking server or its database, as in http://localhost:5000 or sqlite:///mlflow.db.",
            "A program does not wait at its end until MLflow holds its runs.",
        ),
    ] = None

    interval: Annotated[
        Seconds,
        Key(
            "The fewest seconds between two exports of a campaign that goes on.",
            "An export takes at most a tenth of the time of its process. It needs none where nothing is new.",
            expert=True,
        ),
    ] = 30.0

    upload_bytes: Annotated[
        CountFromZero,
        Key(
            "The largest size, in bytes, of the files that a run generated and that are uploaded with it.",
            "0 uploads none. A file must still lie where it was, with its size and its digest.",
        ),
    ] = 0


class SinkSettings(Section, frozen=True, kw_only=True):
    """The servers to which the records of journals are delivered."""

    when_null: ClassVar[Mapping[str, Any] | None] = {"redis": None, "mongodb": None, "mlflow": None}

    redis: Annotated[RedisSettings, Key("Redis Streams.")] = RedisSettings()
    mongodb: Annotated[MongoDBSettings, Key("MongoDB.")] = MongoDBSettings()
    mlflow: Annotated[MLflowSettings, Key("MLflow.")] = MLflowSettings()

    stop_timeout: Annotated[
        SecondsFromZero,
        Key(
            "Seconds that a program waits at its end for records that are not delivered yet.",
            "0 does not wait. The rest is delivered later.",
            expert=True,
        ),
    ] = 5.0

    give_up_after: Annotated[
        Seconds,
        Key(
            "Seconds for which delivery tries a server that does not answer, before it gives up.", expert=True
        ),
    ] = 3600.0


class DaskSettings(Section, frozen=True, kw_only=True):
    """What is recorded of Dask clusters, and how journals of their workers are fetched."""

    enabled: Annotated[bool, Key("Whether tasks of Dask clusters are recorded.", off_in_words=True)] = True

    internal_tasks: Annotated[
        bool,
        Key(
            "Which tasks of bags, arrays and dataframes are recorded.",
            choices={
                "false": "those that run a function of yours. Dask's internal tasks (getitem, finalize, "
                "concat, repartition, its own reductions) are left out, and dependencies lead through them",
                "true": "all of them",
            },
        ),
    ] = False

    collect_interval: Annotated[
        Seconds,
        Key(
            "Seconds between two fetches of the workers' journals while a workflow is open.",
            "A worker that dies loses at most the records since the last one.",
            expert=True,
        ),
    ] = 60.0

    close_timeout: Annotated[
        SecondsFromZero,
        Key(
            "Seconds that a closing workflow waits for the last fetch.",
            "What is missing then is reported.",
            expert=True,
        ),
    ] = 5.0
