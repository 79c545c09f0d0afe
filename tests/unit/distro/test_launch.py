"""How `run` starts a command: what it is called, and which variables it gets."""

from __future__ import annotations

import pytest

from otel_profiling_distro.commands.launch import environment, name_of

RECEIVER = "http://127.0.0.1:4040"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("gunicorn -w 2 app:app", "gunicorn"),
        ("/srv/venv/bin/uvicorn app:app", "uvicorn"),
        ("python app.py", "app"),
        ("/usr/bin/python3.11 -X dev -W error -u /srv/shop/main.py --port 1", "main"),
        ("python -m flask run", "flask"),
        ("python -m", "python"),
        ("python -c pass", "python"),
        ("python", "python"),
        ("pytest tests", "pytest"),
    ],
)
def test_name(command: str, name: str) -> None:
    """A service is called like its program, or like the script or module that Python runs."""
    assert name_of(command.split()) == name


def test_defaults() -> None:
    """Profiles and traces come to the receiver, in the protocol that it understands; the rest of the environment stays."""
    told = environment({"HOME": "/home/me", "NO_PROXY": "intranet"}, ["python", "app.py"], RECEIVER)
    assert told.service == "app"
    assert told.elsewhere == ()
    assert told.variables["HOME"] == "/home/me"
    assert told.variables["OTEL_SERVICE_NAME"] == "app"
    assert told.variables["OTEL_PROFILING_SERVER_ADDRESS"] == told.variables["OTEL_EXPORTER_OTLP_ENDPOINT"] == RECEIVER
    assert told.variables["OTEL_EXPORTER_OTLP_PROTOCOL"] == "http/protobuf"
    assert told.variables["OTEL_METRICS_EXPORTER"] == told.variables["OTEL_LOGS_EXPORTER"] == "none"
    assert told.variables["NO_PROXY"] == "intranet,127.0.0.1,localhost"


@pytest.mark.parametrize(
    ("own", "handler"),
    [
        ({}, "false"),
        ({"OTEL_LOGS_EXPORTER": "none"}, "false"),
        ({"OTEL_LOGS_EXPORTER": "console"}, None),
        ({"OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION": "true"}, "true"),
    ],
)
def test_log_handler(own: dict[str, str], handler: str | None) -> None:
    """Where log records go nowhere, upstream's handler for them is not installed, unless the user asks for it."""
    told = environment(own, ["app"], RECEIVER)
    assert told.variables.get("OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION") == handler


def test_own_settings() -> None:
    """What the user has set stays, under whatever name."""
    own = {
        "OTEL_SERVICE_NAME": "mine",
        "OTEL_METRICS_EXPORTER": "console",
        "OTEL_BSP_SCHEDULE_DELAY": "5000",
        "PYROSCOPE_UPLOAD_INTERVAL": "10s",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_EXPORTER": "otlp",
    }
    told = environment(own, ["app"], RECEIVER)
    assert told.variables.items() >= own.items()
    assert "OTEL_PROFILING_UPLOAD_INTERVAL" not in told.variables
    assert (told.service, told.elsewhere) == ("mine", ())


@pytest.mark.parametrize(
    ("attributes", "name"),
    [("service.name=shop,x=y", "shop"), (" x=y , service.name = shop ", "shop"), ("service.name=", "app")],
)
def test_service_among_resource_attributes(attributes: str, name: str) -> None:
    """A name that the user gave among the resource attributes is not hidden by one of ours."""
    told = environment({"OTEL_RESOURCE_ATTRIBUTES": attributes}, ["app"], RECEIVER)
    assert told.service == name
    assert ("OTEL_SERVICE_NAME" in told.variables) == (name == "app")


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("OTEL_PROFILING_SERVER_ADDRESS", "http://pyroscope:4040", "profiles go to http://pyroscope:4040"),
        ("PYROSCOPE_SERVER_ADDRESS", "http://pyroscope:4040", "profiles go to http://pyroscope:4040"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://tempo:4318", "traces go to http://tempo:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://tempo:4318", "traces go to http://tempo:4318"),
        ("OTEL_TRACES_EXPORTER", "console", "traces don't come here"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "only http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "only http/protobuf"),
    ],
)
def test_settings_that_lead_elsewhere(name: str, value: str, what: str) -> None:
    """A setting by which something does not come here stays, and a line names it."""
    told = environment({name: value}, ["app"], RECEIVER)
    assert told.variables[name] == value
    (line,) = told.elsewhere
    assert what in line
    assert name in line
