"""Models of transformers under its Trainer: captured, they do the same, and every forward is recorded."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

import flowprov
from flowprov import records
from tests.support import tasks
from tests.torch.support import children, forwards, metadata, openings, paths
from tests.torch.third_party import load

transformers = load("transformers")

# The enclosing forward (None if there is none), and the forward.
Calls: TypeAlias = Counter[tuple[str | None, str]]

# Its name up to transformers 5, and since.
CHECKPOINTING = next(
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")
    if name in transformers.TrainingArguments.__dataclass_fields__
)
STEPS, ACCUMULATED, EVALUATED = 3, 2, 2
SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def decoder() -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, **TOKENS, num_key_value_heads=1))


def encoder() -> Any:
    return transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES))


def encoder_decoder() -> Any:
    config = transformers.T5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config)


def mixture_of_experts() -> Any:
    sizes = {"num_key_value_heads": 1, "num_local_experts": 4, "num_experts_per_tok": 2}
    config = transformers.MixtralConfig(**SIZES, **TOKENS, **sizes, output_router_logits=True)
    return transformers.MixtralForCausalLM(config)


def vision() -> Any:
    sizes = {
        name: size for name, size in SIZES.items() if name not in ("vocab_size", "max_position_embeddings")
    }
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1)
    )


def text(generator: torch.Generator) -> dict[str, Any]:
    ids = torch.randint(3, 64, (8,), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones(8, dtype=torch.long), "labels": ids.clone()}


def classified(generator: torch.Generator) -> dict[str, Any]:
    return {**text(generator), "labels": torch.randint(2, (), generator=generator)}


def image(generator: torch.Generator) -> dict[str, Any]:
    return {
        "pixel_values": torch.randn(1, 8, 8, generator=generator),
        "labels": torch.randint(2, (), generator=generator),
    }


class Case(NamedTuple):
    """A kind of model, what it takes and what it gives."""

    build: Callable[[], Any]
    example: Callable[[torch.Generator], dict[str, Any]]
    gives: set[str]


CASES = {
    "decoder": Case(decoder, text, {"loss", "logits"}),
    "encoder": Case(encoder, classified, {"loss", "logits"}),
    "encoder-decoder": Case(encoder_decoder, text, {"loss", "logits", "encoder_last_hidden_state"}),
    "mixture of experts": Case(mixture_of_experts, text, {"loss", "aux_loss", "logits", "router_logits"}),
    "vision": Case(vision, image, {"loss", "logits"}),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Leave the cores to others: models so small gain nothing by them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def capture(model: Any) -> Any:
    return flowprov.torch_capture(
        model, what="parent_and_children", depth="all", children_mode="tensor_inspection"
    )


@contextlib.contextmanager
def counting(model: Any) -> Iterator[Calls]:
    """Count the forwards of a model and its children by torch's global hooks, each with the enclosing one."""
    names = {module: name for name, module in model.named_modules()}
    running: list[str] = []
    calls: Calls = Counter()

    def begin(module: Any, _: Any) -> None:
        if module in names:  # a loss, say, is a module that a forward creates
            calls[running[-1] if running else None, names[module]] += 1
            running.append(names[module])

    def end(module: Any, *_: Any) -> None:
        if module in names:
            running.pop()

    before = register_module_forward_pre_hook(begin)
    after = register_module_forward_hook(end, always_call=True)
    try:
        yield calls
    finally:
        before.remove()
        after.remove()


def recorded(found: list[records.Task]) -> Calls:
    """Count the recorded forwards in the same way."""
    by_id: dict[object, str] = {task.task_id: metadata(task)["module_path"] for task in found}
    return Counter((by_id.get(task.parent_task_id), by_id[task.task_id]) for task in found)


class Trained(NamedTuple):
    """What a training left."""

    trainer: Any
    losses: list[float]
    calls: Calls


def train(case: Case, folder: Path, *, captured: bool, **options: Any) -> Trained:
    """Train a model for a few steps and evaluate it."""
    torch.manual_seed(0)
    model = case.build()
    if captured:
        capture(model)
    generator = torch.Generator().manual_seed(1)
    examples = [case.example(generator) for _ in range(12)]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "trainer"),
        max_steps=STEPS,
        gradient_accumulation_steps=ACCUMULATED,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=2,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
        **options,
    )
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=examples, eval_dataset=examples[: 2 * EVALUATED]
    )
    trainer.remove_callback(transformers.PrinterCallback)
    with flowprov.workflow("training"), counting(model) as calls:
        trainer.train()
        trainer.evaluate()
    history = trainer.state.log_history
    losses = [
        entry[name] for entry in history for name in ("loss", "grad_norm", "eval_loss") if name in entry
    ]
    return Trained(trainer, losses, calls)


