"""Samples carry the span that was running: every sample of real processes is checked."""

import pytest

from .conftest import assert_accurate, assert_labelled

NOTHING = {"span_id": None, "trace_id": None, "span_name": None}


def test_sequential_spans(run):
    """Samples of a root span and of its child carry the root's ids and name; work outside carries nothing."""
    app = run("sequential.py")
    assert app.exit_code == 0
    assert_accurate(
        [
            (app.samples_of(f"busy_{kind}_{number}"), {**spans["root"], "span_name": f"GET /{number}"})
            for number, spans in app.told.items()
            for kind in ("root", "child")
        ],
        0.99,
    )
    assert_accurate([(app.samples_of("busy_outside"), NOTHING)], 0.99)


def test_threads_at_the_same_time(run):
    """Each of eight busy threads has its own span's labels, and none once the span has ended."""
    app = run("threads.py")
    assert app.exit_code == 0
    assert len(app.told) == 8
    assert_accurate(
        [(app.samples_of(f"busy_{number}"), {**ids, "span_name": f"GET /{number}"}) for number, ids in app.told.items()], 0.99
    )
    assert_accurate([(app.samples_of("busy_outside"), NOTHING)], 0.95)


def test_asyncio_tasks_taking_turns(run):
    """At least 97 % of 2,000 samples are right where eight tasks switch every 2 to 12 ms."""
    app = run("asyncio_tasks.py", "26")
    assert app.exit_code == 0
    groups = [(app.samples_of(f"busy_{number}"), {**ids, "span_name": f"GET /{number}"}) for number, ids in app.told.items()]
    assert assert_accurate(groups, 0.97) >= 2000
    assert_accurate([(app.samples_of("busy_outside"), NOTHING)], 0.99)


@pytest.mark.parametrize("id_scope", ["none", "root", "all"])
@pytest.mark.parametrize("name_scope", ["none", "root", "all"])
def test_scopes(run, id_scope, name_scope):
    """Each scope gives the spans that own a label theirs, the others their local root's, and `none` no label at all."""
    app = run("sequential.py", OTEL_PROFILING_SPAN_ID_SCOPE=id_scope, OTEL_PROFILING_SPAN_NAME_SCOPE=f"{name_scope}_spans")
    owners, groups = set(), []
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
            groups.append((app.samples_of(f"busy_{kind}_{number}"), expected))
            if id_scope == "all" or (id_scope == "root" and kind == "root"):
                owners.add(spans[kind]["span_id"])
    assert_accurate(groups, 0.98)
    assert {span.span_id for span in app.spans if "pyroscope.profile.id" in span.attributes} == owners
    for span in app.spans:
        assert span.attributes.get("pyroscope.profile.id", span.span_id) == span.span_id
    assert {sample.label("span_id") for sample in app.samples} - {None} <= owners


def test_nothing_sampled(run):
    """At a sampling rate of 0 every sample of a span still has its local root's name, and no id that leads nowhere."""
    app = run("sequential.py", OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0")
    assert app.spans == []
    assert_accurate(
        [
            (app.samples_of(f"busy_{kind}_{number}"), {"span_name": f"GET /{number}", "span_id": None, "trace_id": None})
            for number in app.told
            for kind in ("root", "child")
        ],
        0.99,
    )
    assert {sample.label("span_id") or sample.label("trace_id") for sample in app.samples} == {None}


def test_special_spans(run):
    """Renamed, never current, ended elsewhere, with a remote parent: labels follow the current context, not starts and ends."""
    app = run("special.py")
    assert app.exit_code == 0, app.errors
    told = app.told
    expected = {
        "busy_before_rename": {**told["renamed"], "span_name": "GET"},
        "busy_after_rename": {**told["renamed"], "span_name": "GET /users/{id}"},
        "busy_child_after_rename": {**told["renamed"], "span_name": "GET /users/{id}"},
        "busy_never_current": NOTHING,
        "busy_after_end": {**told["ended"], "span_name": "ended while current"},
        "busy_ended_elsewhere": {**told["elsewhere"], "span_name": "elsewhere"},
        "busy_decorated": {"span_name": "decorated"},
        "busy_remote": {**told["remote"], "span_name": "remote child"},
        "busy_at_the_end": NOTHING,
    }
    assert_accurate([(app.samples_of(function), labels) for function, labels in expected.items()], 0.99)
    for function, labels in expected.items():
        assert_labelled(app.samples_of(function), labels)
    # The trace of the parent that the application was given in a header.
    assert told["remote"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
