"""Tells the activation of this process, whichever it is, of forks and of how children go on.

Python has no way to take such hooks back. So they are registered once a process, and look up whom to tell.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from . import guard
from .log import logger
from .process_state import process_state


def start_in_worker() -> None:
    """Start the agent in a uWSGI worker."""
    active = process_state().active
    if active is not None:
        _silently(active.start_in_worker)


def start_due_agent() -> None:
    """Start the agent of a child at once, which will not close what it inherited."""
    active = process_state().active
    if active is not None:
        active.start_due_agent()


def stop_agent() -> None:
    """Have the agent of a child that is about to end send what it has."""
    active = process_state().active
    if active is not None:
        active.stop_agent()


def _before_fork() -> None:
    active = process_state().active
    if active is not None:
        guard.guarded("wait for a moment to fork")(active.before_fork)()


def _after_fork_in_parent() -> None:
    active = process_state().active
    if active is not None:
        guard.guarded("go on after a fork")(active.after_fork_in_parent)()


def _after_fork_in_child() -> None:
    state = process_state()
    state.lock = threading.RLock()  # another thread may have held it at the time of the fork
    if state.active is not None:
        _silently(state.active.after_fork_in_child)


def _silently(act: Callable[[], None]) -> None:
    """Call `act` where nothing may log: between a fork and its return in the child."""
    disabled, logger.disabled = logger.disabled, True
    try:
        act()
    except Exception:
        if guard.reraise:
            raise
    finally:
        logger.disabled = disabled


def register() -> None:
    """Have the activation hear of forks from now on."""
    state = process_state()
    if not state.hooked and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
        state.hooked = True
