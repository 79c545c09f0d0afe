"""Samples carry the span that was running: every sample of real processes is checked."""

import pytest
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .conftest import assert_labelled


def test_sequential_spans(run):
    """Samples of a root span and of its child carry the root's ids and name; work outside carries nothing."""
    app = run("sequential.py")
    assert app.exit_code == 0
    for number, spans in app.told.items():
        expected = {**spans["root"], "span_name": f"GET /{number}"}
        assert_labelled(app.samples_of(f"busy_root_{number}"), expected, 0.99)
        assert_labelled(app.samples_of(f"busy_child_{number}"), expected, 0.99)
    assert_labelled(app.samples_of("busy_outside"), {"span_id": None, "trace_id": None, "span_name": None}, 0.99)


def test_threads_at_the_same_time(run):
    """Each of eight busy threads has its own span's labels, and none once the span has ended."""
    app = run("threads.py")
    assert app.exit_code == 0
    assert len(app.told) == 8
    for number, ids in app.told.items():
        assert_labelled(app.samples_of(f"busy_{number}"), {**ids, "span_name": f"GET /{number}"}, 0.99)
    assert_labelled(app.samples_of("busy_outside"), {"span_id": None, "trace_id": None, "span_name": None}, 0.95)


def test_asyncio_tasks_taking_turns(run):
    """At least 97 % of 2,000 samples are right where eight tasks switch every 2 to 12 ms."""
    app = run("asyncio_tasks.py", "26")
    assert app.exit_code == 0
    total = right = 0
    for number, ids in app.told.items():
        samples = app.samples_of(f"busy_{number}")
        total += assert_labelled(samples, {}, 1)
        expected = {**ids, "span_name": f"GET /{number}"}
        right += sum(s.count for s in samples if all(s.label(key) == value for key, value in expected.items()))
    assert total >= 2000
    assert right / total >= 0.97, f"{right} of {total}"
    assert_labelled(app.samples_of("busy_outside"), {"span_id": None, "trace_id": None, "span_name": None}, 0.99)


@pytest.mark.parametrize("id_scope", ["none", "root", "all"])
@pytest.mark.parametrize("name_scope", ["none", "root", "all"])
def test_scopes(run, id_scope, name_scope):
    """Each scope gives the spans that own a label theirs, the others their local root's, and `none` no label at all."""
    app = run("sequential.py", OTEL_PROFILING_SPAN_ID_SCOPE=id_scope, OTEL_PROFILING_SPAN_NAME_SCOPE=f"{name_scope}_spans")
    owners = set()
    for number, spans in app.told.items():
        names = {"root": f"GET /{number}", "child": f"query {number}"}
        for kind in ("root", "child"):
            id_owner = "root" if id_scope == "root" else kind
            name_owner = "root" if name_scope == "root" else kind
            expected = {
                "trace_id": spans["root"]["trace_id"],
                "span_id": None if id_scope == "none" else spans[id_owner]["span_id"],
                "span_name": None if name_scope == "none" else names[name_owner],
            }
            assert_labelled(app.samples_of(f"busy_{kind}_{number}"), expected, 0.98)
            if id_scope == "all" or (id_scope == "root" and kind == "root"):
                owners.add(spans[kind]["span_id"])
    assert {span.span_id for span in app.spans if "pyroscope.profile.id" in span.attributes} == owners
    for span in app.spans:
        assert span.attributes.get("pyroscope.profile.id", span.span_id) == span.span_id
    assert {sample.label("span_id") for sample in app.samples} - {None} <= owners


def test_nothing_sampled(run):
    """At a sampling rate of 0 every sample of a span still has its local root's name, and no id that leads nowhere."""
    app = run("sequential.py", OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0")
    assert app.spans == []
    for number in app.told:
        for kind in ("root", "child"):
            expected = {"span_name": f"GET /{number}", "span_id": None, "trace_id": None}
            assert_labelled(app.samples_of(f"busy_{kind}_{number}"), expected, 0.99)


def test_special_spans(run):
    """Renamed, never current, ended elsewhere, with a remote parent: labels follow the current context, not starts and ends."""
    app = run("special.py")
    assert app.exit_code == 0, app.errors
    told = app.told
    nothing = {"span_id": None, "trace_id": None, "span_name": None}
    assert_labelled(app.samples_of("busy_before_rename"), {**told["renamed"], "span_name": "GET"}, 0.99)
    assert_labelled(app.samples_of("busy_after_rename"), {**told["renamed"], "span_name": "GET /users/{id}"}, 0.99)
    assert_labelled(app.samples_of("busy_child_after_rename"), {**told["renamed"], "span_name": "GET /users/{id}"}, 0.99)
    assert_labelled(app.samples_of("busy_never_current"), nothing, 0.99)
    assert_labelled(app.samples_of("busy_after_end"), {**told["ended"], "span_name": "ended while current"}, 0.99)
    assert_labelled(app.samples_of("busy_ended_elsewhere"), {**told["elsewhere"], "span_name": "elsewhere"}, 0.99)
    assert_labelled(app.samples_of("busy_decorated"), {"span_name": "decorated"}, 0.99)
    assert_labelled(app.samples_of("busy_remote"), {**told["remote"], "span_name": "remote child"}, 0.99)
    carrier = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    assert TraceContextTextMapPropagator().extract(carrier)  # the parent that the application claims to have got
    assert told["remote"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert_labelled(app.samples_of("busy_at_the_end"), nothing, 0.99)
