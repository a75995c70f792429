"""The records of lineage: which files and objects a task touched, what they hold, and of which code and data.

They are no rows. An artifact is counted like a task, because a lost one is a lost answer. Two artifacts that
share a digest are one, whatever process, campaign or path they were seen in.
"""

from __future__ import annotations

from typing import Any

from flowprov.records.base import Count, Int64, JsonObject, LocalId, RecordBase

RESUMED_FROM = "resumed_from"
"""The name among a workflow's metadata under which it says from where it went on."""


class Artifact(RecordBase, frozen=True, kw_only=True, tag="artifact"):
    """A file, folder or object that a task or workflow used or generated. It is written at once.

    Attributes
    ----------
    number
        A number of the journal, by which a :class:`Digest` refers to it.
    workflow_id, task_id
        Who touched it; ``task_id`` is None if the workflow itself did.
    role
        ``"used"`` or ``"generated"``.
    name
        The name that the program gave it: its key in ``used`` or ``generated``, for example.
    kind
        ``"file"``, ``"folder"``, ``"checkpoint"``, ``"compiled"``, ``"dataset"``, ``"model"``, ``"tensor"``,
        ``"frame"``, ``"object"``, or the program's own word.
    path
        The absolute path as this process saw it: where it was, never what it is.
    uri
        The address of something that is no file, without credentials.
    size
        Bytes, if they were known at once: of a file, or of a small folder.
    stat
        Device, inode, size, mtime and ctime in nanoseconds: what it is until a digest is there.
    epoch, step
        Of the training, if the program gave them, or an epoch loop knows.
    inside
        The tasks around, the innermost first; without ``task_id`` itself.
    """

    number: LocalId
    workflow_id: str
    task_id: LocalId | None = None
    role: str
    name: str | None = None
    kind: str
    path: str | None = None
    uri: str | None = None
    size: Count | None = None
    stat: list[Int64] | None = None
    epoch: Int64 | None = None
    step: Int64 | None = None
    inside: list[LocalId] | None = None
    metadata: JsonObject | None = None
    at: Int64


class Digest(RecordBase, frozen=True, kw_only=True, tag="digest"):
    """A control record: what an artifact holds. It follows later, from another thread or process.

    Attributes
    ----------
    number
        The number of the artifact.
    state
        ``"digested"``, ``"changed_while_read"``, ``"missing"``, ``"unreadable"`` or ``"skipped"``.
    reason
        Why there is no digest, or no weights digest.
    size
        Bytes, of all files of a folder together.
    format
        ``"safetensors"``, ``"torch-zip"``, ``"torch-legacy"``, ``"hf-checkpoint"``, ``"pt2"``, ``"parquet"``
        and so on, by its content or else its name.
    digests
        Hexadecimal digests by algorithm: ``{"sha256": …, "md5": …, "dvc": "….dir"}``, the last as DVC writes
        it.
    weights
        The SHA-256 over the sorted set of the SHA-256 of each tensor's bytes, whatever file holds them. Each
        of them is 32 bytes there; a tensor without bytes does not count.
    tensors
        The first 8 bytes of the SHA-256 of each tensor that tells something, in hexadecimal.
    files, members
        How many files a folder has; path, size and SHA-256 of each, unless there are too many for one line.
    took_ns, read_bytes
        What it cost: a part of the overhead that is stated.
    """

    number: LocalId
    state: str
    reason: str | None = None
    size: Count | None = None
    format: str | None = None
    digests: dict[str, str] | None = None
    weights: str | None = None
    tensors: list[str] | None = None
    files: Count | None = None
    members: list[tuple[str, Count, str]] | None = None
    took_ns: Count = 0
    read_bytes: Count = 0
    at: Int64


class Version(RecordBase, frozen=True, kw_only=True, tag="version"):
    """A control record: code, data and environment of a workflow at a moment. What is unknown says why.

    It is written after a workflow opened, and again when it ended if anything moved meanwhile.

    Attributes
    ----------
    moment
        ``"start"`` or ``"end"``.
    script, arguments, working_folder
        The program, its arguments without secrets, and the current folder.
    code
        The git repository: folder, commit, branch, whether files are changed, submodules, remote, and
        ``state`` with its ``reason`` where git gave no answer.
    data
        What ``.dvc`` files and ``dvc.lock`` declare, and the state of the data beside them.
    stage
        The stage of DVC that runs the program: its name, repository and experiment.
    locks
        File and SHA-256 of each lock file of an environment.
    packages_sha256, patch_sha256
        The digests of the list of packages and of the patch, each of which is kept once.
    functions
        File, line and SHA-256 of the source of each captured function, by its name.
    took_ns
        What it cost: time, most of which git took.
    at
        When the workflow had opened or ended, not when that was found out: so a version never makes its
        campaign the one with the latest record.
    """

    workflow_id: str
    moment: str
    script: str | None = None
    arguments: list[str] | None = None
    working_folder: str | None = None
    code: JsonObject | None = None
    data: list[JsonObject] | None = None
    stage: JsonObject | None = None
    locks: list[JsonObject] | None = None
    packages_sha256: str | None = None
    patch_sha256: str | None = None
    functions: JsonObject | None = None
    took_ns: Count = 0
    at: Int64


class LoaderPass(RecordBase, frozen=True, kw_only=True, tag="loader_pass"):
    """A pass over a data loader has begun. It is counted like a task, as are its batches.

    Attributes
    ----------
    number
        A number of the journal, by which a :class:`Batch` refers to it.
    workflow_id, task_id
        Where it was begun; ``task_id`` is None directly in a workflow.
    name
        What the program calls it.
    epoch
        The epoch, by the loop over epochs around it.
    loader
        What holds for all batches: type, number, size, sampler, seed, how many processes share the data.
    indexed
        Whether the indices of each batch are recorded.
    drawn
        Whether these are told when the sampler is asked, and not when the loop gets the batch.
    """

    number: LocalId
    workflow_id: str
    task_id: LocalId | None = None
    name: str | None = None
    epoch: Int64 | None = None
    loader: JsonObject | None = None
    indexed: bool = False
    drawn: bool = False
    at: Int64


class Batch(RecordBase, frozen=True, kw_only=True, tag="batch"):
    """The samples of one batch, as the loop was handed them.

    Attributes
    ----------
    of
        The number of the pass.
    ix
        Their indices, by :mod:`flowprov.index_codec`.
    keys
        What the sampler gives instead, if that are no integers.
    """

    of: LocalId
    ix: str = ""
    keys: list[Any] | None = None
