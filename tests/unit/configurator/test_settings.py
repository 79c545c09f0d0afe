"""The environment, read: what each variable means, which one wins, and what happens to values that make no sense."""

from __future__ import annotations

import dataclasses
import logging
import re
import signal
from typing import Any, NamedTuple

import hypothesis
import pytest
from hypothesis import strategies as st
from otel_profiling_configurator import environment_variables
from otel_profiling_configurator.agent.resource_labels import static_labels
from otel_profiling_configurator.parsers import PROFILE_TYPES, label_name
from otel_profiling_configurator.settings import MAX_LABELS, Settings, read
from otel_profiling_configurator.spans.labels import MAX_VALUE_BYTES
from otel_profiling_configurator.spans.scope import Scope

SECRET = "hunter2"
"""Must never be seen where a secret is expected."""

OURS, GRAFANA = "OTEL_PROFILING_", "PYROSCOPE_"

PROPERTY = hypothesis.settings(derandomize=True, database=None, deadline=None, max_examples=300)


def only(**environ: str) -> Settings:
    """Settings of an environment in which everything makes sense."""
    settings, warnings = read(environ)
    assert warnings == []
    return settings


def test_empty_environment() -> None:
    """The documented defaults."""
    settings = only()
    assert settings == Settings(
        enabled=True,
        span_id_scope=Scope.ROOT,
        span_name_scope=Scope.ROOT,
        agent_enabled=True,
        server_address="http://localhost:4040",
        application_name=None,
        basic_auth_user="",
        basic_auth_password="",
        tenant_id="",
        headers={},
        labels={},
        resource_labels=None,
        types=("cpu",),
        sample_rate=100,
        upload_interval=10,
        log_level=logging.WARNING,
        instance_id="",
    )


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_empty_values(text: str) -> None:
    """An empty variable is an unset one, as OpenTelemetry has it."""
    names = [name for name in vars(environment_variables) if name.startswith("OTEL_")]
    assert only(**dict.fromkeys(names, text)) == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        *(("ENABLED", text, "enabled", False) for text in ("false", "0", "no", "off", "FALSE", " Off ")),
        *(("ENABLED", text, "enabled", True) for text in ("true", "1", "yes", "on", "True")),
        ("AGENT_ENABLED", "false", "agent_enabled", False),
        ("GIL_ONLY", "false", "gil_only", False),
        ("GIL_ONLY", "true", "gil_only", True),
        ("ALIASES", "false", "aliases", False),
        *(("SPAN_ID_SCOPE", text, "span_id_scope", Scope.NONE) for text in ("none", "NONE", " none ")),
        *(("SPAN_ID_SCOPE", text, "span_id_scope", Scope.ROOT) for text in ("root", "root_span")),
        *(("SPAN_ID_SCOPE", text, "span_id_scope", Scope.ALL) for text in ("all", "all_spans", "All_Spans")),
        ("SPAN_NAME_SCOPE", "none", "span_name_scope", Scope.NONE),
        ("SPAN_NAME_SCOPE", "all", "span_name_scope", Scope.ALL),
        ("SERVER_ADDRESS", "https://pyroscope.example:443/", "server_address", "https://pyroscope.example:443"),
        ("SERVER_ADDRESS", "http://[::1]:4040", "server_address", "http://[::1]:4040"),
        ("SERVER_ADDRESS", "HTTP://host/prefix", "server_address", "HTTP://host/prefix"),
        ("APPLICATION_NAME", "Straße", "application_name", "Straße"),
        ("BASIC_AUTH_USER", "1234", "basic_auth_user", "1234"),
        ("BASIC_AUTH_PASSWORD", SECRET, "basic_auth_password", SECRET),
        ("TENANT_ID", "team-a", "tenant_id", "team-a"),
        ("HEADERS", "a=1, b = two=2 ,,C-d=%20x%2Cy", "headers", {"a": "1", "b": "two=2", "C-d": " x,y"}),
        ("LABELS", "region=eu, my.zone = a%2Cb=c", "labels", {"region": "eu", "my_zone": "a,b=c"}),
        ("LABELS", "url=http://a:80", "labels", {"url": "http://a:80"}),
        ("RESOURCE_LABELS", "host.name, a.b=c.d,", "resource_labels", {"host.name": "", "a.b": "c_d"}),
        ("TYPES", "cpu", "types", ("cpu",)),
        ("TYPES", " Wall , memory ", "types", ("wall", "memory")),
        ("TYPES", "memory,cpu,memory", "types", ("memory", "cpu")),
        ("SAMPLE_RATE", "1", "sample_rate", 1),
        ("SAMPLE_RATE", "1000", "sample_rate", 1000),
        ("UPLOAD_INTERVAL", "15", "upload_interval", 15),
        ("UPLOAD_INTERVAL", "15s", "upload_interval", 15),
        ("UPLOAD_INTERVAL", "1.5m", "upload_interval", 90),
        ("UPLOAD_INTERVAL", "5000 ms", "upload_interval", 5),
        ("UPLOAD_INTERVAL", "1H", "upload_interval", 3600),
        ("LOG_LEVEL", "debug", "log_level", logging.DEBUG),
        ("LOG_LEVEL", "INFO", "log_level", logging.INFO),
        ("LOG_LEVEL", "warn", "log_level", logging.WARNING),
        ("LOG_LEVEL", "error", "log_level", logging.ERROR),
        ("LOG_LEVEL", "critical", "log_level", logging.CRITICAL),
    ],
)
def test_good_values(variable: str, text: str, field: str, value: object) -> None:
    """Each variable sets its own field, and no other."""
    settings = only(**{OURS + variable: text})
    assert getattr(settings, field) == value
    assert settings == dataclasses.replace(Settings(), **{field: value})


