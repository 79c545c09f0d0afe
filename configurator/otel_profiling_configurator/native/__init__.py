"""The native module where it could be loaded, and why not where it could not."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

why_missing = ""
if TYPE_CHECKING:
    from . import _native as native
else:
    try:
        # Not by `from . import`: where there is none, that speaks of a circular import.
        native = importlib.import_module("._native", __name__)
    except ImportError as error:  # a pure wheel, or a module of another interpreter
        native, why_missing = None, str(error)

HOW_TO_GET_IT = (
    "samples are labelled by thread, and short steps less exactly than could be: the native module of "
    f"otel-profiling-configurator is missing ({why_missing}). There are wheels that have it: pip install --only-binary :all: "
    "--force-reinstall --no-deps otel-profiling-configurator. OTEL_PROFILING_ALIASES=false: labels by thread are meant."
)
"""A warning where `is_missing_here`."""

__all__ = ["HOW_TO_GET_IT", "is_missing_here", "native", "why_missing"]


def is_missing_here() -> bool:
    """Whether the native module could be loaded on such a platform, and was not found or does not fit."""
    return native is None and sys.platform == "linux" and sys.implementation.name == "cpython" and sys.maxsize > 2**32
