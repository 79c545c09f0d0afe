"""What switches the current context of a thread without an attach or a detach: one module a runtime.

Each has an `install` that takes the library's module (it may not be found under its name yet: its import is just ending) and
whether the interpreter tells of switches, and returns its undo. `RUNTIMES` names the library that must be imported before it
is worth having: until then it costs nothing, not even its own import. CPython 3.14 tells of every switch itself, whatever the
library, and leaves only the ends of event loops and greenlets to be followed; see `context_watcher`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import wrapt

from ..guard import guarded

RUNTIMES = {
    "asyncio": "asyncio_handles",
    "uvloop": "uvloop_callbacks",
    "greenlet": "greenlet_trace",
    "trio": "trio_instrument",
    "concurrent.futures.thread": "thread_pools",
    "anyio._backends._asyncio": "anyio_workers",
    "asgiref.sync": "asgiref_threads",
}
"""Library to the module of this package that follows its switches."""

LOOPS = {"asyncio", "uvloop"}
"""Those of them whose beginning and end are followed even where the interpreter tells of the switches."""

NEVER_WATCHED = {"greenlet"}
"""Those of whose switches the interpreter does not tell: a greenlet brings its context along as part of its thread state."""


def install() -> Callable[[], None]:
    """Follow the switches of every runtime in `RUNTIMES`, as soon as it is imported; return what ends that."""
    undos: list[Callable[[], None]] = []
    state = {"active": True}

    @guarded("watch the interpreter's contexts")
    def watch() -> bool:
        undos.append(importlib.import_module(".context_watcher", __name__).install())
        return True

    watched = sys.version_info >= (3, 14) and watch() is True

    def when_imported(library: str) -> None:
        @guarded(f"follow the switches of {library}")
        def hook(module: ModuleType) -> None:
            if state["active"]:
                undos.append(importlib.import_module(f".{RUNTIMES[library]}", __name__).install(module, watched))

        wrapt.register_post_import_hook(hook, library)

    def undo() -> None:
        state["active"] = False
        while undos:
            undos.pop()()

    for library in LOOPS | NEVER_WATCHED if watched else RUNTIMES:
        when_imported(library)
    return undo