class Pair(NamedTuple):
    """A variable that Grafana's other agents read too, under another prefix."""

    name: str
    field: str
    ours: str
    theirs: str
    meaning: object
    """What `theirs` means."""
    bad: str


PAIRS = [
    Pair("SERVER_ADDRESS", "server_address", "http://ours", "http://theirs", "http://theirs", "nowhere"),
    Pair("APPLICATION_NAME", "application_name", "ours", "theirs", "theirs", "bad\udcff"),
    Pair("BASIC_AUTH_USER", "basic_auth_user", "ours", "theirs", "theirs", "bad\udcff"),
    Pair("BASIC_AUTH_PASSWORD", "basic_auth_password", "ours", "theirs", "theirs", "bad\udcff"),
    Pair("TENANT_ID", "tenant_id", "ours", "theirs", "theirs", "bad\x00tenant"),
    Pair("UPLOAD_INTERVAL", "upload_interval", "20s", "30s", 30, "soon"),
]

each_pair = pytest.mark.parametrize("pair", PAIRS, ids=[pair.name for pair in PAIRS])


@each_pair
@pytest.mark.parametrize("ours", [None, "", "  "], ids=["unset", "empty", "blank"])
def test_grafana_variable_alone(pair: Pair, ours: str | None) -> None:
    """What Grafana's other agents read is read where ours is not set."""
    settings = only(**{GRAFANA + pair.name: pair.theirs}, **({} if ours is None else {OURS + pair.name: ours}))
    assert settings == dataclasses.replace(Settings(), **{pair.field: pair.meaning})


@each_pair
def test_both_variables(pair: Pair) -> None:
    """Ours wins over Grafana's."""
    settings = only(**{OURS + pair.name: pair.ours, GRAFANA + pair.name: pair.theirs})
    assert settings == only(**{OURS + pair.name: pair.ours})
    assert getattr(settings, pair.field) != pair.meaning


@each_pair
def test_bad_value_before_a_good_one(pair: Pair) -> None:
    """Grafana's is used where ours makes no sense, and the one warning says so."""
    settings, (warning,) = read({OURS + pair.name: pair.bad, GRAFANA + pair.name: pair.theirs})
    assert getattr(settings, pair.field) == pair.meaning
    assert warning.startswith(f"{OURS}{pair.name}=")
    assert warning.endswith(f"using {GRAFANA}{pair.name}")


@each_pair
def test_bad_values_throughout(pair: Pair) -> None:
    """Each variable that makes no sense is warned of; the default is used."""
    settings, warnings = read({OURS + pair.name: pair.bad, GRAFANA + pair.name: pair.bad})
    assert settings == Settings()
    assert [warning.partition("=")[0] for warning in warnings] == [OURS + pair.name, GRAFANA + pair.name]
    assert warnings[1].endswith(f"using the default ({environment_variables.DEFAULTS[OURS + pair.name]})")


