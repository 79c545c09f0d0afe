"""The native module where it could be loaded, and why not where it could not."""

from __future__ import annotations

try:
    from . import _native as native
except ImportError as error:  # a pure wheel, or a module of another interpreter
    native = None  # type: ignore[assignment] # as said
    why_missing = str(error)
else:
    why_missing = ""

__all__ = ["native", "why_missing"]
