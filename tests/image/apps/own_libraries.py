"""Uses each library that it may have of its own in the way that applications do, then serves as the Flask service does.

Which of them are installed, the test decides; what is not installed is not used, also if it can be imported.
"""

import importlib.metadata
import runpy
from pathlib import Path

USES = {}


def use_of(distribution):
    def register(function):
        USES[distribution] = function
        return function

    return register


@use_of("protobuf")
def use_protobuf():
    from google.protobuf import json_format, struct_pb2

    message = struct_pb2.Struct()
    message.update({"a": [1, "two"]})
    return json_format.MessageToJson(struct_pb2.Struct.FromString(message.SerializeToString()), indent=None)


@use_of("wrapt")
def use_wrapt():
    import wrapt

    @wrapt.decorator
    def twice(wrapped, _, arguments, keywords):
        return 2 * wrapped(*arguments, **keywords)

    return twice(len)("abc")


@use_of("requests")
def use_requests():
    import requests

    prepared = requests.Request("GET", "http://example.invalid/ä", params={"q": "1 2"}).prepare()
    return prepared.url


@use_of("opentelemetry-sdk")
def use_opentelemetry_sdk():
    from opentelemetry.sdk.trace import TracerProvider

    with TracerProvider().get_tracer("own").start_as_current_span("own") as span:
        return span.is_recording()


@use_of("opentelemetry-api")
def use_opentelemetry_api():
    from opentelemetry import trace

    with trace.get_tracer("application").start_as_current_span("own"):
        return "traced"


@use_of("psutil")
def use_psutil():
    import psutil

    return psutil.Process().is_running()


@use_of("packaging")
def use_packaging():
    from packaging.version import Version

    return Version("1.10") > Version("1.9")


def is_applications(distribution):
    """Metadata in the image has no list of files."""
    return any(found.files for found in importlib.metadata.distributions(name=distribution))


for distribution, use in USES.items():
    if is_applications(distribution):
        print(distribution, use())
runpy.run_path(str(Path(__file__).parent / "flask_service.py"), run_name="__main__")
