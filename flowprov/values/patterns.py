"""Regular expressions that a person wrote, compiled without a warning.

Python warns of forms that a later version may read in another way, as in ``[[a]``. A program does not hear of
that: it may take warnings for errors.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache


@lru_cache(maxsize=256)  # the filters of warnings belong to the program: they are touched once for each
def compile_pattern(text: str) -> re.Pattern[str]:
    """Return a compiled regular expression.

    Raises
    ------
    re.error
        If it is none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.compile(text)
