"""Starts telemetry from files that were put into a container beside its application, as the OpenTelemetry operator does.

PYTHONPATH comes before what is installed, so whatever is injected replaces the application's own version of it: an
application whose generated protobuf code is older by two major versions, or newer than the runtime that it then gets, does
not start. So of the libraries that applications have too, the application's own version is used, by all, where telemetry can
work with it (`SHARED`). Only OpenTelemetry's packages, which fit each other and nothing else, are always the injected ones.

Called by the image's ``sitecustomize.py``, which has found out that this Python can run it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import NamedTuple

OTEL_PYTHON_DISTRO = "OTEL_PYTHON_DISTRO"
OTEL_PYTHON_CONFIGURATOR = "OTEL_PYTHON_CONFIGURATOR"

Version = tuple[int, ...]


class Refused(Exception):  # noqa: N818 - nothing has gone wrong: the application can't have both
    """Telemetry must not start here; says why."""


class Shared(NamedTuple):
    """A library that an application may have too."""

    distribution: str
    modules: tuple[str, ...]
    """What it is imported as."""
    least: Version
    """The oldest that telemetry works with: what the distributions in the image require (a test compares)."""
    incompatible: Version = ()
    """Applications that have one older than this do not work with the injected one."""
    companions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Distributions, and what they are imported as, that come from where this one comes from."""


SHARED = (
    # Code that was generated for protobuf 3 before 3.19 builds descriptors in a way that version 4 took out.
    Shared("protobuf", ("google.protobuf", "google._upb"), (5,), incompatible=(4,)),
    Shared(
        "requests",
        ("requests",),
        (2, 7),
        # Each requests works with some of these only.
        companions=(
            ("urllib3", ("urllib3",)),
            ("idna", ("idna",)),
            ("certifi", ("certifi",)),
            ("charset-normalizer", ("charset_normalizer",)),
        ),
    ),
    Shared("urllib3", ("urllib3",), (1, 26)),
    Shared("idna", ("idna",), (2, 5)),
    Shared("certifi", ("certifi",), (2023, 5, 7)),
    Shared("charset-normalizer", ("charset_normalizer",), (2,)),
    Shared("wrapt", ("wrapt",), (1, 14)),
    Shared("typing-extensions", ("typing_extensions",), (4, 12)),
    Shared("packaging", ("packaging",), (21,)),
    Shared("asgiref", ("asgiref",), (3,)),
    Shared("psutil", ("psutil",), (5, 9)),
)


def start(tree: str) -> None:
    """Make the application's own libraries come first, then do what `opentelemetry-instrument` does.

    Args:
        tree: Folder of the injected files.

    Raises:
        Refused: telemetry could not send anything, or an application with these libraries would not work beside it.
        ImportError: the files are not complete.
    """
    path = [entry for entry in sys.path if not is_inside(entry, tree)]
    check_protocol(path)
    own = own_libraries(path)
    sys.meta_path.insert(0, ApplicationFirst(tree, own))
    hide_unloadable("psutil", path, own)
    # What fails here, upstream would answer with a traceback, and without telemetry.
    importlib.import_module("otel_profiling_distro.distro")
    from opentelemetry.instrumentation.auto_instrumentation import (  # noqa: PLC0415 - looked for as said above
        initialize,
    )

    # Upstream takes what it finds first, which depends on the order in which a file system lists a folder. Only for now:
    # an application's children may have distros of their own.
    wanted = {OTEL_PYTHON_DISTRO: "profiling", OTEL_PYTHON_CONFIGURATOR: "configurator"}
    chosen = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(chosen)
    try:
        initialize()
    finally:
        for name in chosen:
            os.environ.pop(name, None)


def check_protocol(path: list[str]) -> None:
    """Have OTLP sent over HTTP, since there is no gRPC in the image, unless the application has it.

    Raises:
        Refused: gRPC is asked for. Upstream would find no exporter and start nothing.
    """
    if installed_version("opentelemetry-exporter-otlp-proto-grpc", path) is not None:
        return
    for signal in ("", "TRACES_", "METRICS_", "LOGS_"):
        variable = f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL"
        if os.environ.get(variable) == "grpc":
            raise Refused(
                f"{variable}=grpc, and what was injected has no gRPC; set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf "
                "and the endpoint's port for HTTP, usually 4318"
            )
    # Upstream's distro would choose gRPC.
    os.environ.setdefault("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")


