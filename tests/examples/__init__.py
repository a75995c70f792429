"""The example's folder is on the path of its tests, as it is on that of its scripts."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "llm_campaign"))
