"""The command ``flowprov``, and ``python -m flowprov``.

Flows in: arguments. Flows out: the output of the command.
"""

from __future__ import annotations

import sys

from flowprov import cli
from flowprov.cli.commands import help_page
from flowprov.cli.terminal import write


def main() -> None:
    """Run the command line; for ``flowprov --help`` click need not be imported."""
    if sys.argv[1:] in (["--help"], ["-h"]):
        write([help_page()], sys.stdout)
    else:
        cli.main(prog_name="flowprov")


if __name__ == "__main__":
    main()
