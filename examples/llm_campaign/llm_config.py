"""The hyperparameters of the campaign, their defaults, and their possible values.

Flows in: words such as ``emsize=64`` or ``lr=0.01,0.1`` from the command line. Flows out: a grid (each
parameter with its values), and one configuration for each combination in it.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

Value = int | float | str
Grid = dict[str, list[Value]]
Configuration = dict[str, Value]


class ConfigError(Exception):
    """A word of the command line does not set a hyperparameter; the message says what was expected."""


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter.

    Parameters
    ----------
    default
        Its default value. All values have the same type.
    meaning
        Its meaning, for ``--help``.
    minimum, below
        The smallest value, and the limit below which every value must be.
    choices
        The possible values of a text.
    for_data
        Whether it shapes the data. All runs of a search share the data, so it cannot be searched over.
    """

    default: Value
    meaning: str
    minimum: float = 1
    below: float = math.inf
    choices: tuple[str, ...] = ()
    for_data: bool = False

    def read(self, name: str, text: str) -> Value:
        """Turn the text of one value into the value."""
        if isinstance(self.default, str):
            if self.choices and text not in self.choices:
                raise ConfigError(f"{name} must be one of {', '.join(self.choices)}, not {text!r}")
            return text
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        try:
            value = type(self.default)(text)
        except ValueError as error:
            raise ConfigError(
                f"{name} must be {kind}, not {text!r} (such as {name}={self.default})"
            ) from error
        if not self.minimum <= value < self.below:  # NaN fails this too
            limit = f"at least {self.minimum:g}" + (
                "" if self.below == math.inf else f" and below {self.below:g}"
            )
            raise ConfigError(f"{name} must be {limit}, not {text}")
        return value


PARAMETERS = {
    "emsize": Parameter(32, "size of the embeddings, a multiple of nhead"),
    "nhead": Parameter(2, "attention heads"),
    "nhid": Parameter(64, "size of the feed-forward layers"),
    "nlayers": Parameter(2, "encoder layers"),
    "dropout": Parameter(0.1, "share of activations dropped in training", minimum=0, below=1),
    "pos_encoding_max_len": Parameter(512, "longest sequence of the positional encoding, at least bptt"),
    "lr": Parameter(0.01, "learning rate", minimum=0),
    "optimizer": Parameter("adam", "adam or sgd", choices=("adam", "sgd")),
    "epochs": Parameter(4, "epochs"),
    "random_seed": Parameter(0, "seed of the weights and of dropout", minimum=0),
    "device": Parameter("cpu", "where torch computes: cpu, cuda, cuda:1, ..."),
    "batch_size": Parameter(8, "sequences side by side in a training batch", for_data=True),
    "eval_batch_size": Parameter(4, "the same for validation and test", for_data=True),
    "bptt": Parameter(16, "tokens of a sequence in one batch", for_data=True),
    "vocabulary_size": Parameter(5000, "the most frequent tokens that are kept", minimum=2, for_data=True),
    "train_batches": Parameter(2, "batches of a training epoch, 0 for all", minimum=0, for_data=True),
    "eval_batches": Parameter(4, "batches of validation and of test, 0 for all", minimum=0, for_data=True),
}
# The grid of `--grid`. It is small, so that a laptop needs a minute or two.
SMALL_GRID: Grid = {"emsize": [16, 32], "lr": [0.001, 0.01]}


def parse_overrides(words: Iterable[str]) -> Grid:
    """Read ``key=value`` and ``key=value,value`` words.

    Raises
    ------
    ConfigError
        If a word is not a pair, its key is unknown, or a value has the wrong type or is out of range.
    """
    grid: Grid = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word!r} is no setting; expected key=value, such as lr=0.01 or lr=0.01,0.1")
        if name not in PARAMETERS:
            near = difflib.get_close_matches(name, PARAMETERS, n=1)
            mend = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(PARAMETERS)}"
            raise ConfigError(f"unknown key {name!r}; {mend}")
        parameter = PARAMETERS[name]
        values = list(dict.fromkeys(parameter.read(name, part.strip()) for part in text.split(",")))
        if parameter.for_data and len(values) > 1:
            raise ConfigError(f"{name} takes one value: all runs of a search share the prepared data")
        grid[name] = values
    return grid


def full_grid(overrides: Grid) -> Grid:
    """Return all parameters with their values: those of the overrides, else the default."""
    return {name: overrides.get(name, [parameter.default]) for name, parameter in PARAMETERS.items()}


def expand(grid: Grid) -> list[Configuration]:
    """Return each combination of the values of a grid, in a fixed order."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def describe_parameters() -> str:
    """Return one line for each parameter, for ``--help``."""
    return "\n".join(
        f"{name}={parameter.default}".ljust(28) + parameter.meaning for name, parameter in PARAMETERS.items()
    )
