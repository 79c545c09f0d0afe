"""Tells the main interpreter from others in the process, which are none of our business.

A process has one agent, one set of hooks in C and one main thread; a thread of ours in another interpreter would abort the
process when that one ends, and pyroscope-io, imported there, stops the agent then.
"""

from __future__ import annotations

import importlib
from typing import Any


def is_main_interpreter() -> bool:
    """Whether this code runs in the interpreter that the process began with."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # CPython 3.13 and later; before
        try:
            interpreters: Any = importlib.import_module(name)
        except ImportError:
            continue
        return bool(interpreters.get_current() == interpreters.get_main())
    return True  # nobody can make another one there, but for programs that embed Python
