"""Whether the Pyroscope answers, takes the credentials, and stores a profile.

It is sent what the agent sends: a push of one profile, under a service of our own name, so that nobody's profiles are touched.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import time
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

from otel_profiling_configurator.agent import words
from otel_profiling_configurator.settings import Settings

from otel_profiling_distro.receiver.protos import otel_profiling_pprof_pb2 as pprof_pb2
from otel_profiling_distro.receiver.protos import otel_profiling_push_pb2 as push_pb2

from .asking import Answer, Kind, post, speaks_http2, without_credentials
from .finding import Finding, Level

SERVICE = "otel-profiling-doctor"
"""Under this name the profile is stored."""

_PUSH = "/push.v1.PusherService/Push"
_TRACES = "/v1/traces"
_HTTP = 80
_OK, _UNAUTHORIZED, _FORBIDDEN, _PROXY = 200, 401, 403, 407
_UNKNOWN_PATH = (404, 405)
_LOST = "Profiles are lost; the application and its traces go on."
_ADDRESS = "OTEL_PROFILING_SERVER_ADDRESS"


def findings(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what the server makes of a profile."""
    if not settings.enabled or not settings.agent_enabled:
        return
    address, headers = _request(settings)
    answer = post(address + _PUSH, gzip.compress(_push()), headers, environ)
    speaks_otlp = False
    if answer.kind is Kind.ANSWER and answer.status in _UNKNOWN_PATH:
        speaks_otlp = post(address + _TRACES, b"", {"content-type": "application/x-protobuf"}, environ).status == _OK
    if answer.kind is Kind.NOT_HTTP and not answer.proxy:
        parts = urlsplit(address)
        with contextlib.suppress(OSError, ValueError):
            speaks_otlp = speaks_http2(parts.hostname or "", parts.port or _HTTP)
    yield judge(answer, settings.shown_server_address, speaks_otlp=speaks_otlp)


def _request(settings: Settings) -> tuple[str, dict[str, str]]:
    """Return the address without credentials, and the headers that the agent would send."""
    parts = urlsplit(settings.server_address)
    user, password = settings.basic_auth_user, settings.basic_auth_password
    if not user and parts.username:
        user, password = unquote(parts.username), unquote(parts.password or "")
    headers = {"content-type": "application/proto", "content-encoding": "gzip", **settings.headers}
    if user:
        headers["authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    if settings.tenant_id:
        headers["x-scope-orgid"] = settings.tenant_id
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), headers


def judge(answer: Answer, shown: str, *, speaks_otlp: bool = False) -> Finding:
    """Return what an answer to a push means.

    Args:
        answer: What came of the push.
        shown: The server's address, without credentials.
        speaks_otlp: Whether it takes traces, or speaks the protocol of gRPC.
    """
    through = f" through the proxy {answer.proxy}" if answer.proxy else ""
    place = f"{without_credentials(shown)}{through}"
    if answer.kind is Kind.ANSWER and answer.status == _OK:
        return Finding("server", Level.OK, f"{place} takes a profile (it is stored as {SERVICE})")
    if answer.kind is Kind.ANSWER and speaks_otlp:
        return _otlp(place, f"it answers {answer.status}, and takes traces")
    if answer.kind is Kind.NOT_HTTP and speaks_otlp:
        return _otlp(place, "it speaks gRPC's protocol")
    if answer.kind is Kind.ANSWER:
        (failure,) = words.read([f"Sending Session failed {answer.status} {answer.words}".encode()]).failures
        fault = {
            _UNAUTHORIZED: "the credentials are wrong, or missing: ",
            _FORBIDDEN: "the credentials are not good enough: ",
            _PROXY: "the proxy refuses: ",
        }.get(answer.status, "")
        return Finding(
            "server", Level.FAULT, f"{place} does not take a profile: {fault}{failure.reason}", _LOST, failure.remedy
        )
    if answer.proxy and answer.kind is not Kind.TLS:
        return Finding(
            "server",
            Level.FAULT,
            f"{place} can't be reached: {answer.words}",
            _LOST,
            "Does the proxy reach it? HTTP_PROXY, HTTPS_PROXY and NO_PROXY are obeyed; NO_PROXY keeps a server off the proxy.",
        )
    port = urlsplit(shown).port
    fact, remedy = {
        Kind.REFUSED: (
            "nothing listens there",
            f"Start the Pyroscope, or mend {_ADDRESS}. In a container localhost is the container.",
        ),
        Kind.UNRESOLVED: ("its name does not resolve", f"Mend the name in {_ADDRESS}. Is it one of this network's?"),
        Kind.SILENT: ("it does not answer", "Does a firewall or a network policy drop what is sent there?"),
        Kind.TLS: (
            "its certificate is not one that this machine trusts, or it does not speak TLS",
            "SSL_CERT_FILE names a file with the CA that signed it. Is it https at all?",
        ),
        Kind.NOT_HTTP: (
            "it does not speak HTTP",
            f"Is port {port} Pyroscope's? 4040 is; where it wants TLS, the address begins with https.",
        ),
    }.get(answer.kind, ("it can't be reached", f"Mend {_ADDRESS}."))
    return Finding("server", Level.FAULT, f"{place}: {fact} ({answer.words})", _LOST, remedy)


def _otlp(place: str, fact: str) -> Finding:
    return Finding(
        "server",
        Level.FAULT,
        f"{place} is no Pyroscope but an OTLP endpoint: {fact}",
        _LOST,
        f"{_ADDRESS} is Pyroscope's, whose port is 4040; 4317 and 4318 are OpenTelemetry's.",
    )


def _push() -> bytes:
    """Return a push of one profile with one sample, of a hundredth of a second."""
    profile = pprof_pb2.Profile(
        sample_type=[pprof_pb2.ValueType(type=1, unit=2)],
        sample=[pprof_pb2.Sample(location_id=[1], value=[10_000_000])],
        location=[pprof_pb2.Location(id=1, line=[pprof_pb2.Line(function_id=1, line=1)])],
        function=[pprof_pb2.Function(id=1, name=3, system_name=3, filename=3)],
        string_table=["", "cpu", "nanoseconds", "otel_profiling_doctor"],
        time_nanos=time.time_ns(),
        duration_nanos=1_000_000_000,
        period_type=pprof_pb2.ValueType(type=1, unit=2),
        period=10_000_000,
    )
    labels = {"__name__": "process_cpu", "service_name": SERVICE}
    series = push_pb2.RawProfileSeries(
        labels=[push_pb2.LabelPair(name=name, value=value) for name, value in labels.items()],
        samples=[push_pb2.RawSample(raw_profile=profile.SerializeToString())],
    )
    return push_pb2.PushRequest(series=[series]).SerializeToString()
