"""Runs in the interpreter that is examined, under `opentelemetry-instrument`: says what is there, and works for a second.

A file that is run by its path: of this project only the configurator need be there. Prints a line of JSON.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import platform
import sys
import sysconfig
import time
from importlib import metadata
from typing import Any

SPAN = "otel-profiling doctor"
CPU_SECONDS = 1.0
VERSIONS = (
    "otel-profiling-distro",
    "otel-profiling-configurator",
    "pyroscope-io",
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation",
    "opentelemetry-distro",
    "opentelemetry-configuration",
    "wrapt",
)

OURS = ("otel-profiling-", "opentelemetry-", "pyroscope-")
"""What the names of packages begin with whose requirements are looked at."""


def busy_in_span(seconds: float) -> None:
    """Use CPU time, in a function whose samples can be told by its name."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1_000))


def libc() -> str:
    """Return which C library the interpreter was made for; empty where there is no telling."""
    # `platform` knows glibc only.
    return " ".join(platform.libc_ver()).strip() or ("musl" if "musl" in str(sysconfig.get_config_var("EXT_SUFFIX")) else "")


def version_of(name: str) -> str | None:
    """Return the version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def requirements() -> dict[str, list[str]]:
    """Return what each package wants that has to do with profiling or tracing, as its metadata has it."""
    names = {str(each.metadata["Name"]).lower(): each.requires or [] for each in metadata.distributions()}
    return {name: wanted for name, wanted in names.items() if name.startswith(OURS)}


def entry_points(group: str) -> list[str]:
    """Return names and values of a group of entry points, in the order in which upstream finds them."""
    return [f"{point.name} = {point.value}" for point in metadata.entry_points(group=group)]


def process_vm_readv() -> str:
    """Return why the kernel refuses to have the process's own memory read, as its samplers do; empty where it does not."""

    class Piece(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    try:
        call = ctypes.CDLL(None, use_errno=True).process_vm_readv
    except AttributeError:
        return "this platform has no process_vm_readv"
    source, target = ctypes.create_string_buffer(b"seen", 4), ctypes.create_string_buffer(4)
    local, remote = (Piece(ctypes.cast(buffer, ctypes.c_void_p), 4) for buffer in (target, source))
    call.restype = ctypes.c_ssize_t
    if call(
        os.getpid(), ctypes.byref(local), ctypes.c_ulong(1), ctypes.byref(remote), ctypes.c_ulong(1), ctypes.c_ulong(0)
    ) == len(source):
        return ""
    return errno.errorcode.get(ctypes.get_errno(), "an error")


def agent() -> str:
    """Return why the agent can't be loaded; empty where it can."""
    try:
        importlib.import_module("pyroscope")
    except Exception as error:  # noqa: BLE001 - a module for another libc or interpreter may raise anything
        return f"{type(error).__name__}: {error}"
    return ""


def form() -> dict[str, Any]:
    """Return whether the native module is there, or why not, and how samples are labelled."""
    try:
        native = importlib.import_module("otel_profiling_configurator.native")
        thread_labels = importlib.import_module("otel_profiling_configurator.context.labelling")
    except Exception as error:  # noqa: BLE001 - as above
        return {"configurator": f"{type(error).__name__}: {error}"}
    return {
        "native": native.native is not None,
        "why_missing": native.why_missing,
        "missing_here": native.is_missing_here(),
        "why_by_thread": thread_labels.why_by_thread(),
    }


def exporters(provider: object) -> list[str]:
    """Return the names of the span exporters of the SDK's provider, as far as they can be seen (SDK 1.30 to 1.45)."""
    processors = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
    found: list[str] = []
    for processor in processors:
        exporter = getattr(processor, "span_exporter", None) or getattr(
            getattr(processor, "_batch_processor", None), "_exporter", None
        )
        if exporter is not None:
            found.append(f"{type(exporter).__module__}.{type(exporter).__qualname__}")
    return found


def work() -> dict[str, Any]:
    """Work in a span; return what it was, and whose."""
    try:
        from opentelemetry import trace  # noqa: PLC0415 - that it can't be imported is to be told, too
    except ImportError as error:
        return {"traces": str(error)}
    provider = trace.get_tracer_provider()
    with trace.get_tracer("otel-profiling-doctor").start_as_current_span(SPAN) as span:
        context = span.get_span_context()
        busy_in_span(CPU_SECONDS)
    resource = getattr(getattr(provider, "resource", None), "attributes", {})
    return {
        "span_id": f"{context.span_id:016x}",
        "sampled": context.trace_flags.sampled,
        "exporters": exporters(provider),
        "service_name": str(resource.get("service.name", "")),
    }


if __name__ == "__main__":
    told = {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "libc": libc(),
        "versions": {name: version_of(name) for name in VERSIONS},
        "distros": entry_points("opentelemetry_distro"),
        "configurators": entry_points("opentelemetry_configurator"),
        "instrumentations": [point.name for point in metadata.entry_points(group="opentelemetry_instrumentor")],
        "distributions": {str(each.metadata["Name"]).lower(): each.version for each in metadata.distributions()},
        "requires": requirements(),
        "environ": {name: value for name, value in os.environ.items() if name.startswith("OTEL_")},
        "process_vm_readv": process_vm_readv(),
        "agent": agent(),
        **work(),
        **form(),
    }
    print(json.dumps(told))
