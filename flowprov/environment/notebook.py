"""The notebook in which this process runs, as far as its environment tells.

Flows in: the shell of IPython, if IPython is loaded. Flows out: its name.
"""

from __future__ import annotations

import os
import sys
from pathlib import PurePath
from typing import Any

UNNAMED = "notebook"


def ipython_shell() -> Any:
    """Return the shell of IPython; None if there is none. IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    get_ipython = getattr(ipython, "get_ipython", None)
    return None if get_ipython is None else get_ipython()


def notebook_name() -> str | None:
    """Return the name of the notebook that this process serves; None if it serves none.

    Jupyter tells it in ``JPY_SESSION_NAME``, and VS Code in a variable of the notebook. Any other notebook is
    called ``notebook``.
    """
    shell = ipython_shell()
    if getattr(shell, "kernel", None) is None:
        return None
    for told in (shell.user_ns.get("__vsc_ipynb_file__"), os.environ.get("JPY_SESSION_NAME")):
        if isinstance(told, str) and told.endswith(".ipynb"):
            return PurePath(told.replace("\\", "/")).stem or UNNAMED
    return UNNAMED
