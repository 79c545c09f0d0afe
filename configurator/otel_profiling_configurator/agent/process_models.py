"""Forks that Python's fork hooks and exits that `atexit` never hear of.

uWSGI forks in C and calls no Python hook. Children of `multiprocessing` (and so of `concurrent.futures`), workers of Celery
and RQ's processes for one job leave with ``os._exit``, which skips `atexit`. Each has a hook of its own, and those are used: a
wrapper around ``os._exit`` would also catch the programs that call it because they must leave at once. uvicorn, when it has
shut down on SIGTERM, raises that signal again with its default action, so that whoever waits for the process sees why it ended.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_FORK_HOOK = "post_fork_hook"
"""The name by which uWSGI's embedded module knows what to call in each worker."""

_LAST = -100
"""Priority among `multiprocessing`'s finalizers: after the application's own."""

_FATAL = {signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM), getattr(signal, "SIGQUIT", signal.SIGTERM)}
"""Signals by which processes are told to end, and do where nobody handles them."""

_HELPERS = r"from [\w.]+\.(resource_tracker|semaphore_tracker) import main\b"
"""What Python is told to run in processes that only watch over others' resources: `multiprocessing`'s, and joblib's."""

_FORK_SERVER = r"from [\w.]+\.forkserver import main\b"
"""And in one that does nothing but fork."""

_arranged: set[str] = set()


def is_helper() -> bool:
    """Whether this process runs nothing of the application's, and nothing in it is worth a profile."""
    return _runs(_HELPERS)


def only_forks() -> bool:
    """Whether this process runs nothing of the application's, but its children will."""
    return _runs(_FORK_SERVER)


def _runs(code: str) -> bool:
    arguments = sys.orig_argv
    return "-c" in arguments and any(re.match(code, argument) for argument in arguments[arguments.index("-c") + 1 :][:1])


def in_children(begin: Callable[[], None], stop: Callable[[], None]) -> None:
    """Have `stop` called before a forked child leaves with ``os._exit``; to be called before each fork.

    What isn't imported by then can't have made the child. `stop` must do nothing in a process where nothing is to be stopped.

    Args:
        begin: Called in a child of `multiprocessing` when it has begun, which closes no descriptors of others any more.
        stop: As said.
    """
    if "multiprocessing.util" in sys.modules and "multiprocessing" not in _arranged:
        _arranged.add("multiprocessing")
        util: Any = sys.modules["multiprocessing.util"]

        def begun(util: Any) -> None:
            util.Finalize(None, stop, exitpriority=_LAST)
            begin()

        # The child begins with no finalizers, and calls this next; as a key it wants an object that lives on.
        util.register_after_fork(util, begun)
    if "celery.signals" in sys.modules and "celery" not in _arranged:
        _arranged.add("celery")
        sys.modules["celery.signals"].worker_process_shutdown.connect(lambda **_: stop(), weak=False)
    for module in ("rq.worker", "rq.worker.base"):
        if module in sys.modules and module not in _arranged:
            _arranged.add(module)
            _after_each_job(sys.modules[module], stop)


def _after_each_job(module: ModuleType, stop: Callable[[], None]) -> None:
    """Have `stop` called in a process that RQ has forked for one job, when that is done (rq 1.16 to 2.6 at least)."""
    for owner in {value for value in vars(module).values() if isinstance(value, type) and "perform_job" in vars(value)}:
        original = vars(owner)["perform_job"]

        @functools.wraps(original)
        def perform_job(self: Any, *args: Any, _original: Any = original, **kwargs: Any) -> Any:
            try:
                return _original(self, *args, **kwargs)
            finally:
                if getattr(self, "_is_horse", False):
                    stop()

        owner.perform_job = perform_job  # type: ignore[attr-defined] # a class found at run time


def before_fatal_signal(stop: Callable[[], None]) -> Callable[[], None]:
    """Have `stop` called before the process raises a signal that ends it; return what ends that.

    No signal has a handler because of this: what others send still ends the process at once, if it would without us.
    """
    original = signal.raise_signal

    @functools.wraps(original)
    def raise_signal(number: int, /) -> None:
        if number in _FATAL and signal.getsignal(number) is signal.SIG_DFL:
            stop()
        original(number)

    def undo() -> None:
        if signal.raise_signal is raise_signal:
            signal.raise_signal = original

    # It is found there and not in the native module, by `pickle` for one.
    raise_signal.__module__ = signal.__name__
    signal.raise_signal = raise_signal
    return undo


def is_uwsgi() -> bool:
    """Whether this interpreter is embedded in uWSGI."""
    return not sys.orig_argv and os.path.basename(sys.executable or "").startswith("uwsgi")  # noqa: PTH119 - start-up cost


def in_each_uwsgi_worker(start: Callable[[], None]) -> None:
    """Call `start` in each worker once it has been forked (without a master: once it begins); here, if this is a worker.

    At start-up uWSGI's module does not exist yet. uWSGI fills the one it finds, so that it can be made with the hook in it.
    """
    module: Any = sys.modules.get("uwsgi")
    if module is None or (isinstance(module, _Uwsgi) and not hasattr(module, "worker_id")):
        sys.modules["uwsgi"] = _Uwsgi("uwsgi", start)
    elif module.worker_id():
        start()
    else:
        setattr(module, _FORK_HOOK, _both(start, getattr(module, _FORK_HOOK, None)))


class _Uwsgi(ModuleType):
    """The module ``uwsgi``, which calls ours before whatever hook the application sets (``uwsgidecorators`` does)."""

    def __init__(self, name: str, start: Callable[[], None]) -> None:
        super().__init__(name)
        super().__setattr__("_otel_profiling_start", start)
        super().__setattr__(_FORK_HOOK, start)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, _both(self._otel_profiling_start, value) if name == _FORK_HOOK else value)


def _both(first: Callable[[], None], second: Callable[[], object] | None) -> Callable[[], None]:
    def both() -> None:
        first()
        if second is not None:
            second()

    return both
