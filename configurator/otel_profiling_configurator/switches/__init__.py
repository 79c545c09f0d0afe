"""What switches the current context of a thread without an attach or a detach: one module a runtime.

Each has an `install` that takes the library's module (it may not be found under its name yet: its import is just ending) and
returns its undo. `RUNTIMES` names the library that must be imported before it is worth having: until then it costs nothing,
not even its own import.

CPython 3.14 could tell of every switch at once, whatever the library (``PyContext_AddWatcher``). But it also tells while an
exception is on its way out of a context, and a watcher must leave that alone; one that is called through `ctypes` loses it,
and the application gets a `SystemError` in place of its own exception. That takes a watcher written in C.
"""

from __future__ import annotations

import importlib
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


def install() -> Callable[[], None]:
    """Follow the switches of every runtime in `RUNTIMES`, as soon as it is imported; return what ends that."""
    undos: list[Callable[[], None]] = []
    state = {"active": True}

    def when_imported(library: str) -> None:
        @guarded(f"follow the switches of {library}")
        def hook(module: ModuleType) -> None:
            if state["active"]:
                undos.append(importlib.import_module(f".{RUNTIMES[library]}", __name__).install(module))

        wrapt.register_post_import_hook(hook, library)

    def undo() -> None:
        state["active"] = False
        while undos:
            undos.pop()()

    try:
        for library in RUNTIMES:
            when_imported(library)
    except BaseException:
        undo()
        raise
    return undo
