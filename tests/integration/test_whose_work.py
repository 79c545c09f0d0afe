"""Whose work it is: every provider's spans label their samples, and a unit of work begins where users see one begin."""

import pytest

from .conftest import assert_accurate

NOTHING = {"span_id": None, "trace_id": None, "span_name": None}


def owning(app):
    """The spans that lead to a profile of their own."""
    spans = [span for span in app.spans if "pyroscope.profile.id" in span.attributes]
    assert all(span.attributes["pyroscope.profile.id"] == span.span_id for span in spans)
    return spans


def owners(app):
    """The name of each of them, and its id."""
    spans = owning(app)
    assert len({span.name for span in spans}) == len(spans)
    return {span.name: span.span_id for span in spans}


def assert_works_for(app, whose):
    """At least 98 % of the samples of each function carry the name and the id of the span whose work it is."""
    ids = owners(app)
    groups = [
        (app.samples_of(function), NOTHING if name is None else {"span_name": name, "span_id": ids[name]})
        for function, name in whose.items()
    ]
    assert_accurate(groups, 0.98)
    assert set(ids) == set(whose.values()) - {None}


def test_tracers_made_before_profiling_begins(run):
    """Their spans label their samples as others do."""
    app = run("early_tracer.py", instrument=False)
    assert app.exit_code == 0, app.errors
    assert_works_for(app, {"busy_of_provider": "of_provider", "busy_of_api": "of_api"})


def test_second_tracer_provider(run):
    """Spans of a provider that is not the global one are as good as others, and make one tree with them."""
    app = run("second_provider.py")
    assert app.exit_code == 0, app.errors
    assert_works_for(app, {"busy_own": "own", "busy_child": "own", "busy_global": "global", "busy_own_child": "global"})


@pytest.mark.parametrize("pool", ["executor", "pool"])
def test_workers_forked_in_a_request(run, pool):
    """They carry nothing of it: a job's own spans are its samples' only labels. A process of a request's own keeps it."""
    app = run("forked_pool.py", pool)
    assert app.told == {"exit code": 0}
    samples = {"busy_first": NOTHING, "busy_second": {"span_name": "job"}, "busy_process": {"span_name": "GET /process"}}
    assert_accurate([(app.samples_of(function), labels) for function, labels in samples.items()], 0.98)
    job = next(span for span in app.spans if span.name == "job")
    assert_accurate([(app.samples_of("busy_second"), {"span_id": job.span_id, "trace_id": job.trace_id})], 0.98)


def test_span_in_a_forked_child(run):
    """Its parent is in another process, so it is a local root, in its parent's trace."""
    app = run("forked_span.py")
    assert app.exit_code == 0, app.errors
    ids = owners(app)
    assert_accurate(
        [(app.samples_of(function), {"span_name": "job", "span_id": ids["job"]}) for function in ("busy_job", "busy_step")],
        0.98,
    )
    assert set(ids) == {"job", "master"}
    assert len({span.trace_id for span in app.spans}) == 1


def test_requests_below_spans_of_a_whole_process(run):
    """Each request or message is a unit of work of its own, and so is each step of a command."""
    app = run("units_of_work.py")
    assert app.exit_code == 0, app.errors
    assert_works_for(
        app,
        {
            "busy_command": "serve",
            "busy_step_of_command": "step of the command",
            "busy_script": "script",
            "busy_subcommand": "script",
            "busy_step_of_subcommand": "step of the subcommand",
            "busy_outer_SERVER": "outer SERVER",
            "busy_inner_SERVER": "outer SERVER",
            "busy_outer_CONSUMER": "outer CONSUMER",
            "busy_inner_CONSUMER": "outer CONSUMER",
            "busy_end_of_script": "script",
        },
    )


def test_server_started_by_a_command(run):
    """Samples of its requests and jobs have their names; the command's span is there, and above them all."""
    pytest.importorskip("opentelemetry.instrumentation.click", reason="upstream's instrumentation makes the command's span")
    app = run("command_span.py")
    assert app.exit_code == 0, app.errors
    samples = {"busy_job": "job", "busy_a": "GET /a", "busy_b": "GET /b"}
    assert_accurate([(app.samples_of(function), {"span_name": name}) for function, name in samples.items()], 0.98)
    (command,) = [span for span in app.spans if span.name == "command_span.py"]
    assert command.trace_id == app.told["traceparent"].split("-")[1]
    assert {span.trace_id for span in app.spans} == {command.trace_id}
    assert len(owning(app)) == len(app.spans) == 82  # the command, the job, 80 requests
