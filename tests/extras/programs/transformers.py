"""The extra ``transformers``: its Trainer is followed."""

from __future__ import annotations

from flowprov.integrations.transformers import FlowprovCallback  # isort: skip - says what is missing

import torch
import transformers

from flowprov.read.sql_query import query_rows

config = transformers.BertConfig(
    vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
)
examples = [{"input_ids": torch.arange(n, n + 4), "labels": torch.tensor(n % 2)} for n in range(8)]
arguments = transformers.TrainingArguments(
    "trained",
    max_steps=4,
    logging_steps=1,
    save_strategy="no",
    report_to="none",
    disable_tqdm=True,
    use_cpu=True,
)
trainer = transformers.Trainer(
    transformers.BertForSequenceClassification(config),
    arguments,
    train_dataset=examples,
    callbacks=[FlowprovCallback()],
)
trainer.train()
(run,) = query_rows("SELECT status FROM runs")[1]
losses = query_rows("SELECT value FROM metrics WHERE name = 'loss'")[1]
assert (run, len(losses)) == (("FINISHED",), 4), run
print(f"done: a training with transformers {transformers.__version__}")
