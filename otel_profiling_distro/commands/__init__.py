"""The command line `otel-profiling`: one module for each command, all listed in `main`."""

from .main import main

__all__ = ["main"]
