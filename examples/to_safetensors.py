"""Convert a checkpoint of one of these examples, what ``torch.save`` wrote, to safetensors.

The name, the place, the format and each byte around the weights change. ``flowprov whence`` finds the new
file by its weights all the same. The command is ``python to_safetensors.py CHECKPOINT ELSEWHERE/NAME``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file


def main(source: str, target: str) -> None:
    """Write the weights of a checkpoint to another file."""
    saved = torch.load(source, weights_only=True)
    weights = saved.get("model", saved)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, target, {"format": "pt"})


if __name__ == "__main__":
    main(*sys.argv[1:])
