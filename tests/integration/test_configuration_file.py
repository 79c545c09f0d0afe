"""The SDK set up by its configuration file: the resource, the trace sampler and our own section hold, and `disabled` does."""

import pytest

from .conftest import assert_labelled

pytest.importorskip("opentelemetry.configuration", reason="comes with opentelemetry-configuration")

SHOP = "shop-of-the-file"


@pytest.fixture
def run_with(run, receiver, tmp_path):
    """Run an application whose environment says nothing but where the file is."""

    def run_with(*lines, sampler="always_on", section="{}"):
        path = tmp_path / "otel.yaml"
        exporter = f"{{simple: {{exporter: {{otlp_http: {{endpoint: '{receiver.url}/v1/traces'}}}}}}}}"
        path.write_text(
            "\n".join(
                [
                    "file_format: '1.0'",
                    *lines,
                    f"resource: {{attributes: [{{name: service.name, value: {SHOP}}}]}}",
                    f"tracer_provider: {{sampler: {{{sampler}: {{}}}}, processors: [{exporter}]}}",
                    f"distribution: {{otel_profiling: {section}}}",
                ]
            )
        )
        app = run(
            "lifecycle.py",
            "return",
            OTEL_CONFIG_FILE=str(path),
            OTEL_SERVICE_NAME=None,
            OTEL_EXPORTER_OTLP_ENDPOINT=None,
            OTEL_EXPORTER_OTLP_PROTOCOL=None,
        )
        assert app.exit_code == 0
        return app

    return run_with


def busy(receiver):
    return [sample for sample in receiver.samples(SHOP) if any(frame.function == "busy_work" for frame in sample.stack)]


def test_resource_and_section(run_with, receiver):
    """Profiles and traces have the file's service.name; a setting of our section holds and costs no line."""
    app = run_with(section="{profiling_span_id_scope: none, profiling_labels: {team: payments}}")
    samples = busy(receiver)
    assert_labelled(samples, {"span_name": "work", "span_id": None})
    assert {sample.series["team"] for sample in samples} == {"payments"}
    assert receiver.spans(SHOP)
    assert "otel-profiling" not in app.errors


def test_trace_sampler(run_with, receiver):
    """Without sampled traces, samples have the span's name only."""
    run_with(sampler="always_off")
    assert_labelled(busy(receiver), {"span_name": "work", "span_id": None, "trace_id": None})
    assert not receiver.spans(SHOP)


def test_value_that_makes_no_sense(run_with, receiver):
    """One warning names the file; the environment's value, or the default, is used."""
    app = run_with(section="{profiling_sample_rate: often, profiling_tpyes: cpu}")
    assert len([line for line in app.errors.splitlines() if "otel-profiling WARNING" in line and "otel.yaml" in line]) == 2
    assert busy(receiver)


def test_disabled(run_with, receiver):
    """What disables the SDK disables profiles."""
    run_with("disabled: true")
    assert not receiver.samples()
    assert not receiver.spans()
