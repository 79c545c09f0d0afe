"""Prints what the application's sitecustomize left, and leaves with code 3."""

import builtins
import sys

print(builtins.said_by_sitecustomize)
sys.exit(3)