def hide_unloadable(module: str, path: list[str], own: dict[str, str]) -> None:
    """Have a module whose native part can't be loaded be the application's, though it is an older one, or count as missing.

    That is so where the image's tree for another C library was injected. Upstream skips instrumentations whose libraries are
    missing, and writes a traceback for those that can't be loaded.

    Args:
        module: Name of the module and of its distribution.
        path: Where the application's own libraries are.
        own: What `ApplicationFirst` finds for the application; the module is added if the application has it.
    """
    try:
        importlib.import_module(module)
    except ImportError:
        if installed_version(module, path) is None:
            sys.modules[module] = None  # type: ignore[assignment] # the documented way to have an import fail
            return
        own[module] = module
        for name in [name for name in sys.modules if name.partition(".")[0] == module]:
            del sys.modules[name]  # what had been imported when it failed


def own_libraries(path: list[str]) -> dict[str, str]:
    """Return what the application has on `path` and everybody is to use: each imported name, and its distribution.

    Raises:
        Refused: see `start`.
    """
    own: dict[str, str] = {}
    for shared in SHARED:
        text = installed_version(shared.distribution, path)
        if text is None or shared.modules[0] in own:
            continue
        version = parse_version(text)
        if version < shared.incompatible:
            raise Refused(
                f"the application has {shared.distribution} {text}, and may not work with the "
                f"{dotted(shared.least)} or later that telemetry needs"
            )
        if version >= shared.least:
            libraries = [(shared.distribution, shared.modules)]
            libraries += [entry for entry in shared.companions if installed_version(entry[0], path) is not None]
            own.update({module: distribution for distribution, modules in libraries for module in modules})
    return own


def installed_version(distribution: str, path: list[str]) -> str | None:
    """Return the version of `distribution` on `path`, None if it is not there."""
    for found in importlib.metadata.distributions(name=distribution, path=path):
        # Damaged metadata has none.
        version: str | None = found.metadata["Version"]
        return version
    return None


def parse_version(text: str) -> Version:
    """Return the release numbers that a version begins with: enough to compare with a lower bound."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(map(int, match[1].split("."))) if match else ()


def dotted(version: Version) -> str:
    """Return a version as people write it."""
    return ".".join(map(str, version)) if len(version) > 1 else f"{version[0]}.0"


def is_inside(entry: str, tree: str) -> bool:
    """Return whether an entry of a path is `tree` or lies in it."""
    absolute = os.path.abspath(entry or os.curdir)  # noqa: PTH100 - pathlib is not worth its import at start-up
    return absolute == tree or absolute.startswith(tree + os.sep)


class ApplicationFirst(importlib.metadata.DistributionFinder):
    """Finds chosen modules, and the metadata of their distributions, as if the tree were not on ``sys.path``.

    Every other import goes on to the finders after this one, for the price of looking a name up.

    Args:
        tree: Folder of the injected files.
        own: Imported name to distribution.
    """

    def __init__(self, tree: str, own: dict[str, str]) -> None:
        self._tree = tree
        self._own = own

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the application's module; None for all others, and if the application has only its metadata."""
        if fullname not in self._own:
            return None
        return PathFinder.find_spec(fullname, self._without_tree(sys.path if path is None else path), target)

    def find_distributions(
        self,
        context: importlib.metadata.DistributionFinder.Context = importlib.metadata.DistributionFinder.Context(),  # noqa: B008 - as in the base class; it is never changed
    ) -> Iterable[importlib.metadata.Distribution]:
        """Find the application's distribution; nothing where all are asked for: other finders list them."""
        name = re.sub(r"[-_.]+", "-", context.name or "").lower()
        if name not in self._own.values():
            return ()
        searched = importlib.metadata.DistributionFinder.Context(name=context.name, path=self._without_tree(context.path))
        return importlib.metadata.MetadataPathFinder.find_distributions(searched)

    def invalidate_caches(self) -> None:
        """Do nothing: there are none. (The method of the base class is missing in Python 3.10.)"""

    def _without_tree(self, path: Iterable[str]) -> list[str]:
        return [entry for entry in path if not is_inside(entry, self._tree)]
