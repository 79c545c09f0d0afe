"""What the doctor makes of what it sees: each answer of a server, each setting, each line of an application's file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from otel_profiling_configurator.settings import Settings

from otel_profiling_distro.commands import main
from otel_profiling_distro.doctor import (
    Finding,
    Level,
    Report,
    application,
    distro,
    effective,
    form,
    names_agree,
    server,
    versions,
)
from otel_profiling_distro.doctor.asking import Answer, Kind, proxy_of, without_credentials
from otel_profiling_distro.doctor.inside import Outcome, environment
from otel_profiling_distro.doctor.target import target_of

SECRET = "hunter2"
TOLD: dict[str, Any] = {
    "agent": "",
    "gil": True,
    "process_vm_readv": "",
    "missing_here": False,
    "native": True,
    "why_missing": "",
    "why_by_thread": "",
    "distros": ["distro = vendor:Distro", "profiling = ours:Distro"],
    "configurators": ["configurator = upstream:Configurator"],
    "environ": {},
    "exporters": ["opentelemetry.exporter.otlp.proto.http.trace_exporter.OTLPSpanExporter"],
    "distributions": ["fastapi", "flask", "starlette"],
    "instrumentations": ["flask"],
}


def outcome(started_in: dict[str, str] | None = None, **told: Any) -> Outcome:
    return Outcome({**TOLD, **told}, "", (), (), started_in or {})


@pytest.mark.parametrize(
    ("answer", "fact", "remedy"),
    [
        (Answer(Kind.REFUSED, words="Connection refused"), "nothing listens there", "Start the Pyroscope"),
        (Answer(Kind.UNRESOLVED), "does not resolve", "Mend the name"),
        (Answer(Kind.SILENT), "does not answer", "firewall"),
        (Answer(Kind.TLS, words="self-signed certificate"), "certificate", "SSL_CERT_FILE"),
        (Answer(Kind.NOT_HTTP), "does not speak HTTP", "4040"),
        (Answer(Kind.FAILED), "can't be reached", "SERVER_ADDRESS"),
        (Answer(Kind.ANSWER, 401, "no org id"), "credentials are wrong, or missing: it answers 401 no org id", "TENANT_ID"),
        (Answer(Kind.ANSWER, 403), "not good enough", "may"),
        (Answer(Kind.ANSWER, 404), "it answers 404", "Pyroscope"),
        (Answer(Kind.ANSWER, 407, proxy="http://proxy"), "through the proxy http://proxy", "proxy wants credentials"),
        (Answer(Kind.REFUSED, proxy="http://proxy"), "through the proxy http://proxy", "NO_PROXY"),
    ],
)
def test_answers_that_are_none(answer: Answer, fact: str, remedy: str) -> None:
    """Each is a fault that says why, what is lost, and what to do."""
    finding = server.judge(answer, "http://pyroscope:4040")
    assert (finding.level, finding.consequence) == (Level.FAULT, "Profiles are lost; the application and its traces go on.")
    assert fact in finding.fact
    assert remedy.lower() in finding.remedy.lower()


def test_answer_of_an_otlp_endpoint() -> None:
    """The wrong port is named as such."""
    finding = server.judge(Answer(Kind.ANSWER, 404), "http://collector:4318", speaks_otlp=True)
    assert "is no Pyroscope but an OTLP endpoint" in finding.fact
    assert "4040" in finding.remedy


def test_credentials_are_not_shown() -> None:
    """Neither the server's nor the proxy's."""
    answer = Answer(Kind.ANSWER, 401, proxy=without_credentials(f"http://me:{SECRET}@proxy"))
    assert SECRET not in str(server.judge(answer, f"http://me:{SECRET}@pyroscope"))


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, ""),
        ({"HTTP_PROXY": "http://p"}, "http://p"),
        ({"HTTPS_PROXY": "http://p"}, ""),
        ({"all_proxy": "http://p"}, "http://p"),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "other,.example"}, ""),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "*"}, ""),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "other"}, "http://p"),
    ],
)
def test_proxy(environ: dict[str, str], proxy: str) -> None:
    """The environment's names, as the agent reads them."""
    assert proxy_of("http://pyroscope.example:4040", environ) == proxy


