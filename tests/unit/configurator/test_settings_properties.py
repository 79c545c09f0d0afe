"""Whatever the environment holds: settings are read, make sense, and give nothing away."""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st
from otel_profiling_configurator import environment_variables as names
from otel_profiling_configurator import parsers, settings
from otel_profiling_configurator.agent.resource_labels import DEFAULT_RESOURCE_LABELS, static_labels
from otel_profiling_configurator.spans.labels import MAX_VALUE_BYTES
from otel_profiling_configurator.spans.scope import Scope

VARIABLES = sorted(value for name, value in vars(names).items() if name.startswith("OTEL_"))
FALLBACKS = [
    f"PYROSCOPE_{name}"
    for name in (
        "SERVER_ADDRESS",
        "APPLICATION_NAME",
        "BASIC_AUTH_USER",
        "BASIC_AUTH_PASSWORD",
        "TENANT_ID",
        "HTTP_HEADERS",
        "LABELS",
        "UPLOAD_INTERVAL",
    )
]

# What an environment can hold: anything but NUL; bytes that are no UTF-8 arrive as lone surrogates.
ANYTHING = st.text(st.characters(exclude_characters="\0"), max_size=60) | st.text(
    "=,:;%{}[]\"' \n\t\x1b@/0aé\udcff", max_size=40
)
ALMOST = st.sampled_from(
    [
        "true",
        "all",
        "1e3",
        "10s",
        "99999999999h",
        "http://h:1",
        "http://[::1",
        "a=b,c",
        "a:b",
        '{"a": "b"}',
        '{"a": 1}',
        "cpu,wall",
        "[",
    ]
)
LONG = st.integers(1, 12000).map("x".__mul__) | st.integers(1, 200).map(lambda count: ",".join(f"l{n}=v" for n in range(count)))
ENVIRONMENTS = st.dictionaries(st.sampled_from(VARIABLES + FALLBACKS), ANYTHING | ALMOST | LONG)

LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@given(ENVIRONMENTS)
def test_any_environment(environ: dict[str, str]) -> None:
    """Nothing is raised, and every setting is one that the agent and the server can do something with."""
    read, warnings = settings.read(environ)
    assert isinstance(read.span_id_scope, Scope)
    assert isinstance(read.span_name_scope, Scope)
    assert re.match(r"https?://[^/]", read.server_address)
    assert 1 <= read.sample_rate <= 1000
    assert 1 <= read.upload_interval <= 3600
    assert read.types
    assert set(read.types) <= set(parsers.PROFILE_TYPES)
    for text in (
        read.server_address,
        read.application_name or "",
        read.basic_auth_user,
        read.basic_auth_password,
        read.tenant_id,
    ):
        text.encode()
    for name, value in {**read.headers, "x-scope-orgid": read.tenant_id}.items():
        assert re.fullmatch(r"[!-~]+", name)
        assert value.isprintable()
        assert len(value) <= parsers.MAX_HEADER
    assert len(read.labels) <= settings.MAX_LABELS
    assert all(LABEL_NAME.fullmatch(name) for name in read.labels)
    for warning in warnings:
        assert warning.startswith(tuple(environ))
        assert warning.isascii()
        assert warning.isprintable()
        assert len(warning) < 1000


@given(ENVIRONMENTS, st.dictionaries(st.sampled_from([*DEFAULT_RESOURCE_LABELS, "team", "é"]), ANYTHING | LONG))
def test_labels_of_every_profile(environ: dict[str, str], attributes: dict[str, str]) -> None:
    """What is sent as labels stays within the server's limits, whatever the resource and the user say."""
    read, _ = settings.read(environ)
    labels = static_labels(attributes, read.resource_labels, read.labels)
    assert len(labels) <= settings.MAX_LABELS
    for name, value in labels.items():
        assert LABEL_NAME.fullmatch(name)
        assert len(name) <= parsers.MAX_NAME
        assert len(value.encode()) <= MAX_VALUE_BYTES


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True), st.text(st.characters(codec="utf-8"), min_size=1), max_size=5
    )
)
def test_percent_encoded_labels(labels: dict[str, str]) -> None:
    """Every value can be said, percent-encoded where needed."""
    text = ",".join(f"{name}={quote(value, safe='')}" for name, value in labels.items())
    read, warnings = settings.read({names.OTEL_PROFILING_LABELS: text})
    assert read.labels == labels
    assert warnings == []


@given(
    st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True), st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1)
)
def test_percent_encoded_headers(name: str, value: str) -> None:
    """So can every header that HTTP allows."""
    read, warnings = settings.read({names.OTEL_PROFILING_HEADERS: f"{name}={quote(value, safe='')}"})
    if value.isprintable():
        assert (read.headers, warnings) == ({name: value}, [])
    else:
        assert (read.headers, len(warnings)) == ({}, 1)


@given(st.integers(1, 3600), st.sampled_from(["", "s", " s", "S"]))
def test_seconds(seconds: int, unit: str) -> None:
    """A number of seconds is one, with its unit or without."""
    read, warnings = settings.read({names.OTEL_PROFILING_UPLOAD_INTERVAL: f"{seconds}{unit}"})
    assert (read.upload_interval, warnings) == (seconds, [])


SECRET = "S3cret!"


@given(st.sampled_from(VARIABLES + FALLBACKS), ANYTHING, ANYTHING)
def test_secrets(variable: str, before: str, after: str) -> None:
    """What may be a secret is in no warning and in no `repr`, however misspelt the rest is."""
    text = f"{before}{SECRET}{after}"
    if variable.endswith("SERVER_ADDRESS"):
        text = f"http://user:{SECRET}@{after}"
    elif not variable.endswith(("PASSWORD", "HEADERS")):
        return
    read, warnings = settings.read({variable: text})
    assert SECRET not in repr(read)
    assert SECRET not in read.shown_server_address
    # A header's name is no secret; where the separator is missing, nobody can tell which is which.
    assert not any(SECRET in warning for warning in warnings)


def test_all_variables_are_covered() -> None:
    """A new variable takes part in the tests above by itself; a setting that no variable sets would be dead."""
    assert len(VARIABLES) >= 17
    assert {field.name for field in dataclasses.fields(settings.Settings)} >= {"instance_id", "labels"}
