"""What the hooks of asyncio's and uvloop's loops have in common: where a loop begins and ends.

The labels of a step stay until the next one, or the loop's end: taking them off after each would double the cost of a task's
consecutive steps, and what runs in between is the loop's own work on behalf of the steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..threads.thread_labels import enter_loop, leave_loop, refresh


def followed_loop(run_forever: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a loop class's `run_forever`, having the labels be those of the caller's context in the end."""

    @functools.wraps(run_forever)
    def run_forever_and_follow(self: Any) -> None:
        enter_loop()
        try:
            run_forever(self)
        finally:
            leave_loop()

    return run_forever_and_follow


def followed_create_task(create_task: Callable[..., Any]) -> Callable[..., Any]:
    """Return a loop class's `create_task` (Python 3.12 and later), having the labels be those of the caller's context again.

    An eager task has run its first step by the time that it has been created, and has left the labels of that behind.
    """

    @functools.wraps(create_task)
    def create_task_and_follow(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return create_task(self, *args, **kwargs)
        finally:
            if kwargs.get("eager_start") or self.get_task_factory() is not None:
                refresh()

    return create_task_and_follow
