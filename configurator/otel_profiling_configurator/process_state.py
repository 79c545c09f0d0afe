"""What a process has once, though this package may be imported in it more than once.

Sandboxes (Temporal's for workflows) and tools that reload import everything a second time. The second copy must find what the
first has done, and neither do it again nor take anything from it. So that is kept where every copy looks: at `sys`.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

_NAME = "_otel_profiling_process"


class ProcessState:
    """The activation of this process, if there is one."""

    def __init__(self) -> None:
        self.lock: Any = threading.RLock()
        self.active: Any = None
        """The activation: an object of whichever copy made it."""
        self.deactivate: Any = None
        """That copy's function which ends it."""
        self.hooked = False
        """Whether forks are heard of: Python has no way to take such hooks back."""


def process_state() -> ProcessState:
    """Return the one of this process."""
    state: ProcessState = vars(sys).setdefault(_NAME, ProcessState())
    return state