def assert_equal(one: Any, other: Any) -> None:
    """Compare two nests of tensors, bit by bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_equal(one[name], other[name])
    elif isinstance(one, list | tuple):
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    else:
        assert one == other


def assert_same(plain: Trained, captured: Trained) -> None:
    """Compare two trainings, bit by bit."""
    assert len(plain.losses) == 2 * STEPS + 1
    assert plain.losses == captured.losses
    assert plain.calls == captured.calls
    for part in ("model", "optimizer"):
        assert_equal(getattr(plain.trainer, part).state_dict(), getattr(captured.trainer, part).state_dict())


def test_training_is_the_same_and_every_forward_is_recorded(case: Case, buffer: Path, tmp_path: Path) -> None:
    plain, captured = (train(case, tmp_path, captured=each) for each in (False, True))
    assert_same(plain, captured)

    parents, inside = forwards(buffer), children(buffer)
    trained = STEPS * ACCUMULATED
    assert [metadata(task)["is_training"] for task in parents] == [True] * trained + [False] * EVALUATED
    assert [metadata(task)["grad_enabled"] for task in parents] == [True] * trained + [False] * EVALUATED
    takes = set(case.example(torch.Generator()))
    for task in parents:
        assert set(task.used or {}) - {"num_items_in_batch"} == takes
        assert case.gives <= set(task.generated or {})
        assert task.status == records.Status.FINISHED
    assert parents[0].used is not None
    assert [parents[0].used[name]["shape"][0] for name in sorted(takes)] == [2] * len(takes)

    assert recorded(parents + inside) == captured.calls
    calls = Counter((metadata(task)["module_path"], metadata(task)["is_training"]) for task in inside)
    assert all(calls[path, False] * STEPS * ACCUMULATED == calls[path, True] * EVALUATED for path, _ in calls)


def test_recomputed_forwards_are_flagged_and_training_is_the_same(buffer: Path, tmp_path: Path) -> None:
    case, options = CASES["decoder"], {CHECKPOINTING: True}
    plain, captured = (train(case, tmp_path, captured=each, **options) for each in (False, True))
    assert_same(plain, captured)
    inside = children(buffer)
    assert recorded(forwards(buffer) + inside) == captured.calls
    again = Counter(paths([task for task in inside if metadata(task).get("recomputed")]))
    assert {path.split(".")[2] for path in again} == {"0", "1"}
    assert set(again.values()) == {STEPS * ACCUMULATED}
    assert {task.status for task in inside} == {records.Status.FINISHED}


def test_a_forward_that_accelerate_replaced_is_recorded_with_its_names(buffer: Path, tmp_path: Path) -> None:
    plain, captured = (train(CASES["decoder"], tmp_path, captured=each, bf16=True) for each in (False, True))
    assert "forward" in vars(captured.trainer.model)
    assert_same(plain, captured)
    assert set(forwards(buffer)[0].used or {}) >= {"input_ids", "attention_mask", "labels"}
    # It enters autocast inside of the model's forward, and turns what comes out back to float32.
    assert {metadata(task).get("autocast_dtype") for task in forwards(buffer)} == {None}
    assert {metadata(task).get("autocast_dtype") for task in children(buffer)} == {"bfloat16"}
    assert {(task.generated or {})["logits"]["dtype"] for task in forwards(buffer)} == {"float32"}
    last = [task for task in children(buffer) if metadata(task)["module_path"] == "lm_head"]
    assert {(task.generated or {})["output"]["dtype"] for task in last} == {"bfloat16"}


def test_a_captured_model_saves_the_same_files(case: Case, buffer: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = case.build().eval()
    model.save_pretrained(tmp_path / "plain")
    capture(model).save_pretrained(tmp_path / "captured")
    plain, captured = (
        {path.name: path.read_bytes() for path in (tmp_path / each).iterdir()}
        for each in ("plain", "captured")
    )
    assert plain == captured
    loaded = type(model).from_pretrained(tmp_path / "captured")
    assert_equal(model.state_dict(), loaded.state_dict())
    loaded(**{name: value[None] for name, value in case.example(torch.Generator()).items()})
    assert tasks(buffer) == []


def generate(model: Any, **options: Any) -> torch.Tensor:
    torch.manual_seed(2)
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    found = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder", "mixture of experts"])
@pytest.mark.parametrize("options", [{"do_sample": False}, {"do_sample": True, "num_beams": 2}])
def test_the_same_tokens_are_generated(kind: str, options: dict[str, Any], buffer: Path) -> None:
    torch.manual_seed(0)
    model = CASES[kind].build().eval()
    options = {**options, "min_new_tokens": 5, "max_new_tokens": 5, "use_cache": True}
    plain = generate(model, **options)
    capture(model)
    with flowprov.workflow("generation"):
        assert torch.equal(generate(model, **options), plain)
    found = forwards(buffer)
    assert len(found) == 5
    assert {metadata(task)["is_training"] for task in found} == {False}
    name = "decoder_input_ids" if kind == "encoder-decoder" else "input_ids"
    lengths = [(task.used or {})[name]["shape"][1] for task in found]
    assert lengths == [1 if kind == "encoder-decoder" else 4, 1, 1, 1, 1]
    assert all("past_key_values" in (task.generated or {}) for task in found)
    # generate() calls the encoder by itself, before the first forward.
    encoded = [task for task in children(buffer) if metadata(task)["module_path"] == "encoder"]
    assert [task.parent_task_id for task in encoded] == [None] * (kind == "encoder-decoder")


def test_hidden_states_and_attentions_are_returned_as_without_capture(case: Case, buffer: Path) -> None:
    torch.manual_seed(0)
    model = case.build().eval()
    model.set_attn_implementation("eager")
    inputs = {name: value[None] for name, value in case.example(torch.Generator()).items()}
    wanted = {"output_hidden_states": True, "output_attentions": True}
    plain = [model(**inputs), model(**inputs, **wanted)]
    capture(model)
    with flowprov.workflow("W"):
        captured = [model(**inputs, **wanted), model(**inputs), model(**inputs, **wanted)]
    assert len(plain[1]) > len(plain[0])
    for one, other in zip([plain[1], plain[0], plain[1]], captured, strict=True):
        assert_equal({**one, "past_key_values": None}, {**other, "past_key_values": None})
    assert [set(task.generated or {}) for task in forwards(buffer)] == [set(each) for each in captured]
    named = {name for task in children(buffer) for name in task.used or {}}
    assert not {name for name in named if name.startswith(("arg", "kwargs"))}


def test_a_decorated_class_is_constructed_in_every_way(buffer: Path, tmp_path: Path) -> None:
    @flowprov.torch_capture(what="parent_and_children", depth="all", get_profile=True)
    class MyBert(transformers.BertForSequenceClassification):  # type: ignore[misc, name-defined]
        pass

    config = transformers.BertConfig(**SIZES)
    with flowprov.workflow("W"):
        first = MyBert(config)
        first.save_pretrained(tmp_path / "saved")
        built = [
            first,
            MyBert._from_config(config, dtype=torch.bfloat16),
            MyBert.from_pretrained(tmp_path / "saved", custom_metadata={"loaded": True}),
            MyBert.from_pretrained(tmp_path / "saved", num_labels=2, capture_enabled=False),
        ]
        with torch.device("meta"):
            built.append(MyBert(config))
        for model in built:
            model(torch.ones(1, 4, dtype=torch.long, device=model.device))
    assert [type(model) for model in built] == [MyBert] * 5
    assert_equal(first.state_dict(), built[2].state_dict())
    found = forwards(buffer)
    assert [task.activity_id for task in found] == ["MyBert"] * 4
    dtypes = [(task.generated or {})["logits"]["dtype"] for task in found]
    assert dtypes == ["float32", "bfloat16", "float32", "float32"]
    assert [metadata(task).get("loaded") for task in found] == [None, None, True, None]
    size = sum(parameter.numel() for parameter in first.parameters())
    for each in openings(buffer):
        assert each.custom_metadata is not None
        assert each.custom_metadata["model_profile"]["params"] == size
    assert len(openings(buffer)) == 4
