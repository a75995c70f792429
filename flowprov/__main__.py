"""``python -m flowprov`` does what ``flowprov`` does.

Flows in: arguments. Flows out: what the command says.
"""

from __future__ import annotations

from flowprov.cli import main

if __name__ == "__main__":
    main(prog_name="flowprov")