@pytest.mark.parametrize(
    ("without", "proxy"), [("10.0.0.0/8", ""), ("10.1.2.3", ""), ("fd00::/8", "http://p"), ("10.9.0.0/16", "http://p")]
)
def test_network_without_a_proxy(without: str, proxy: str) -> None:
    """NO_PROXY may have networks, as clusters set it; the agent's client reads them, too."""
    assert proxy_of("http://10.1.2.3:4040", {"HTTP_PROXY": "http://p", "NO_PROXY": without}) == proxy


def test_setting_that_would_confuse_a_terminal() -> None:
    """It is shown without control characters."""
    reading = effective.read({"OTEL_PROFILING_APPLICATION_NAME": "größe\x1b[31m"})
    shown = {setting.name: setting.value for setting in effective.settings(reading)}
    assert shown["OTEL_PROFILING_APPLICATION_NAME"] == "größe\\x1b[31m"


def test_settings_with_sources() -> None:
    """Each has its value and where that comes from; secrets are masked, and so is what an address contains."""
    reading = effective.read(
        {
            "PYROSCOPE_SERVER_ADDRESS": f"http://me:{SECRET}@pyroscope",
            "OTEL_PROFILING_BASIC_AUTH_PASSWORD": SECRET,
            "OTEL_PROFILING_HEADERS": f"key={SECRET}",
            "OTEL_PROFILING_LABELS": "team=a",
            "OTEL_PROFILING_GIL_ONLY": "true",
        }
    )
    shown = {setting.name: (setting.value, setting.source) for setting in effective.settings(reading)}
    assert SECRET not in str(shown)
    assert shown["OTEL_PROFILING_SERVER_ADDRESS"] == ("http://***@pyroscope", "PYROSCOPE_SERVER_ADDRESS")
    assert shown["OTEL_PROFILING_LABELS"] == ("team=a", "OTEL_PROFILING_LABELS")
    assert shown["OTEL_PROFILING_GIL_ONLY"] == ("true", "OTEL_PROFILING_GIL_ONLY")
    assert shown["OTEL_PROFILING_TYPES"] == ("cpu", "default")


@pytest.mark.parametrize("variable", ["OTEL_SDK_DISABLED", "OTEL_PROFILING_ENABLED"])
def test_switched_off(variable: str) -> None:
    """The variable that does it is named, and profiles don't arrive."""
    value = "true" if variable == "OTEL_SDK_DISABLED" else "false"
    (finding,) = effective.findings(effective.read({variable: value}))
    assert finding.level is Level.FAULT
    assert finding.remedy == f"Unset {variable}."


def test_name_that_nobody_knows() -> None:
    """Is a finding, with the nearest one."""
    (finding,) = effective.findings(effective.read({"OTEL_PROFILING_SERVER_ADRESS": "x"}))
    assert "did you mean OTEL_PROFILING_SERVER_ADDRESS?" in finding.fact


@pytest.mark.parametrize(
    ("environ", "share"),
    [
        ({}, 1.0),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, 0.0),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, 0.0),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, 0.0),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, 0.25),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "much"}, 1.0),
    ],
)
def test_trace_sampler(environ: dict[str, str], share: float) -> None:
    """The share of traces that begin here, as the SDK reads it; none at all is a warning."""
    assert names_agree.sampled_share(environ) == share
    found = names_agree.findings({"OTEL_SERVICE_NAME": "shop", **environ}, Settings())
    warned = [finding for finding in found if finding.level is Level.WARNING]
    assert [finding.question for finding in warned] == (["trace sampler"] if share == 0 else [])


