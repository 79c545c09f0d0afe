"""What switches the current context of a thread without an attach or a detach: one module a runtime.

Each has an `install` that returns its undo. `RUNTIMES` names the library that must be imported before it is worth having:
until then it costs nothing, not even its own import.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import wrapt

from ..guard import guarded

RUNTIMES = {
    "asyncio": "asyncio_handles",
}
"""Library to the module of this package that follows its switches."""


def install() -> Callable[[], None]:
    """Follow the switches of every runtime in `RUNTIMES`, as soon as it is imported; return what ends that."""
    undos: list[Callable[[], None]] = []
    state = {"active": True}

    def when_imported(module: str) -> None:
        @guarded(f"follow the switches of {module}")
        def hook(_library: object) -> None:
            if state["active"]:
                undos.append(importlib.import_module(f".{RUNTIMES[module]}", __name__).install())

        wrapt.register_post_import_hook(hook, module)

    def undo() -> None:
        state["active"] = False
        while undos:
            undos.pop()()

    for library in RUNTIMES:
        when_imported(library)
    return undo
