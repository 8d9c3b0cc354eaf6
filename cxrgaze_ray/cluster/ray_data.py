"""Ray Data's settings for one job; those of the process stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.data import DataContext


def job_context(object_bytes: int | None = None) -> DataContext:
    """Return the settings of a job, silent and with its own errors; `DataContext.current` puts them in force.

    Parameters
    ----------
    object_bytes
        Most bytes of the object store that blocks between stages may take; None leaves that to Ray Data.
    """
    from ray.data import DataContext, ExecutionResources

    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True  # Ray's own wrapping loses the cause on its way here
    if object_bytes is not None:
        context.execution_options.resource_limits = ExecutionResources.for_limits(object_store_memory=object_bytes)
    return context