@pytest.mark.parametrize(
    ("sampler", "share"),
    [
        ({"always_on": {}}, 1.0),
        ({"always_off": {}}, 0.0),
        ({"trace_id_ratio_based": {"ratio": 0}}, 0.0),
        ({"trace_id_ratio_based": {"ratio": 1e-05}}, 1e-05),
        ({"trace_id_ratio_based": {}}, 1.0),
        ({"probability/development": {"ratio": 0.5}}, 0.5),
        ({"parent_based": {"root": {"always_off": {}}, "remote_parent_sampled": {"always_on": {}}}}, 0.0),
        ({"parent_based": {"root": {"always_on": {}}, "remote_parent_sampled": {"always_off": {}}}}, 1.0),
        ({"parent_based": {"root": {"trace_id_ratio_based": {"ratio": 0.25}}}}, 0.25),
    ],
    ids=str,
)
def test_trace_sampler_of_a_file(tmp_path: Path, sampler: Any, share: float) -> None:
    """The share is that of traces that begin here; what holds for parents elsewhere does not count."""
    pytest.importorskip("opentelemetry.configuration", reason="comes with opentelemetry-configuration")
    exporter = {"simple": {"exporter": {"console": {}}}}
    path = tmp_path / "otel.json"
    path.write_text(json.dumps({"file_format": "1.0", "tracer_provider": {"sampler": sampler, "processors": [exporter]}}))
    found = names_agree.findings({"OTEL_CONFIG_FILE": str(path)}, Settings())
    said = {finding.level: finding.fact for finding in found if finding.question == "trace sampler"}
    assert said.keys() == ({Level.WARNING} if share == 0 else {Level.OK} if share < 1 else set())
    assert 0 in (share, share - 1) or said[Level.OK].startswith(f"{share:.4g} of the traces")


@pytest.mark.parametrize(
    "resource",
    [
        {"attributes": [{"name": "service.name", "value": "shop"}]},
        {"attributes_list": "team=a,service.name=shop"},
        {"attributes": [{"name": "team", "value": "a"}], "attributes_list": "service.name=shop"},
    ],
    ids=str,
)
def test_name_in_a_file(tmp_path: Path, resource: Any) -> None:
    """It is found however the file has it."""
    pytest.importorskip("opentelemetry.configuration", reason="comes with opentelemetry-configuration")
    path = tmp_path / "otel.json"
    path.write_text(json.dumps({"file_format": "1.0", "resource": resource}))
    environ = {"OTEL_CONFIG_FILE": str(path)}
    assert names_agree.service_name(environ, names_agree.model_of_file(environ)) == "shop"


def test_two_names() -> None:
    """An application name other than service.name hides profiles from Grafana."""
    (finding,) = names_agree.findings({"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop"}, Settings(application_name="store"))
    assert "'store', traces as 'shop'" in finding.fact
    assert finding.level is Level.WARNING


