"""A program without a framework gets the one line that mends it."""

from __future__ import annotations

from pathlib import Path

from tests.support import run

_PROGRAM = """
    import importlib, sys
    import flowprov

    needed = {
        "transformers": ("transformers", "transformers"),
        "lightning": ("pytorch_lightning", "lightning"),
        "accelerate": ("accelerate", "accelerate"),
        "optuna": ("optuna", "optuna"),
        "ignite": ("ignite", "ignite"),
        "skorch": ("skorch", "skorch"),
    }
    sys.modules.update(dict.fromkeys([package for package, _ in needed.values()] + ["lightning"]))
    for name, (_, extra) in needed.items():
        try:
            importlib.import_module(f"flowprov.integrations.{name}")
        except ImportError as error:
            assert str(error).endswith(f'Install it with: pip install "flowprov[{extra}]"'), error
        else:
            raise AssertionError(name)
    from flowprov.integrations.torchtune import FlowprovLogger
"""


def test_a_missing_framework_names_its_extra(tmp_path: Path) -> None:
    assert run(_PROGRAM, tmp_path) == ("", "")
