"""Span profiles for Python with zero code: the distribution that people install."""

from .version import __version__

__all__ = ["__version__"]