def test_exporter_with_credentials() -> None:
    """They are not shown."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://me:{SECRET}@collector"}
    found = list(distro.findings(outcome({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}, environ=environ)))
    assert "is http://***@collector" in found[-1].fact
    assert SECRET not in str(found)


def test_distro_that_overrides_the_exporter() -> None:
    """What it changed is named, and how to choose another."""
    found = list(distro.findings(outcome({"OTEL_TRACES_EXPORTER": "otlp"}, environ={"OTEL_TRACES_EXPORTER": "console"})))
    assert "OTEL_TRACES_EXPORTER was otlp, and is console" in found[-1].fact
    assert "OTEL_PYTHON_DISTRO=profiling" in found[-1].remedy


def test_distros_that_are_there() -> None:
    """The one that is picked is named, those beside it, and what that changes."""
    (finding,) = [found for found in distro.findings(outcome()) if found.question == "distro"]
    assert finding.fact == (
        "opentelemetry-instrument picks the distro vendor:Distro (ours:Distro is there, too) and the configurator "
        "upstream:Configurator. Profiling is added whichever it picks."
    )


@pytest.mark.parametrize(("wanted", "name"), [(None, "distro"), ("profiling", "profiling"), ("none", "")])
def test_distro_that_is_picked(wanted: str | None, name: str) -> None:
    """The first, or the one that is asked for by name, as upstream has it."""
    assert distro.picked(TOLD["distros"], wanted).partition(" ")[0] == name


@pytest.mark.parametrize(
    ("told", "level", "fact"),
    [
        ({}, Level.OK, "aliases"),
        ({"missing_here": True, "native": False, "why_missing": "no module"}, Level.WARNING, "no module"),
        ({"native": False, "why_missing": "macOS"}, Level.NOTE, "macOS"),
        ({"process_vm_readv": "EPERM", "why_by_thread": "x"}, Level.WARNING, "process_vm_readv (EPERM)"),
        ({"why_by_thread": "another agent"}, Level.NOTE, "another agent"),
    ],
)
def test_form(told: dict[str, Any], level: Level, fact: str) -> None:
    """Which is in use, and why it is not the better one."""
    (finding,) = form.findings(outcome(**told))
    assert finding.level is level
    assert fact in finding.fact


def test_form_where_no_agent_starts() -> None:
    """Nothing is said of labels: nobody knows yet how samples find them."""
    (finding,) = form.findings(outcome(why_by_thread="contexts are followed in Python"), agent_starts=False)
    assert finding.fact == "it is there"


@pytest.fixture
def found_in(tmp_path: Path) -> Any:
    """Return the warnings about an application with this file."""

    def found_in(text: str, *before: str, told: dict[str, Any] | None = None, **environ: str) -> list[Finding]:
        script = tmp_path / "app.py"
        script.write_text(text)
        target = target_of([*before, sys.executable, str(script)], environ)
        return [found for found in application.findings(target, told or TOLD) if found.level is Level.WARNING]

    return found_in


def test_framework_without_instrumentation(found_in: Any) -> None:
    """Is a warning where the file imports it, and a note where it is only installed."""
    (finding,) = found_in("from fastapi import FastAPI")
    assert "fastapi is installed, and its instrumentation is not" in finding.fact
    assert not found_in("import flask")


@pytest.mark.parametrize(
    ("name", "text"), [("grpcio", "import grpc"), ("kafka-python", "from kafka import KafkaConsumer"), ("pika", "import pika")]
)
def test_framework_whose_module_has_another_name(found_in: Any, name: str, text: str) -> None:
    """It is known by what is imported. OpenTelemetry's exporter brings grpcio: without that import it is not worth a line."""
    told = {**TOLD, "distributions": [name]}
    (finding,) = found_in(text, told=told)
    assert f"{name} is installed, and its instrumentation is not" in finding.fact
    assert not found_in("", told=told)


def test_framework_that_nobody_instruments(tmp_path: Path) -> None:
    """It is a note: the application may start spans itself."""
    script = tmp_path / "app.py"
    script.write_text("from sanic import Sanic")
    notes = [
        found for found in application.findings(target_of([sys.executable, str(script)], {}), TOLD) if "sanic" in found.fact
    ]
    assert [(note.level, bool(note.consequence and note.remedy)) for note in notes] == [(Level.NOTE, True)]


