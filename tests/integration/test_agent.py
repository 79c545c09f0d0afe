"""The agent: what it is told, who else may start it, and what happens to it in a fork."""

import base64
import subprocess

import pytest

from .conftest import SERVICE, assert_labelled, bin_path


def test_start_line(run):
    """One INFO line says application, server, scopes and types, and no secret."""
    app = run(
        "lifecycle.py",
        "return",
        OTEL_PROFILING_LOG_LEVEL="info",
        OTEL_PROFILING_BASIC_AUTH_USER="somebody",
        OTEL_PROFILING_BASIC_AUTH_PASSWORD="hunter2",
        OTEL_PROFILING_HEADERS="x-api-key=s3cret",
    )
    lines = [line for line in app.errors.splitlines() if line.startswith("otel-profiling INFO: profiling")]
    assert len(lines) == 1
    for part in (SERVICE, app.receiver.url, "cpu", "span_id scope root", "span_name scope root"):
        assert part in lines[0]
    assert "hunter2" not in app.errors
    assert "s3cret" not in app.errors


def test_credentials_tenant_headers_and_labels(run):
    """They arrive with every push, as Grafana's server reads them."""
    app = run(
        "lifecycle.py",
        "return",
        OTEL_PROFILING_BASIC_AUTH_USER="somebody",
        PYROSCOPE_BASIC_AUTH_PASSWORD="hunter2",
        OTEL_PROFILING_TENANT_ID="team-a",
        OTEL_PROFILING_HEADERS="x-api-key=s3cret%2C2,x-other=1",
        PYROSCOPE_LABELS="region:eu,zone:b",
        OTEL_RESOURCE_ATTRIBUTES="service.namespace=shop,service.version=1.2,deployment.environment.name=test,k8s.pod.name=p-0",
    )
    pushes = app.receiver.pushes()
    assert pushes
    for push in pushes:
        assert push.headers["authorization"] == "Basic " + base64.b64encode(b"somebody:hunter2").decode()
        assert push.headers["x-scope-orgid"] == "team-a"
        assert push.headers["x-api-key"] == "s3cret,2"
        assert push.headers["x-other"] == "1"
    wanted = {
        "service_name": SERVICE,
        "service_namespace": "shop",
        "service_version": "1.2",
        "deployment_environment": "test",
        "pod": "p-0",
        "region": "eu",
        "zone": "b",
    }
    for sample in app.samples:
        assert wanted.items() <= dict(sample.series).items()


def test_application_name(run):
    """``OTEL_PROFILING_APPLICATION_NAME`` wins over the resource's service name."""
    app = run("lifecycle.py", "return", PYROSCOPE_APPLICATION_NAME="b", OTEL_PROFILING_APPLICATION_NAME="a")
    assert {sample.series["service_name"] for sample in app.receiver.samples()} == {"a"}


def test_wall(run):
    """``wall`` sees threads that wait, with the labels of their span."""
    app = run("waiting.py", OTEL_PROFILING_TYPES="wall")
    assert_labelled(app.samples_of("wait_in_span"), {"span_name": "waiting"})


def test_memory(run):
    """``memory`` sends allocations beside the CPU profile."""
    app = run("waiting.py", OTEL_PROFILING_TYPES="cpu,memory")
    assert {"process_cpu", "memory"} <= {sample.series["__name__"] for sample in app.samples}
    assert_labelled(app.samples_of("busy_in_span"), {"span_name": "busy"})


def test_flag_of_opentelemetry_instrument(run):
    """Every variable is a flag of ``opentelemetry-instrument``, which wins over the variable."""
    app = run("sequential.py", flags=["--profiling_span_id_scope", "all"], OTEL_PROFILING_SPAN_ID_SCOPE="none")
    for number, spans in app.told.items():
        assert_labelled(app.samples_of(f"busy_child_{number}"), {"span_id": spans["child"]["span_id"]})


def test_help_of_opentelemetry_instrument():
    """The flags are listed by ``--help``."""
    text = subprocess.run([bin_path("opentelemetry-instrument"), "--help"], capture_output=True, text=True, check=True).stdout
    for flag in ("span_id_scope", "span_name_scope", "server_address", "types", "enabled", "log_level", "resource_labels"):
        assert f"--profiling_{flag}" in text


@pytest.mark.parametrize("variables", [{}, {"OTEL_PROFILING_AGENT_ENABLED": "false"}])
def test_application_that_starts_pyroscope_itself(run, variables):
    """Its agent is the one that runs, with its name; spans label its samples all the same, and a line says what happened."""
    app = run("own_agent.py", **variables)
    assert app.exit_code == 0
    assert app.told["configured"] is True
    own = [s for s in app.receiver.samples("own-name") if any(f.function == "busy_own" for f in s.stack)]
    assert_labelled(own, {**app.told["ids"], "span_name": "own"})
    assert app.samples_of("busy_own") == []
    assert ("starts Pyroscope itself" in app.errors) == (not variables)


def test_application_that_started_pyroscope_before_us(run):
    """Its agent runs on and samples as it was told to; spans label its samples all the same, and a line says what happened."""
    app = run("early_own_agent.py", instrument=False)
    assert app.exit_code == 0
    assert app.told["configured"] is True
    own = [s for s in app.receiver.samples("own-name") if any(f.function == "busy_own" for f in s.stack)]
    assert_labelled(own, {**app.told["ids"], "span_name": "own"})
    assert sum(sample.count for sample in own) >= 30  # of 70, whoever else wants the processor
    assert "Pyroscope runs in this process already" in app.errors


def test_fork_inside_a_span(run):
    """A forked child is profiled too, keeps the labels of the span it was forked in, and labels its own spans."""
    app = run("forked.py")
    assert app.exit_code == 0, app.errors
    inherited = {**app.told["inherited"], "span_name": "forking"}
    assert_labelled(app.samples_of("busy_parent"), inherited)
    assert_labelled(app.samples_of("busy_inherited"), inherited)
    assert_labelled(app.samples_of("busy_own_span"), {**app.told["own"], "span_name": "child's own"})
    assert_labelled(app.samples_of("busy_outside"), {"span_id": None, "span_name": None})
