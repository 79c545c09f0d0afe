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

from ..threads.thread_labels import carry, refresh
from .attributes import replacing
from .entered import following


class _Watched:
    """Tells `context_watcher` where trio runs between the tasks' steps, so that a step's labels stay until the next one."""

    def __init__(self, trio: Any) -> None:
        from ._context_watcher import enter_loop, leave_loop  # noqa: PLC0415 - not there on older Pythons

        self._running = trio._core._run.GLOBAL_RUN_CONTEXT
        self._enter, self._leave = enter_loop, leave_loop
        self._outer: int | None = None

    def before_run(self) -> None:
        """Begin, unless trio is a guest of another loop, which runs each step in a context of its own."""
        if not getattr(self._running.runner, "is_guest", True):
            self._outer = self._enter()

    def after_run(self) -> None:
        """Carry the labels of the context that called `trio.run`."""
        if self._outer is not None:
            self._leave(self._outer)
        refresh()


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
    variable = getattr(context_api._RUNTIME_CONTEXT, "_current_context", None)
    run_sync = trio.to_thread.run_sync

    @functools.wraps(run_sync)
    async def run_sync_and_follow(sync_fn: Any, *args: Any, **kwargs: Any) -> Any:
        return await run_sync(following(sync_fn), *args, **kwargs)

    with replacing() as replace:
        _add_instrument(trio, replace, _Following, variable if isinstance(variable, ContextVar) else None)
        replace(trio.to_thread, "run_sync", run_sync_and_follow)
    return replace.undo


def install_watched(trio: Any) -> Callable[[], None]:
    """Do what is left to do beside `context_watcher`."""
    with replacing() as replace:
        _add_instrument(trio, replace, _Watched, trio)
    return replace.undo


def _add_instrument(trio: Any, replace: replacing, kind: type[Any], argument: object) -> None:
    """Have every run of trio get an instrument of this kind as well."""
    instrument = type("Instrument", (kind, trio.abc.Instrument), {})
    runs = trio._core._run
    setup_runner = runs.setup_runner

    @functools.wraps(setup_runner)
    def setup(clock: Any, instruments: Any, *args: Any, **kwargs: Any) -> Any:
        return setup_runner(clock, [*instruments, instrument(argument)], *args, **kwargs)

    replace(runs, "setup_runner", setup)
