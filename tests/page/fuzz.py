"""Feeds the decoders what nobody would send: ``python -m tests.page.fuzz -max_total_time=60``, with atheris.

The first byte says which decoder; what follows is a body. Anything but an answer or a refusal is a finding. Found inputs become
cases of ``tests/unit/distro/test_receiver_fuzz.py``, which tries random bodies, and broken good ones, in each test run.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["otel_profiling_distro"]):
    from otel_profiling_distro.page.profile import Selection, profile
    from otel_profiling_distro.page.services import overview, routes
    from otel_profiling_distro.page.traces import Filter, trace, traces
    from otel_profiling_distro.receiver.body import BodyError
    from otel_profiling_distro.receiver.intake import PUSH_PATH, TRACES_PATH, Intake
    from otel_profiling_distro.receiver.pprof import decode_profile
    from otel_profiling_distro.receiver.rules import RefusedError
    from otel_profiling_distro.receiver.store import Bounds, Store

HEADERS = ({}, {"content-encoding": "gzip"})


def one_input(data: bytes) -> None:
    """Take a body; whatever was kept of it must be shown and given back."""
    choice = data[0] if data else 0
    store = Store(Bounds(size=100_000_000))
    intake = Intake(store, 200, None, None, 10)
    try:
        if choice & 4:  # a profile alone: what is around it hides it from a fuzzer
            store.add_profiles([decode_profile(data[1:], {"service_name": "shop"})])
        else:
            intake.take((PUSH_PATH, TRACES_PATH)[choice & 1], HEADERS[choice >> 1 & 1], data[1:])
    except (RefusedError, BodyError):
        return
    store.samples()
    store.spans()
    for service in overview(store)["services"]:
        routes(store, service["name"])
        for kind in service["kinds"]:
            profile(store, Selection(service=service["name"], kind=kind["kind"])).plain()
    for line in traces(store, Filter())["traces"]:
        trace(store, line["trace_id"])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
