"""A model, and one step of its training as one graph: forward, backward and AdamW.

Flows in: a configuration. Flows out: a file with the graph, and what runs it. Nothing is compiled to machine
code: the graph is traced and exported, which takes some seconds, and stands for what a device would run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

_BETAS, _EPSILON = (0.9, 0.999), 1e-8
Tensors = list[torch.Tensor]


class TinyModel(nn.Module):
    """A transformer that predicts the next token."""

    def __init__(self, vocabulary: int, length: int, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, dim)
        self.positions = nn.Embedding(length, dim)
        self.layer = nn.TransformerEncoderLayer(dim, heads, hidden, dropout=0.0, batch_first=True)
        self.head = nn.Linear(dim, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return a score for each token that may follow."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        hidden = self.layer(self.tokens(tokens) + self.positions.weight[: tokens.shape[1]], mask)
        return cast("torch.Tensor", self.head(hidden))


def build_model(cfg: Any) -> TinyModel:
    """Return the model of a configuration, the same one each time."""
    torch.manual_seed(cfg.seed)
    return TinyModel(cfg.sequences.vocabulary, cfg.sequences.length, **cfg.model)


def loss_of(scores: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the loss of scores for the tokens that follow."""
    return nn.functional.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())


class State:
    """What a step changes: parameters, the moments of AdamW, and how many steps were done."""

    def __init__(self, model: nn.Module) -> None:
        self.names = [name for name, _ in model.named_parameters()]
        self.parameters = [one.detach().clone() for one in model.parameters()]
        self.first = [torch.zeros_like(one) for one in self.parameters]
        self.second = [torch.zeros_like(one) for one in self.parameters]
        self.count = torch.zeros(())

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the parameters by name."""
        return dict(zip(self.names, self.parameters, strict=True))


def compile_step(cfg: Any, path: Path) -> None:
    """Write one step of the training as a graph."""
    model = build_model(cfg)
    state = State(model)
    lr, decay = cfg.optimizer.lr, cfg.optimizer.weight_decay

    def step(parameters: Tensors, first: Tensors, second: Tensors, count: Any, tokens: Any) -> Any:
        leaves = [one.detach().requires_grad_() for one in parameters]
        scores = torch.func.functional_call(
            model, dict(zip(state.names, leaves, strict=True)), (tokens[:, :-1],)
        )
        loss = loss_of(scores, tokens)
        count = count + 1
        new: tuple[Tensors, Tensors, Tensors] = [], [], []
        gradients = torch.autograd.grad(loss, leaves)
        for value, gradient, old_mean, old_square in zip(parameters, gradients, first, second, strict=True):
            mean = old_mean * _BETAS[0] + gradient * (1 - _BETAS[0])
            square = old_square * _BETAS[1] + gradient * gradient * (1 - _BETAS[1])
            root = (square / (1 - _BETAS[1] ** count)).sqrt() + _EPSILON
            new[0].append(value * (1 - lr * decay) - lr * (mean / (1 - _BETAS[0] ** count)) / root)
            new[1].append(mean)
            new[2].append(square)
        return loss.detach(), *new, count

    tokens = torch.zeros(cfg.batch_size, cfg.sequences.length + 1, dtype=torch.long)
    inputs = (state.parameters, state.first, state.second, state.count, tokens)
    graph = make_fx(step)(*inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(torch.export.export(_Callable(graph), inputs), path)


class _Callable(nn.Module):
    """A graph as a module with named inputs, which is what is exported."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(
        self, parameters: Tensors, first: Tensors, second: Tensors, count: torch.Tensor, tokens: torch.Tensor
    ) -> Any:
        """Do one step."""
        return self.graph(parameters, first, second, count, tokens)


class CompiledStep:
    """A step that was compiled, and the state that it changes."""

    def __init__(self, path: Path, state: State) -> None:
        self._run = torch.export.load(path).module()
        self.state = state

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Do one step; return its loss."""
        state = self.state
        loss, state.parameters, state.first, state.second, state.count = self._run(
            state.parameters, state.first, state.second, state.count, tokens
        )
        return cast("torch.Tensor", loss)
