"""Needs nothing but the standard library, of any Python since 2.7, and leaves with code 3."""

import sys
import time


def busy_bare(seconds):
    end = time.time() + seconds
    while time.time() < end:
        sum(range(1000))


busy_bare(0.7)
try:
    import opentelemetry.trace
except ImportError:
    # Of the application's own packages: a tree that telemetry was not started from must not answer.
    opentelemetry = None
print("done")
sys.exit(3)
