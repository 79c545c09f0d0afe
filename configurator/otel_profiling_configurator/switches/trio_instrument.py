"""Labels follow trio's switches, through the interface that trio has for such things: an instrument.

An instrument is given to `trio.run` by whoever calls it. All of trio's ways to start a run meet in one function, and there
ours is added (trio 0.22 to 0.35 at least: ``trio._core._run.setup_runner``).

`trio.to_thread.run_sync` runs a function on a worker thread in a copy of the task's context, which no instrument sees.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import opentelemetry.context as context_api
from opentelemetry.context import Context

from ..thread_labels import carry, refresh
from .attributes import replacing
from .entered import following


class _Following:
    """Has the labels follow the task that trio is about to run."""

    def __init__(self, variable: ContextVar[Context] | None) -> None:
        self._variable = variable
        self._nothing = Context()

    def before_task_step(self, task: Any) -> None:
        """Carry the labels of the task's context."""
        if self._variable is None:
            task.context.run(refresh)
        else:
            carry(task.context.get(self._variable, self._nothing))

    def after_run(self) -> None:
        """Carry those of the context that called `trio.run`."""
        refresh()


def install(trio: Any) -> Callable[[], None]:
    """Follow the switches; return what puts the original functions back."""
    instrument = type("Instrument", (_Following, trio.abc.Instrument), {})
    runs = trio._core._run
    variable = getattr(context_api._RUNTIME_CONTEXT, "_current_context", None)
    setup_runner, run_sync = runs.setup_runner, trio.to_thread.run_sync

    @functools.wraps(setup_runner)
    def setup(clock: Any, instruments: Any, *args: Any, **kwargs: Any) -> Any:
        ours = instrument(variable if isinstance(variable, ContextVar) else None)
        return setup_runner(clock, [*instruments, ours], *args, **kwargs)

    @functools.wraps(run_sync)
    async def run_sync_and_follow(sync_fn: Any, *args: Any, **kwargs: Any) -> Any:
        return await run_sync(following(sync_fn), *args, **kwargs)

    with replacing() as replace:
        replace(runs, "setup_runner", setup)
        replace(trio.to_thread, "run_sync", run_sync_and_follow)
    return replace.undo
