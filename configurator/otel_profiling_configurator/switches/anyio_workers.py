"""Labels follow a context into anyio's worker threads: endpoints of FastAPI and Starlette that are plain functions.

anyio has threads of its own on asyncio, entered with a copied context. On trio it uses trio's. (anyio 3 and 4: the function
or class method of its asyncio back end, which `anyio.to_thread.run_sync` looks up with every call.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .attributes import replacing
from .entered import following


def install(backend: Any) -> Callable[[], None]:
    """Follow the switches; return what puts the original back."""
    owner = getattr(backend, "AsyncIOBackend", backend)  # anyio 3 has functions where 4 has a class
    run_sync = owner.run_sync_in_worker_thread

    @functools.wraps(run_sync)
    async def run_sync_and_follow(*args: Any, **kwargs: Any) -> Any:
        func, *rest = args
        return await run_sync(following(func), *rest, **kwargs)

    with replacing() as replace:
        of_class = owner is not backend
        # As a static method: the bound one that it calls knows its class.
        replace(owner, "run_sync_in_worker_thread", staticmethod(run_sync_and_follow) if of_class else run_sync_and_follow)
    return replace.undo
