"""Prints the versions in use of what it has installed, as modules and as metadata say, and leaves with code 3."""

import contextlib
import importlib
import importlib.metadata
import sys

MODULES = {"protobuf": "google.protobuf", "wrapt": "wrapt", "requests": "requests", "urllib3": "urllib3"}

for distribution, module in MODULES.items():
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        # Only what the application installed: where that is not so, the injected one answers as well.
        files = importlib.metadata.distribution(distribution).files
        if files is None:
            continue
        version = importlib.import_module(module).__version__
        print(distribution, version, importlib.metadata.version(distribution) == version)
sys.exit(3)
