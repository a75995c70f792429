"""For ``dask worker --preload flowprov.preload``: registers the plugin before the worker gets a task.

Flows in: a worker that starts. Flows out: the same worker with the plugin. The plugin uses the settings that
the worker's own process finds.
"""

from __future__ import annotations

import logging
from typing import Any

from flowprov.capture.dask import DaskWorkerPlugin


async def dask_setup(service: Any) -> None:
    """Register the plugin on a worker. Dask calls this function."""
    if not hasattr(service, "plugin_add"):
        logging.getLogger("flowprov").warning(
            "flowprov.preload is for Dask workers; it does nothing in a %s.", type(service).__name__
        )
        return
    await service.plugin_add(plugin=DaskWorkerPlugin(), name=DaskWorkerPlugin.name)
