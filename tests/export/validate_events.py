"""Have the client of OpenLineage take events: ``python -m tests.export.validate_events FILE``.

It needs ``openlineage-python``, whose classes are made of the JSON Schema of OpenLineage and check ids, times
and addresses. An event that they refuse raises.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def main(path: str) -> None:
    """Build each event of a file with the classes of the client."""
    base: Any = import_module("openlineage.client.generated.base")
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    for event in map(json.loads, lines):
        run, job = event["run"], event["job"]
        taken = base.RunEvent(
            eventTime=event["eventTime"],
            producer=event["producer"],
            run=base.Run(run["runId"], facets=run["facets"]),
            job=base.Job(job["namespace"], job["name"], facets=job["facets"]),
            eventType=base.EventType(event["eventType"]),
            inputs=[base.InputDataset(one["namespace"], one["name"]) for one in event.get("inputs", ())],
            outputs=[base.OutputDataset(one["namespace"], one["name"]) for one in event.get("outputs", ())],
        )
        if taken.schemaURL != event["schemaURL"]:
            sys.exit(f"{event['schemaURL']} is another schema than {taken.schemaURL}")
    print(f"{len(lines)} events taken")  # noqa: T201 - it is a program


if __name__ == "__main__":
    main(sys.argv[1])