@pytest.mark.parametrize(
    ("command", "variables", "file"),
    [
        ("gunicorn -k gevent app:app", {}, ""),
        ("gunicorn --worker-class=gevent app:app", {}, ""),
        ("gunicorn app:app", {"GUNICORN_CMD_ARGS": "--worker-class gevent"}, ""),
        ("gunicorn app:app", {}, "worker_class = 'gevent'"),
        ("celery -A tasks worker -P gevent", {}, ""),
        ("celery -A tasks worker --pool=gevent", {}, ""),
    ],
)
def test_gevent_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, variables: dict[str, str], file: str
) -> None:
    """It is known however gunicorn or Celery is told of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gunicorn.conf.py").write_text(file)
    found = application.findings(target_of(command.split(), variables), {})
    assert [finding.question for finding in found if finding.level is Level.WARNING] == ["gevent"]
    assert not list(application.findings(target_of(command.replace("gevent", "sync").split(), {}), {})) or file


def test_instrumentation_that_is_left_out(found_in: Any) -> None:
    """The variable is named."""
    (finding,) = found_in("import flask", OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="requests, flask")
    assert "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS" in finding.fact


@pytest.mark.parametrize("text", ["import pyroscope as p\np.configure()", "from pyroscope import configure\nconfigure()"])
def test_agent_of_the_application(found_in: Any, text: str) -> None:
    """The line that starts it is named, however it is imported."""
    (finding,) = found_in(text)
    assert "app.py:2 starts Pyroscope itself" in finding.fact
    assert "OTEL_PROFILING_AGENT_ENABLED=false" in finding.remedy


@pytest.mark.parametrize(
    "text", ["from gevent import monkey\nmonkey.patch_all()", "import gevent.monkey\ngevent.monkey.patch_all()"]
)
def test_gevent_too_late(found_in: Any, text: str) -> None:
    """Whatever the file does first, opentelemetry-instrument has imported before it; the variable patches in time."""
    variable = "OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH"
    (finding,) = found_in(text)
    assert "too late" in finding.fact
    assert variable in finding.remedy
    assert not found_in(text, **{variable: "patch_all"})
    assert not found_in(text, "opentelemetry-instrument", "--auto_instrumentation_experimental_gevent_patch=patch_all")


def test_click_around_a_server(found_in: Any) -> None:
    """Is a warning where its instrumentation is there and not left out."""
    told = {**TOLD, "instrumentations": ["click", "flask"]}
    (finding,) = found_in("import click", told=told)
    assert "makes a span of all of it" in finding.fact
    assert not found_in("import click")
    for left_out in ("click", "flask, click", "*"):
        assert not [
            finding
            for finding in found_in("import click", told=told, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=left_out)
            if finding.question == "click"
        ]


def test_command_with_flags(tmp_path: Path) -> None:
    """Flags of opentelemetry-instrument count as variables; a script says its interpreter in its first line."""
    script = tmp_path / "serve"
    script.write_text("#!/usr/bin/env python3\n")
    script.chmod(0o755)
    target = target_of(["opentelemetry-instrument", "--profiling_types", "wall", str(script), "x"], {"PATH": str(tmp_path)})
    assert target.command == (str(script), "x")
    assert target.environ["OTEL_PROFILING_TYPES"] == "wall"
    assert target.is_instrumented
    assert target_of([sys.executable, "app.py"], {}).interpreter == sys.executable


@pytest.mark.parametrize(
    ("before", "variables"),
    [
        (["env", "OTEL_SERVICE_NAME=shop"], {"OTEL_SERVICE_NAME": "shop"}),
        (["OTEL_SERVICE_NAME=shop"], {"OTEL_SERVICE_NAME": "shop"}),
        (["tini", "--"], {}),
        (["poetry", "run"], {}),
    ],
    ids=" ".join,
)
def test_command_that_starts_the_command(before: list[str], variables: dict[str, str]) -> None:
    """What stands before opentelemetry-instrument is looked through, and its variables count."""
    target = target_of([*before, "/venv/bin/opentelemetry-instrument", "--profiling_types=wall", sys.executable, "x.py"], {})
    assert target.is_instrumented
    assert target.command == (sys.executable, "x.py")
    assert target.environ == {"OTEL_PROFILING_TYPES": "wall", **variables}


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ([], ""),
        (["no-such-program"], "program no-such-program"),
        ([sys.executable, "no_such_file.py"], "file no_such_file.py"),
        ([sys.executable, "-m", "no_such_module"], ""),
        ([sys.executable, __file__], ""),
    ],
)
def test_command_that_is_not_there(command: list[str], missing: str) -> None:
    """A program, or the file that an interpreter is to run. A module's name may be anything."""
    assert target_of(command, {}).missing == missing


def test_versions_that_do_not_fit() -> None:
    """Each requirement of the packages that profile or trace is looked at, where its marker holds."""
    told = {
        "python": "3.11.7",
        "distributions": {"opentelemetry-sdk": "1.29.0", "pyroscope_io": "1.4.0"},
        "requires": {
            "otel-profiling-configurator": [
                "opentelemetry-sdk <2,>=1.30",
                "pyroscope-io >=1.4",
                "wrapt",
                "other ; python_version < '3.10'",
                "more ; extra == 'page'",
                "not a requirement",
            ]
        },
    }
    old, none = versions.findings(told)
    assert old.level is none.level is Level.WARNING
    assert old.fact == "otel-profiling-configurator wants opentelemetry-sdk<2,>=1.30, and 1.29.0 is installed."
    assert old.remedy == "pip install 'otel-profiling-configurator' 'opentelemetry-sdk<2,>=1.30'"
    assert none.fact == "otel-profiling-configurator wants wrapt, and none is installed."


