"""What switches the current context of a thread without an attach or a detach: one module a runtime.

Each has an `install` that takes the library's module (it may not be found under its name yet: its import is just ending) and
returns its undo. `RUNTIMES` names the library that must be imported before it is worth having: until then it costs nothing,
not even its own import.

CPython 3.14 and later tell of every switch at once, whatever the library (`context_watcher`). Beside that, modules have an
`install_watched` for what is left to do, and are needless where they have none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import wrapt

from ..guard import guarded
from . import context_watcher

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
    unwatch = context_watcher.install()
    undos: list[Callable[[], None]] = [unwatch] if unwatch else []
    name = "install_watched" if unwatch else "install"
    state = {"active": True}

    def when_imported(library: str) -> None:
        @guarded(f"follow the switches of {library}")
        def hook(module: ModuleType) -> None:
            if state["active"]:
                install_for = getattr(importlib.import_module(f".{RUNTIMES[library]}", __name__), name, None)
                if install_for is not None:
                    undos.append(install_for(module))

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
