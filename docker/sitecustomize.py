"""Starts telemetry in a Python that it was injected into, or stays out of its way: the only file that runs in any Python.

The operator puts this file's folder first on PYTHONPATH and the tree it lies in last, so that every Python of the container
imports it at start-up: also one that this tree has no native modules for, or that can't even parse it. It therefore looks
before it imports, runs on Python 2.7 and later, and ends in one of two ways: telemetry starts, or one line says why not and
the tree is no longer on ``sys.path``, so that the application meets nothing of it.
"""

import os
import re
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))
_TREE = os.path.dirname(os.path.dirname(os.path.dirname(_HERE)))


def _known_versions():
    """Return the CPythons that this tree has native modules for, as pairs of numbers."""
    names = " ".join(os.listdir(os.path.join(_TREE, "pyroscope")))
    return sorted({(int(major), int(minor)) for major, minor in re.findall(r"_native\.cpython-(\d)(\d+)-", names)})


def _why_not():
    """Return why telemetry can't be started in this Python, None if it can."""
    known = _known_versions()
    name = sys.implementation.name if hasattr(sys, "implementation") else "python"
    if name != "cpython" or sys.version_info[:2] not in known:
        return "this is %s %d.%d, and the injected files are for CPython %s" % (
            (name,) + sys.version_info[:2] + (", ".join("%d.%d" % version for version in known),)
        )
    return None


def _is_ours(path):
    absolute = os.path.abspath(path or ".")
    return absolute == _TREE or absolute.startswith(_TREE + os.sep)


def _comes_from_here(module):
    paths = [getattr(module, "__file__", None)] + list(getattr(module, "__path__", None) or ())
    return any(_is_ours(path) for path in paths if path)


def _leave(reason):
    """Say why telemetry is off, and take the tree out of this process; children look for themselves."""
    # All are found before any is taken out: a namespace package asks its parent where it lies.
    imported = [name for name, module in list(sys.modules.items()) if name != __name__ and _comes_from_here(module)]
    for name in imported:
        del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if not _is_ours(entry)]
    if sys.stderr is not None:
        sys.stderr.write("otel-profiling: no traces and no profiles, the application runs without: %s\n" % reason)


def _run_sitecustomize_of_application():
    """Run the ``sitecustomize`` that would have run, had this one not come first."""
    from importlib.machinery import PathFinder  # noqa: PLC0415 - Python 2 has none
    from importlib.util import module_from_spec  # noqa: PLC0415 - as above

    spec = PathFinder.find_spec("sitecustomize", [entry for entry in sys.path if not _is_ours(entry)])
    # Another OpenTelemetry's would start telemetry a second time.
    if spec is not None and spec.origin and os.path.basename(os.path.dirname(spec.origin)) != "auto_instrumentation":
        spec.loader.exec_module(module_from_spec(spec))


def _start():
    reason = _why_not()
    if reason is None:
        try:
            from otel_profiling_distro.injection import Refused, start  # noqa: PLC0415 - only where it can be imported

            try:
                start(_TREE)
            except Refused as refused:
                reason = str(refused)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the application runs
            reason = "%s: %s" % (type(error).__name__, error)
    if reason is not None:
        _leave(reason)


try:
    if sys.version_info[0] > 2:
        _run_sitecustomize_of_application()
finally:
    _start()