@pytest.mark.parametrize("text", ["USR2", "SIGUSR2", "sigusr2"])
def test_signal_of_the_report(text: str) -> None:
    """A signal that means nothing of its own, by its name."""
    assert only(OTEL_PROFILING_REPORT_SIGNAL=text).report_signal == signal.SIGUSR2


@pytest.mark.parametrize(
    ("variable", "text", "hint"),
    [
        *((name, "maybe", "true or false") for name in ("ENABLED", "AGENT_ENABLED", "GIL_ONLY", "ALIASES")),
        *((name, "most", "none, root or all") for name in ("SPAN_ID_SCOPE", "SPAN_NAME_SCOPE")),
        *(
            ("SERVER_ADDRESS", text, "http://host:port")
            for text in ("localhost:4040", "/path", "ftp://host", "http://", "http://:4040", "https:host")
        ),
        ("SERVER_ADDRESS", "http://host:port", ""),
        ("SERVER_ADDRESS", "http://host:70000", ""),
        ("SERVER_ADDRESS", "http://[::1", ""),
        ("TENANT_ID", "a\nb", "header value"),
        ("RESOURCE_LABELS", "host.name=__host", "underscores"),
        ("RESOURCE_LABELS", "host.name=...", "name"),
        *(("TYPES", text, "cpu, wall, memory") for text in ("heap", "cpu,heap", ",")),
        ("TYPES", "cpu,wall", "exclude each other"),
        *(("SAMPLE_RATE", text, "samples a second") for text in ("often", "1.5", "0", "-1", "1001", "9" * 5000)),
        *(
            ("UPLOAD_INTERVAL", text, "expected")
            for text in ("soon", "-5s", "0", "0.9s", "999ms", "61m", "2h", "1d", "1e3", "٣", "9" * 400, "10s5")
        ),
        *(("REPORT_SIGNAL", text, "SIGUSR1, SIGUSR2") for text in ("KILL", "SIGTERM", "10", "SIG", "often")),
        ("LOG_LEVEL", "loud", "debug, info, warning, error or critical"),
        ("LOG_LEVEL", "30", "debug, info, warning, error or critical"),
    ],
)
def test_bad_values(variable: str, text: str, hint: str) -> None:
    """The default is used, and one warning names variable, value, what was expected and what is used instead."""
    settings, (warning,) = read({OURS + variable: text})
    assert settings == Settings()
    shown = text if len(text) <= 80 else text[:80] + "..."
    assert warning.startswith(f"{OURS}{variable}={shown!a}: ")
    assert hint in warning
    assert warning.endswith(f"using the default ({environment_variables.DEFAULTS[OURS + variable]})")


@pytest.mark.parametrize("text", ["a=1,nonsense,b=2", "a=1,,nonsense,  b=2", "a=1,nonsense,b=2,"])
def test_bad_label_among_good_ones(text: str) -> None:
    """One bad entry costs itself and one warning, not the others."""
    settings, (warning,) = read({"OTEL_PROFILING_LABELS": text})
    assert settings.labels == {"a": "1", "b": "2"}
    assert warning == "OTEL_PROFILING_LABELS='nonsense': expected name=value; left out"


@pytest.mark.parametrize("entry", ["=value", "__name__=x", "...=x", "__=x", " =x"])
def test_label_names_that_pyroscope_would_reject(entry: str) -> None:
    """They are left out, with a warning that shows the entry."""
    settings, (warning,) = read({"OTEL_PROFILING_LABELS": f"{entry},b=2"})
    assert settings.labels == {"b": "2"}
    assert entry.strip() in warning


def test_more_labels_than_a_series_may_have() -> None:
    """The first ones are kept; each other one costs a warning that names it."""
    settings, warnings = read({"OTEL_PROFILING_LABELS": ",".join(f"l{n}=v" for n in range(MAX_LABELS + 2))})
    assert list(settings.labels) == [f"l{n}" for n in range(MAX_LABELS)]
    assert [warning.partition(":")[0] for warning in warnings] == [
        f"OTEL_PROFILING_LABELS='l{n}'" for n in (MAX_LABELS, MAX_LABELS + 1)
    ]


@pytest.mark.parametrize("text", ["region=eu,zone=a", "region:eu,zone:a", "region:eu,zone=a"])
def test_labels_of_grafanas_agents(text: str) -> None:
    """Grafana's Java agent writes ``k=v``, its .NET agent ``k:v``; ours wins over both."""
    assert only(PYROSCOPE_LABELS=text).labels == {"region": "eu", "zone": "a"}
    assert only(PYROSCOPE_LABELS=text, OTEL_PROFILING_LABELS="a=b").labels == {"a": "b"}


