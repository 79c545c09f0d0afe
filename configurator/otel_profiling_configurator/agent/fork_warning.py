"""Keeps warnings about forks away that are there because of our agent.

pyroscope-io registers a hook that warns after each fork that the child is not profiled; in ours an agent is started. Filters
for warnings are the application's to set, or a test runner's, and those turn warnings into errors. So the hook itself is
exchanged while the agent is ours (pyroscope-io 1.4). CPython (3.12 and later) warns, too, of forks in a process that has more
than one thread, and counts the agent's: that one is kept away where no thread of anybody else's is there.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType
from typing import Any

HOOK = "at_fork_after_in_parent"
"""Name of the function of pyroscope-io's native module that warns."""

_OF_CPYTHON = r"This process \(pid=\d+\) is multi-threaded"


class _Once:
    """Matches CPython's warning in the place of a regular expression, and takes its filter away with that.

    CPython warns when the hooks of the fork have run (3.13), so that none of them can take the filter away.
    """

    def __init__(self, filters: list[Any]) -> None:
        self._filters = filters
        self.filter = ("ignore", self, DeprecationWarning, None, 0)

    def match(self, text: str) -> bool:
        """Return whether the text is that of the warning."""
        if not re.match(_OF_CPYTHON, text):
            return False
        self.end()
        return True

    def end(self) -> None:
        """Take the filter away."""
        with contextlib.suppress(ValueError):
            self._filters.remove(self.filter)


_once: _Once | None = None
"""What keeps the warning of the current fork away, or of the last one: where CPython had nothing to say it is there still."""

_hooks: list[tuple[functools.partial[Any], Callable[[], Any]]] = []
"""What Python calls after a fork in the place of pyroscope-io's hook, and that hook."""


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import pyroscope-io inside of this: the hook that it registers can be silenced."""
    original = getattr(os, "register_at_fork", None)
    if original is None:
        yield
        return

    @functools.wraps(original)
    def register_at_fork(**hooks: Any) -> None:
        if _is_hook(hooks.get("after_in_parent")):
            hooks["after_in_parent"] = _exchangeable(hooks["after_in_parent"])
        original(**hooks)

    os.register_at_fork = register_at_fork
    try:
        yield
    finally:
        os.register_at_fork = original


def find() -> None:
    """Find the hook where pyroscope-io was imported by somebody else: in the interpreter's list of them."""
    for hooks in gc.get_objects():
        if type(hooks) is list:
            for place, hook in enumerate(hooks):
                if _is_hook(hook):
                    hooks[place] = _exchangeable(hook)


def silence(ours: bool) -> None:
    """Have pyroscope-io warn after a fork, or not if the agent is ours."""
    for called, hook in _hooks:
        # A partial has no frame: where the hook warns, the warning names the line of the application's that forked.
        exchange: Any = called.__setstate__  # type: ignore[attr-defined] # for pickling; nothing else changes one
        exchange((bool if ours else hook, (), {}, None))


def before_fork(own_threads: int) -> None:
    """Keep CPython's warning of this fork away, if `own_threads` and the one that forks are all threads there are."""
    global _once  # noqa: PLW0603 - the filters are the process's, too
    end_fork()
    if sys.version_info >= (3, 12) and _threads() - own_threads <= 1:
        filters: Any = warnings.filters  # a list, whatever it is declared as
        _once = _Once(filters)
        # Put there without a word to the module: told of it, it would show warnings again that it has shown already.
        filters.insert(0, _once.filter)


def end_fork() -> None:
    """Take back what `before_fork` did; to be called in the child, where nothing is warned of."""
    global _once
    once, _once = _once, None
    if once is not None:
        once.end()


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return sys.maxsize  # CPython counts those that Python knows there, and ours are none of them


def _is_hook(hook: object) -> bool:
    return type(hook) is BuiltinFunctionType and hook.__name__ == HOOK


def _exchangeable(hook: Any) -> functools.partial[Any]:
    called = functools.partial(hook)
    _hooks.append((called, hook))
    return called
