"""Every variable of the settings with values that nobody means: the application starts, and the profile still arrives."""

import re

import pytest

from .conftest import APPS, assert_labelled

PARSED = {
    "SPAN_ID_SCOPE",
    "SPAN_NAME_SCOPE",
    "TYPES",
    "SAMPLE_RATE",
    "UPLOAD_INTERVAL",
    "GIL_ONLY",
    "ALIASES",
    "REPORT_SIGNAL",
    "LOG_LEVEL",
    "ENABLED",
    "AGENT_ENABLED",
    "SERVER_ADDRESS",
}
"""Variables of which only some values make sense: any other costs a warning."""

PAIRS = {"HEADERS", "LABELS"}
FREE = {"APPLICATION_NAME", "BASIC_AUTH_USER", "BASIC_AUTH_PASSWORD", "TENANT_ID", "RESOURCE_LABELS"}

VALUES = {
    "malformed": ("=;:|", PARSED | PAIRS | {"RESOURCE_LABELS"}),
    "huge": ("x" * 100_000, PARSED | PAIRS | {"BASIC_AUTH_USER", "BASIC_AUTH_PASSWORD", "TENANT_ID"}),
    "not UTF-8": (
        b"\xff\xfe\x80",
        PARSED | PAIRS | {"APPLICATION_NAME", "BASIC_AUTH_USER", "BASIC_AUTH_PASSWORD", "TENANT_ID"},
    ),
    "hostile": ("\x1b[31m\"'{}$(reboot)%00\nHost: x\r\n\r\n\u202e\\", PARSED | PAIRS | {"TENANT_ID"}),
}
"""Value and the variables that it makes no sense for."""

LIMIT = 1024


def warnings(app):
    return [line for line in app.errors.splitlines() if line.startswith("otel-profiling WARNING")]


def assert_profiled(app):
    """The application ran, its profile arrived with labels within the server's limits, and nothing but warnings was said."""
    assert app.exit_code == 0
    assert app.output == "working\nworked\n"
    assert "Traceback" not in app.errors
    assert "\x1b" not in app.errors
    assert_labelled(app.receiver.samples(), {}, share=1)
    work = [s for s in app.receiver.samples() if any(frame.function == "busy_work" for frame in s.stack)]
    assert_labelled(work, {"span_name": "work"})
    for push in app.receiver.pushes():
        for series in push.series:
            assert len(series) <= 30
            for name, value in series.items():
                assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name)
                assert len(value.encode()) <= LIMIT


@pytest.mark.parametrize("kind", ["empty", *VALUES])
def test_all_variables_at_once(run, receiver, kind):
    """One warning for each variable whose value makes no sense, and the fallback or default in its place."""
    value, senseless = VALUES.get(kind, ("", set()))
    variables = {f"OTEL_PROFILING_{name}": value for name in PARSED | PAIRS | FREE}
    app = run("lifecycle.py", "return", PYROSCOPE_SERVER_ADDRESS=receiver.url, **variables)
    assert_profiled(app)
    warned = [re.search(r"OTEL_PROFILING_\w+", line)[0].removeprefix("OTEL_PROFILING_") for line in warnings(app)]
    assert sorted(warned) == sorted(senseless)
    assert all(len(line) < 500 for line in warnings(app))


LABELS = {
    "a newline in a name": ("na\nme=value", {"na_me": "value"}, 0),
    "a newline in a value": ("name=first%0Asecond", {"name": "first\nsecond"}, 0),
    "separators in a value": ("name=a%2Cb%3Dc=d", {"name": "a,b=c=d"}, 0),
    "a long value": (f"name={'v' * 10_000}", {"name": "v" * LIMIT}, 0),
    "a long name": (f"{'n' * 10_000}=value,other=1", {"other": "1"}, 1),
    "100 labels": (",".join(f"label{number}=v" for number in range(100)), {f"label{number}": "v" for number in range(16)}, 84),
    "the server's own name": ("__name__=x,service_name=y,span_id=z,ok=1", {"ok": "1"}, 3),
    "no name": ("=value,ok=1", {"ok": "1"}, 1),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels(run, case):
    """A label is sent, made fit, or left out with a warning; the others are not harmed."""
    text, expected, number = LABELS[case]
    app = run("lifecycle.py", "return", OTEL_PROFILING_LABELS=text)
    assert_profiled(app)
    assert len(warnings(app)) == number
    for sample in app.samples:
        assert expected.items() <= dict(sample.series).items()
        assert set(sample.series) & {"name", "ok", "other"} <= set(expected)


def test_hostile_resource(run):
    """What comes from the resource is made fit, too."""
    attributes = f"service.version={'v' * 10_000},service.namespace=a%0Ab,k8s.pod.name=%ff%fe,team={'x' * 5000}"
    app = run(
        "lifecycle.py",
        "return",
        OTEL_RESOURCE_ATTRIBUTES=attributes,
        OTEL_PROFILING_RESOURCE_LABELS="service.version,service.namespace,k8s.pod.name,team,no.such.thing",
    )
    assert_profiled(app)
    assert {sample.series["service_version"] for sample in app.samples} == {"v" * LIMIT}
    assert {sample.series["service_namespace"] for sample in app.samples} == {"a\nb"}


def test_hostile_span_names(run, tmp_path):
    """Names of spans become labels: long, empty and full of control characters, they cost no profile."""
    script = tmp_path / "spans.py"
    script.write_text(
        "import sys, os\n"
        f"sys.path.insert(0, {str(APPS)!r})\n"
        "from busy import busy_function, tracer\n"
        "names = ['n' * 10_000, '', 'a\\nb\\x00c', '\\udcff', '{\"a\"=\"b\"}']\n"
        "for number, name in enumerate(names):\n"
        "    with tracer.start_as_current_span(name):\n"
        "        busy_function(f'busy_{number}')(0.2)\n"
    )
    app = run(str(script))
    assert app.exit_code == 0
    expected = ["n" * LIMIT, None, "a\nb\x00c", "?", '{"a"="b"}']
    for number, name in enumerate(expected):
        assert_labelled(app.samples_of(f"busy_{number}"), {"span_name": name}, share=0.8)