def test_headers_of_grafanas_agent() -> None:
    """Grafana's Java agent reads a JSON object; ours wins over it."""
    text = '{"X-Scope": "a, b=c", "n": "%20"}'
    assert only(PYROSCOPE_HTTP_HEADERS=text).headers == {"X-Scope": "a, b=c", "n": "%20"}
    assert only(PYROSCOPE_HTTP_HEADERS=text, OTEL_PROFILING_HEADERS="a=b").headers == {"a": "b"}


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f'{{"a": "{SECRET}"',
        f'["{SECRET}"]',
        f'{{"a": ["{SECRET}"]}}',
        f'{{"a b": "{SECRET}"}}',
        f'{{"a": "{SECRET}\\r\\nb: c"}}',
        f'{{"a": "{SECRET}\\udcff"}}',
        '{"a": ' + "9" * 5000 + "}",
        "[" * 9000,
    ],
    ids=["text", "cut off", "list", "nested", "name", "injection", "surrogate", "huge number", "deep"],
)
def test_bad_json_headers(text: str) -> None:
    """One warning that does not show the value, and no headers."""
    settings, (warning,) = read({"PYROSCOPE_HTTP_HEADERS": text})
    assert settings.headers == {}
    assert warning.startswith("PYROSCOPE_HTTP_HEADERS='***': ")
    assert SECRET not in warning


@pytest.mark.parametrize("entry", [SECRET, f"a b={SECRET}", f"a={SECRET}%0Ab", f"={SECRET}", f"a={SECRET}\udcff"])
def test_bad_header_among_good_ones(entry: str) -> None:
    """The entry is left out, with a warning that tells which one it is without showing it."""
    settings, (warning,) = read({"OTEL_PROFILING_HEADERS": f"x=1,{entry},y=2"})
    assert settings.headers == {"x": "1", "y": "2"}
    assert warning.startswith("OTEL_PROFILING_HEADERS='entry 2': ")
    assert SECRET not in warning


@pytest.mark.parametrize("text", ["true", "TRUE", " true "])
def test_sdk_disabled(text: str) -> None:
    """``OTEL_SDK_DISABLED`` turns us off too, whatever our own switch says."""
    assert not only(OTEL_SDK_DISABLED=text).enabled
    assert not only(OTEL_SDK_DISABLED=text, OTEL_PROFILING_ENABLED="true").enabled


@pytest.mark.parametrize("text", ["", "false", "1", "yes"])
def test_sdk_not_disabled(text: str) -> None:
    """Only the word ``true`` disables the SDK, so only it disables us; an odd value is the SDK's to warn of."""
    assert only(OTEL_SDK_DISABLED=text).enabled


@pytest.mark.parametrize("variable", ["OTEL_PROFILING_BASIC_AUTH_PASSWORD", "PYROSCOPE_BASIC_AUTH_PASSWORD"])
def test_bad_password(variable: str) -> None:
    """The warning says which variable, and nothing of the value."""
    settings, (warning,) = read({variable: f"{SECRET}\udcff"})
    assert settings.basic_auth_password == ""
    assert warning.startswith(f"{variable}='***': ")
    assert SECRET not in warning


@pytest.mark.parametrize(
    "variable",
    ["OTEL_PROFILING_BASIC_AUTH_PASSWORD", "PYROSCOPE_BASIC_AUTH_PASSWORD", "OTEL_PROFILING_HEADERS", "PYROSCOPE_HTTP_HEADERS"],
)
def test_repr_of_secrets(variable: str) -> None:
    """Passwords and headers are not part of the representation."""
    settings = only(**{variable: f'{{"a": "{SECRET}"}}' if variable.endswith("HTTP_HEADERS") else f"a={SECRET}"})
    assert SECRET in f"{settings.basic_auth_password} {settings.headers}"
    assert SECRET not in repr(settings)


