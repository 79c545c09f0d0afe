"""Lets `python -m otel_profiling_distro.commands` stand in where the script is not on the path."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
