"""Labels follow a context into the worker threads of `concurrent.futures`.

`asyncio.to_thread`, and `run_in_executor` as applications use it, hand the `run` of a copied context to the executor.
(`opentelemetry-instrumentation-threading` attaches a context in the worker, which is seen anyway.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .attributes import replacing
from .entered import followed_run


def install(futures: Any) -> Callable[[], None]:
    """Follow the switches; return what puts the original method back."""
    executor = futures.ThreadPoolExecutor
    submit = executor.submit

    @functools.wraps(submit)
    def submit_and_follow(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        return submit(self, followed_run(fn), *args, **kwargs)

    with replacing() as replace:
        replace(executor, "submit", submit_and_follow)
    return replace.undo