def test_repr_of_an_address_with_a_password() -> None:
    """A password inside the server's address is a secret like any other."""
    settings = only(OTEL_PROFILING_SERVER_ADDRESS=f"http://user:{SECRET}@host:4040")
    assert SECRET in settings.server_address
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://host:4040", "http://host:4040"),
        (f"http://user:{SECRET}@host:4040/path", "http://***@host:4040/path"),
        (f"https://{SECRET}@host", "https://***@host"),
        (f"http://user:a@{SECRET}@host", "http://***@host"),
    ],
)
def test_shown_address(address: str, shown: str) -> None:
    """What log lines show of an address names the server and no credentials."""
    settings = only(OTEL_PROFILING_SERVER_ADDRESS=address)
    assert settings.server_address == address
    assert settings.shown_server_address == shown


@pytest.mark.parametrize(
    "address",
    [
        pytest.param(f"ftp://user:{SECRET}@host", id="scheme"),
        pytest.param(f"http://user:{SECRET}@host:port", id="port"),
        pytest.param(f"http://user:{SECRET}@[::1", id="host"),
        pytest.param(f"ftp://{'u' * 60}:{SECRET}{'x' * 60}@host", id="long"),
        pytest.param(f"user:{SECRET}@host:4040", id="no scheme"),
        pytest.param(f"http://user:{SECRET}/x@host:4040", id="slash"),
        pytest.param(f"http://user:{SECRET}@ho\N{ACCOUNT OF}st", id="host name"),
    ],
)
def test_bad_address_with_a_password(address: str) -> None:
    """The warning shows an address that makes no sense without the password that it may contain."""
    settings, (warning,) = read({"OTEL_PROFILING_SERVER_ADDRESS": address})
    assert settings == Settings()
    assert SECRET not in warning


@pytest.mark.parametrize("variable", ["OTEL_PROFILING_TYPES", "OTEL_PROFILING_LABELS", "OTEL_PROFILING_SERVER_ADDRESS"])
def test_very_long_bad_value(variable: str) -> None:
    """A warning stays one line that can be read."""
    _, (warning,) = read({variable: "x" * 10_000})
    assert len(warning) < 250


@pytest.mark.parametrize("text", ["a\x1b[31m\n", "\udcff\udc80", "\u202e"])
def test_hostile_bad_value(text: str) -> None:
    """Control characters and lone surrogates reach neither a terminal nor a log handler that must encode them."""
    _, (warning,) = read({"OTEL_PROFILING_TYPES": text + "x"})
    assert warning.isascii()
    assert warning.isprintable()


@pytest.mark.parametrize(
    ("text", "name"),
    [("region", "region"), ("k8s.pod.name", "k8s_pod_name"), (" a-b ", "a_b"), ("1st", "_1st"), ("_x", "_x"), ("é1", "_1")],
)
def test_label_names(text: str, name: str) -> None:
    """Foreign characters become underscores, and a digit does not come first."""
    assert label_name(text) == name


@pytest.mark.parametrize("text", ["", " ", "...", "_", "__x", "..x", "é"])
def test_label_names_with_nothing_left(text: str) -> None:
    """No name, and the server's own names, are refused."""
    with pytest.raises(ValueError, match="name"):
        label_name(text)


ANY_CHARACTER = st.characters(codec=None, exclude_categories=())
FRAGMENTS = st.sampled_from(
    [",", "=", ":", "%", "%0A", "%FF", "//", "@", "http://", "a", "9", "_", ".", " ", "{", "}", '"', "[", "]", "\udcff", "\x00"]
)
VALUES = st.one_of(
    st.text(ANY_CHARACTER, max_size=40),
    st.lists(FRAGMENTS, max_size=30).map("".join),
    st.lists(st.tuples(st.text(ANY_CHARACTER, max_size=5), st.text(ANY_CHARACTER, max_size=5)), max_size=40).map(
        lambda pairs: ",".join(f"{name}={value}" for name, value in pairs)
    ),
    st.tuples(st.text(ANY_CHARACTER, max_size=3), ANY_CHARACTER).map(lambda parts: (parts[0] + parts[1] * 10_000)[:10_000]),
)
VARIABLES = st.sampled_from(
    [
        "OTEL_SDK_DISABLED",
        *(name for name in vars(environment_variables) if name.startswith("OTEL_")),
        "PYROSCOPE_HTTP_HEADERS",
        "PYROSCOPE_LABELS",
        *(GRAFANA + pair.name for pair in PAIRS),
    ]
)


def is_encodable(value: Any) -> bool:
    return value.encode().decode() == value  # raises where it is not


