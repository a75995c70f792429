"""``python -m flowprov``: the same as the command ``flowprov``.

Flows in: arguments. Flows out: the output of the command.
"""

from __future__ import annotations

from flowprov.cli import main

if __name__ == "__main__":
    main(prog_name="flowprov")
