"""Which samples a run saw: exactly, with workers that prefetch, over ranks, kills and resumes."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import flowprov
from flowprov.errors import UnknownIdError, UsageError
from flowprov.read.decoding import records_of
from flowprov.read.run_samples import Samples, SavedCheckpoint, SeenBatch
from flowprov.read.source import Source
from flowprov.read.verify import verify
from flowprov.records import Artifact, Batch, LoaderPass
from tests.support import start

pd = pytest.importorskip("pandas")
torch = pytest.importorskip("torch")
data: Any = pytest.importorskip("torch.utils.data")


def _dataset(size: int = 40) -> Any:
    return data.TensorDataset(torch.arange(size))


def _records(kind: type) -> list[Any]:
    source = Source(None)
    return [one for journal in source.summaries() for one in records_of(journal) if type(one) is kind]


@pytest.mark.parametrize("workers", [0, 2])
def test_each_batch_that_the_loop_was_handed_is_told_and_none_that_was_prefetched(
    buffer: Path, workers: int
) -> None:
    plain = data.DataLoader(_dataset(), 8, shuffle=True, num_workers=workers)
    loader = flowprov.sampled(plain)
    assert isinstance(loader, data.DataLoader)
    assert (len(loader), loader.batch_size, loader.dataset) == (5, 8, plain.dataset)
    seen: list[list[int]] = []
    with flowprov.workflow("w") as workflow:
        for _ in flowprov.EpochLoop(2):
            for position, (batch,) in enumerate(loader):
                seen.append(sorted(batch.tolist()))
                if position == 2:
                    break
    frame = flowprov.samples(workflow.workflow_id).frame()
    assert frame.columns.tolist() == ["epoch", "step", "rank", "sample"]
    assert [group["sample"].tolist() for _, group in frame.groupby("step")] == seen
    assert frame.groupby("step")["epoch"].first().tolist() == [0, 0, 0, 1, 1, 1]
    history = flowprov.samples(workflow.workflow_id).saw(seen[0][0])
    assert next(one.step for one in history.batches) == 0
    (journal,) = verify().journals
    assert journal.report.found >= journal.report.written


def test_the_loader_that_was_given_stays_as_it_was(buffer: Path) -> None:
    plain = data.DataLoader(_dataset(), 8)
    loader = flowprov.sampled(plain)
    assert flowprov.sampled(loader) is loader
    with flowprov.workflow("w"):
        assert len(list(plain)) == 5
    assert _records(Batch) == []
    copied = pickle.loads(pickle.dumps(loader))
    with flowprov.workflow("v"):
        assert [batch[0].tolist() for batch in copied] == [batch[0].tolist() for batch in plain]
    assert _records(Batch) == []


@pytest.mark.parametrize("of", ["samples", "batches"])
def test_a_sampler_tells_a_flowprov_loop_what_it_was_handed(buffer: Path, of: str) -> None:
    sampler = flowprov.sampled(data.RandomSampler(_dataset()), name="train")
    assert len(sampler) == 40
    if of == "batches":
        loader = data.DataLoader(_dataset(), batch_sampler=data.BatchSampler(sampler, 8, drop_last=False))
    else:
        loader = data.DataLoader(_dataset(), 8, sampler=sampler, num_workers=1)
    seen = []
    with flowprov.workflow("w") as workflow:
        for (batch,) in flowprov.BatchLoop(loader):
            seen += batch.tolist()
            if len(seen) == 16:
                break
    assert flowprov.samples(workflow.workflow_id).seen().tolist() == sorted(seen)
    (one,) = _records(LoaderPass)
    assert (one.name, one.indexed, one.drawn) == ("train", True, False)


def test_a_plain_loop_over_a_recorded_sampler_tells_what_was_drawn(buffer: Path) -> None:
    loader = data.DataLoader(_dataset(), 8, sampler=flowprov.sampled(data.SequentialSampler(_dataset())))
    with flowprov.workflow("w") as workflow:
        list(loader)
    assert flowprov.samples(workflow.workflow_id).seen().tolist() == list(range(40))
    assert [one.drawn for one in _records(LoaderPass)] == [True]


def test_keys_that_are_no_integers_and_single_samples_are_told(buffer: Path) -> None:
    class Named(data.Dataset):  # type: ignore[misc]
        def __getitem__(self, key: str) -> str:
            return key * 2

    keys = ["a", "b", "c"]
    loader = flowprov.sampled(data.DataLoader(Named(), sampler=keys, batch_size=None))
    with flowprov.workflow("w") as workflow:
        assert list(loader) == ["aa", "bb", "cc"]
    assert flowprov.samples(workflow.workflow_id).frame()["sample"].tolist() == keys


def test_how_a_loader_was_set_up_is_recorded_by_a_batch_loop(buffer: Path) -> None:
    generator = torch.Generator().manual_seed(7)
    sampler = data.RandomSampler(_dataset(), generator=generator)
    loader = data.DataLoader(_dataset(), 16, sampler=sampler, drop_last=True)
    with flowprov.workflow("w"):
        for _ in flowprov.EpochLoop(2):
            list(flowprov.BatchLoop(loader, step="train"))
    passes = _records(LoaderPass)
    assert [(one.epoch, one.name, one.indexed) for one in passes] == [
        (0, "train", False),
        (1, "train", False),
    ]
    assert passes[0].loader == {
        "type": "DataLoader",
        "batches": 2,
        "batch_size": 16,
        "drop_last": True,
        "sampler": "RandomSampler",
        "seed": 7,
        "sequences": 32,  # the last 8 are in no batch
        "dataset_len": 40,
        "num_workers": 0,
    }


def test_several_loaders_are_told_apart_by_their_names(buffer: Path) -> None:
    loaders = {
        name: flowprov.sampled(data.DataLoader(_dataset(size), 8), name=name)
        for name, size in (("train", 16), ("eval", 32))
    }
    with flowprov.workflow("w") as workflow:
        for loader in loaders.values():
            list(loader)
    found = flowprov.samples(workflow.workflow_id)
    assert found.seen(name="train").tolist() == list(range(16))
    assert found.seen(name="eval", step=1).tolist() == list(range(8))
    assert set(found.frame()["name"]) == {"train", "eval"}
    with pytest.raises(UsageError, match="eval, train"):
        found.seen()


def test_what_cannot_be_told_is_said_once_and_left_as_it_is(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Endless(data.IterableDataset):  # type: ignore[misc]
        def __iter__(self) -> Any:
            return iter(range(5))

    loader = data.DataLoader(Endless(), 2)
    with caplog.at_level(logging.WARNING), flowprov.workflow("w"):
        assert flowprov.sampled(loader) is loader
        assert flowprov.sampled(loader) is loader
        assert flowprov.sampled(3) == 3
        for _ in flowprov.BatchLoop(loader):
            pass
    assert len(caplog.messages) == 2
    with pytest.raises(UnknownIdError):
        flowprov.samples("no run")


def test_nothing_is_recorded_and_nothing_changes_where_capture_is_off(buffer: Path) -> None:
    with flowprov.configured(instrumentation={"enabled": False}):
        loader = flowprov.sampled(data.DataLoader(_dataset(), 8))
        assert next(batch[0].tolist() for batch in loader) == list(range(8))


TRAINING = """
    import json, os, pathlib, random, signal, sys
    import flowprov

    size, size_of_batch, ranks, epochs, die_at, save_every, workers = json.loads(sys.argv[1])
    rank = int(os.environ["RANK"])
    resume = sys.argv[2] if len(sys.argv) > 2 else None
    per_epoch = size // ranks // size_of_batch

    class Batches:  # a shuffled epoch of one rank, from a batch on
        def __init__(self, epoch, skip):
            order = random.Random(epoch).sample(range(size), size)[rank::ranks]
            self.batches = [order[n * size_of_batch :][:size_of_batch] for n in range(skip, per_epoch)]
        def __iter__(self): return iter(self.batches)
        def __len__(self): return len(self.batches)

    def batches_of(epoch, skip):
        sampler = Batches(epoch, skip)
        if workers is None:
            yield from flowprov.sampled(sampler)
        else:
            from torch.utils.data import DataLoader
            loader = DataLoader(range(size), batch_sampler=sampler, num_workers=workers, collate_fn=list)
            yield from flowprov.sampled(loader)

    handed = pathlib.Path(f"handed-{rank}.jsonl").open("a")
    saved = sorted(pathlib.Path().glob("step-*.json"), key=lambda path: json.loads(path.read_text()))
    done = json.loads(saved[-1].read_text()) if resume else 0
    with flowprov.workflow("training", workflow_id="second" if resume else "first", campaign_id="c"):
        if resume:
            flowprov.resume_from(saved[-1])
        pathlib.Path(f"open-{rank}-{bool(resume)}").touch()
        while len(list(pathlib.Path().glob(f"open-*-{bool(resume)}"))) < ranks:
            pass
        step = done
        for epoch in flowprov.EpochLoop(range(done // per_epoch, epochs)):
            for batch in batches_of(epoch, step - epoch * per_epoch):
                handed.write(json.dumps([bool(resume), step, batch]) + "\\n")
                handed.flush()
                step += 1
                if step == die_at + rank and not resume:
                    os.kill(os.getpid(), signal.SIGKILL)
                if rank == 0 and step % save_every == 0:
                    pathlib.Path(f"step-{step}.json").write_text(str(step))
                    flowprov.log_artifact(f"step-{step}.json").wait()
"""


class Trained(NamedTuple):
    """What the loops of a training were handed, that was killed and went on: by rank and step."""

    first: dict[tuple[int, int], list[int]]
    second: dict[tuple[int, int], list[int]]
    went_on_from: int


def train(folder: Path, size: int, batch: int, die_at: int, save_every: int, workers: int | None) -> Trained:
    """Run a training on four ranks, kill it, and go on."""
    ranks, epochs = 4, 2
    numbers = json.dumps([size, batch, ranks, epochs, die_at, save_every, workers])
    for more in ([], ["first"]):
        processes = [
            start(TRAINING, folder, numbers, *more, env={"RANK": str(rank), "WORLD_SIZE": str(ranks)})
            for rank in range(ranks)
        ]
        for process in processes:
            _, errors = process.communicate(timeout=1_000)
            assert process.returncode == (0 if more else -signal.SIGKILL), errors
    handed: dict[bool, dict[tuple[int, int], list[int]]] = {False: {}, True: {}}
    for rank in range(ranks):
        for line in (folder / f"handed-{rank}.jsonl").read_text().splitlines():
            resumed, step, indices = json.loads(line)
            handed[resumed][rank, step] = sorted(indices)
    return Trained(handed[False], handed[True], die_at // save_every * save_every)


def check(folder: Path, trained: Trained) -> None:
    """Compare what is read with what the loops were handed."""
    found = flowprov.samples("first", folder / "flowprov_buffer")
    kept = {key: one for key, one in trained.first.items() if key[1] < trained.went_on_from}
    kept |= trained.second
    frame = found.frame()
    read: dict[Any, list[int]] = {}
    for rank, step, sample in zip(frame["rank"], frame["step"], frame["sample"], strict=True):
        read.setdefault((rank, step), []).append(sample)
    assert read == kept
    last = max(step for _, step in kept) + 1
    for limit in (0, 1, trained.went_on_from, trained.went_on_from + 1, last // 2, last):
        expected = {index for (_, step), indices in kept.items() if step < limit for index in indices}
        assert found.seen(step=limit).tolist() == sorted(expected)
    assert len(found.checkpoints) > 3
    superseded = [
        saved for saved in found.checkpoints if saved.attempt == 0 and saved.step > trained.went_on_from
    ]
    for saved in found.checkpoints:
        assert saved.artifact.path is not None
        step = int(Path(saved.artifact.path).stem.removeprefix("step-"))
        assert saved.step == step
        of_attempt = trained.first if saved in superseded else kept
        expected = {index for (_, at), indices in of_attempt.items() if at < step for index in indices}
        assert found.seen(checkpoint=saved.artifact.path).tolist() == sorted(expected)
        copied = shutil.copy(saved.artifact.path, folder / "somewhere else.json")
        assert found.seen(checkpoint=copied).tolist() == sorted(expected)
    sample = trained.second[1, max(step for rank, step in trained.second if rank == 1)][0]
    history = found.saw(sample)
    assert {(one.rank, one.step) for one in history.batches} == {
        key for key, indices in kept.items() if sample in indices
    }
    first_step = min(one.step for one in history.batches)
    assert [saved.step > first_step for saved in found.checkpoints] == [
        saved in history.checkpoints for saved in found.checkpoints
    ]


def test_the_exact_samples_are_known_over_ranks_a_kill_and_a_resume(tmp_path: Path) -> None:
    check(tmp_path, train(tmp_path, size=240, batch=6, die_at=7, save_every=4, workers=None))


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_the_exact_samples_of_a_million_are_known_and_take_three_bytes_each(tmp_path: Path) -> None:
    trained = train(tmp_path, size=1_000_000, batch=64, die_at=1_500, save_every=100, workers=1)
    check(tmp_path, trained)
    journals = list((tmp_path / "flowprov_buffer").rglob("*.jsonl"))
    handed = 64 * (len(trained.first) + len(trained.second))
    lines = [line for one in journals for line in one.read_bytes().splitlines(keepends=True)]
    told = sum(len(line) for line in lines if line.startswith(b'{"type":"batch"'))
    assert told <= 3 * handed


def test_a_checkpoint_is_found_at_its_place_if_its_process_was_killed_before_it_had_the_digest(
    tmp_path: Path,
) -> None:
    path = tmp_path / "step-1.json"
    path.write_text("1")
    artifact = Artifact(
        number=1, workflow_id="w", role="generated", kind="file", path=str(path), size=1, at=0
    )
    batches = [SeenBatch(None, 0, step, 0, 0, [step]) for step in range(2)]
    saved = SavedCheckpoint(artifact, "journal-1", None, 0, {None: 1})
    found = Samples("w", [batches], [None], [saved])
    assert found.seen(checkpoint=path).tolist() == [0]
    path.write_text("another one")
    with pytest.raises(UnknownIdError):
        found.seen(checkpoint=path)