@PROPERTY
@hypothesis.given(st.dictionaries(VARIABLES, VALUES, max_size=6))
def test_any_environment(environ: dict[str, str]) -> None:
    """Whatever the environment holds, reading it never raises, and what it gives can be used by all above."""
    settings, warnings = read(environ)
    assert isinstance(settings.enabled, bool)
    assert isinstance(settings.span_id_scope, Scope)
    assert isinstance(settings.span_name_scope, Scope)
    assert settings.server_address.lower().startswith(("http://", "https://"))
    for text in (settings.server_address, settings.application_name or "", settings.basic_auth_user, settings.tenant_id):
        assert is_encodable(text)
    assert is_encodable(settings.basic_auth_password)
    for name, value in settings.headers.items():
        assert is_encodable(name)
        assert not set(name) & set(" \r\n:=,")
        assert is_encodable(value)
        assert value.isprintable()
    assert set(settings.types) <= set(PROFILE_TYPES)
    assert settings.types
    assert 1 <= settings.sample_rate <= 1000
    assert 1 <= settings.upload_interval <= 3600
    assert len(settings.labels) <= MAX_LABELS
    assert all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) for name in settings.labels)
    for warning in warnings:
        assert warning.isprintable()
        assert is_encodable(warning)
        assert len(warning) < 1000
    assert isinstance(repr(settings), str)


@PROPERTY
@hypothesis.given(
    st.dictionaries(st.sampled_from(["OTEL_PROFILING_LABELS", "PYROSCOPE_LABELS", "OTEL_PROFILING_RESOURCE_LABELS"]), VALUES),
    st.dictionaries(st.one_of(st.sampled_from(["host.name", "a"]), st.text(ANY_CHARACTER, max_size=3)), VALUES, max_size=20),
)
def test_labels_of_any_environment(environ: dict[str, str], attributes: dict[str, str]) -> None:
    """Whatever is asked for as labels, what the agent is given is accepted by Pyroscope."""
    settings, _ = read(environ)
    labels = static_labels(attributes, settings.resource_labels, settings.labels)
    assert len(labels) <= MAX_LABELS
    for name, value in labels.items():
        assert name.isascii()
        assert name.isidentifier()
        assert len(value.encode()) <= MAX_VALUE_BYTES


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("OTEL_PROFILING_SERVR_ADDRESS", "OTEL_PROFILING_SERVER_ADDRESS"),
        ("OTEL_PROFILING_SERVER_ADRESS", "OTEL_PROFILING_SERVER_ADDRESS"),
        ("OTEL_PROFILING_BASIC_AUTH_PASSWORT", "OTEL_PROFILING_BASIC_AUTH_PASSWORD"),
        ("OTEL_PROFILING_TENANT", "OTEL_PROFILING_TENANT_ID"),
    ],
)
def test_unknown_names(variable: str, nearest: str) -> None:
    """A name that is misspelt costs one warning with the nearest that exists; its value may be a secret."""
    settings, warnings = read({variable: SECRET})
    assert settings == Settings()
    (warning,) = warnings
    assert warning.startswith(f"{variable} is no setting")
    assert f"{nearest}?" in warning
    assert SECRET not in warning


def test_hostile_name() -> None:
    """A name may be anything that an environment can have: no control character of it reaches a terminal."""
    _, (warning,) = read({"OTEL_PROFILING_\x1b[31m\udcff" + "x" * 500: "1"})
    assert warning.isprintable()
    assert warning.isascii()
    assert len(warning) < 250


@pytest.mark.parametrize(
    ("attributes", "instance"),
    [
        ("", ""),
        ("service.name=a", ""),
        ("service.name=a, service.instance.id = b%20c ", "b c"),
        ("service.instance.id=a,service.instance.id=b", "b"),
        ("service.instance.id", ""),
    ],
)
def test_instance_in_the_resource_attributes(attributes: str, instance: str) -> None:
    """The instance id that the user set is known as such."""
    settings, warnings = read({"OTEL_RESOURCE_ATTRIBUTES": attributes})
    assert (settings.instance_id, warnings) == (instance, [])


@pytest.mark.parametrize("name", ["OTEL_PROFILING_RESOURCE_LABELS", "OTEL_PROFILING_BAGGAGE_KEYS"])
def test_label_of_nothing(name: str) -> None:
    """A label without what it is to be made of costs one warning, and the default is used."""
    settings, (warning,) = read({name: "team,=pod"})
    assert settings == Settings()
    assert f"expected names, or name=label; using the default ({environment_variables.DEFAULTS[name]})" in warning