def test_file_that_is_no_python(tmp_path: Path) -> None:
    """Costs nothing: it is only read."""
    (tmp_path / "app.py").write_text("print 'two'")
    assert application.calls_in(tmp_path / "app.py") == {}
    assert application.calls_in(tmp_path / "missing.py") == {}


def test_environment_of_the_self_test() -> None:
    """What the probe sends comes here and nowhere else; what makes the SDK what it is stays."""
    environ = environment(
        {"OTEL_CONFIG_FILE": "f", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "x", "OTEL_PYTHON_DISTRO": "d"}, "http://r"
    )
    assert environ["OTEL_PROFILING_SERVER_ADDRESS"] == environ["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://r"
    assert environ["OTEL_PYTHON_DISTRO"] == "d"
    assert not environ.keys() & {"OTEL_CONFIG_FILE", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}


@pytest.mark.parametrize(("level", "code"), [(Level.FAULT, 1), (Level.WARNING, 0)])
def test_exit_code_and_json(
    level: Level, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a fault is one; JSON says the same as the table does."""
    report = Report([Finding("q", level, "fact", "consequence", "remedy")])
    monkeypatch.setattr("otel_profiling_distro.doctor.examine", lambda *_: report)
    assert main(["doctor"]) == code
    assert "remedy" in capsys.readouterr().out
    assert main(["doctor", "--json", "--", "python"]) == code
    told = json.loads(capsys.readouterr().out)
    assert (told["arrives"], told["findings"][0]["level"]) == (code == 0, level.value)


@pytest.mark.parametrize("arguments", [["--pid", "0"], ["--pid", "me"], ["--pid", "1", "--", "python"]])
def test_usage(arguments: list[str]) -> None:
    """A command line that makes no sense exits with 2."""
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["doctor", *arguments])


@pytest.mark.parametrize(
    ("first", "variables", "level"),
    [
        (sys.executable, {}, Level.FAULT),
        ("/bin/sh", {}, Level.NOTE),
        (sys.executable, {"PYTHONPATH": "/otel/opentelemetry/instrumentation/auto_instrumentation:/otel"}, None),
    ],
    ids=["python", "a shell", "injected"],
)
def test_command_that_is_not_instrumented(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: str, variables: dict[str, str], level: Level | None
) -> None:
    """Nothing of it would arrive; where that can't be told, it is a note."""
    examine = sys.modules["otel_profiling_distro.doctor.examine"]  # the package has the function under that name
    monkeypatch.setattr(examine, "inside", SimpleNamespace(run=lambda _target: SimpleNamespace(told={})))
    asked = SimpleNamespace(findings=lambda *_, **__: [], model_of_file=lambda *_: {}, instruments_itself=lambda _target: False)
    for part in ("environment", "distro", "form", "self_test", "server", "names_agree", "traces", "application"):
        monkeypatch.setattr(examine, part, asked)
    (tmp_path / "app.py").touch()
    found = examine.examine([first, str(tmp_path / "app.py")], variables).findings
    assert [finding.level for finding in found if finding.question == "command"] == ([] if level is None else [level])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from opentelemetry.instrumentation.auto_instrumentation import initialize\ninitialize()\n", True),
        ("import opentelemetry.instrumentation.auto_instrumentation as auto\nauto.initialize()\n", True),
        ("import opentelemetry.instrumentation.auto_instrumentation\n", False),
        ("initialize()\n", False),
    ],
)
def test_application_that_instruments_itself(tmp_path: Path, source: str, expected: bool) -> None:
    """It needs no command before it."""
    script = tmp_path / "app.py"
    script.write_text(source)
    assert application.instruments_itself(target_of([sys.executable, str(script)], {})) is expected
