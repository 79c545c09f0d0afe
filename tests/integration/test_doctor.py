"""The doctor at work, with real servers and processes: what it says where all is well, of a file, and of a running process.

Each cause of a failure has its test in `test_doctor_causes.py`.
"""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from otel_profiling_distro.doctor import Level, examine_process, server, traces

from .conftest import SERVICE, bin_path, environment
from .doctoring import assert_named, closed_port, doctor, facts, server_that, vendor

SECRET = "hunter2"
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def test_all_is_well(receiver):
    """Exit code 0; the self-test has labelled every sample, the server has the doctor's profile, and there is no warning."""
    code, told = doctor(environment(receiver, OTEL_PROFILING_BASIC_AUTH_PASSWORD=SECRET, OTEL_PROFILING_BASIC_AUTH_USER="me"))
    assert (code, told["arrives"]) == (0, True)
    assert facts(told, "fault") == facts(told, "warning") == ""
    assert "samples had the labels of their span" in facts(told, "ok")
    assert "traces and profiles agree" in facts(told, "ok")
    assert [sample.series["service_name"] for sample in receiver.samples()] == [server.SERVICE]
    assert SECRET not in json.dumps(told)
    sources = {setting["name"]: setting["source"] for setting in told["settings"]}
    assert sources["OTEL_PROFILING_SERVER_ADDRESS"] == "OTEL_PROFILING_SERVER_ADDRESS"


@pytest.fixture
def file(receiver, tmp_path):
    """Ask the doctor where the SDK has a file with this text; return its exit code, what it found, and the path."""
    pytest.importorskip("opentelemetry.configuration", reason="comes with opentelemetry-configuration")

    def file(text):
        path = tmp_path / "otel.yaml"
        path.write_text(text)
        return *doctor(environment(receiver, OTEL_CONFIG_FILE=str(path))), path

    return file


def test_configuration_file(file):
    """It is named as the source of each setting that it has, what it says holds, and its secrets are masked."""
    code, told, _path = file(
        "file_format: '1.0'\nresource: {attributes: [{name: service.name, value: shop}]}\n"
        "tracer_provider: {processors: [{simple: {exporter: {console: {}}}}], sampler: {always_off: {}}}\n"
        "distribution: {otel_profiling: {profiling_application_name: store, profiling_sample_rate: often,\n"
        f"  profiling_basic_auth_user: me, profiling_basic_auth_password: {SECRET}, profiling_headers: {{X: {SECRET}}}}}}}\n"
    )
    assert code == 0
    assert "'store', traces as 'shop'" in facts(told, "warning")
    assert "no trace that begins here is sampled" in facts(told, "warning")
    assert "otel.yaml: profiling_sample_rate='often'" in facts(told, "warning")
    sources = {setting["name"]: setting["source"] for setting in told["settings"]}
    assert sources["OTEL_PROFILING_APPLICATION_NAME"].endswith("otel.yaml: profiling_application_name")
    assert sources["OTEL_PROFILING_BASIC_AUTH_PASSWORD"].endswith("otel.yaml: profiling_basic_auth_password")
    assert sources["OTEL_PROFILING_SAMPLE_RATE"] == "default"
    assert sources["OTEL_PROFILING_SERVER_ADDRESS"] == "OTEL_PROFILING_SERVER_ADDRESS"
    assert SECRET not in json.dumps(told)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"{SECRET}: [", "line 1, column 11"),
        (f"file_format: '1.0'\ndistribution: {{otel_profiling: {SECRET}}}", "(at distribution -> otel_profiling)"),
    ],
    ids=["no YAML", "no schema"],
)
def test_configuration_file_that_does_not_fit(file, text, place):
    """The SDK would not be set up; the file is named as the cause, and the place in it, without its text."""
    code, told, path = file(text)
    assert code == 1
    fact = f"OTEL_CONFIG_FILE names {path}, which can't be read here: it does not fit the schema, or is no YAML {place}"
    assert_named(told, "fault", fact=fact, consequence="The SDK is not set up", remedy="Mend the file")
    assert SECRET not in json.dumps(told)


def test_configuration_file_that_is_missing(receiver):
    """It is said so."""
    code, told = doctor(environment(receiver, OTEL_CONFIG_FILE="missing.yaml"))
    assert code == 1
    fact = "names missing.yaml, which can't be read here: there is no such file"
    assert_named(told, "fault", fact=fact, consequence="The SDK is not set up", remedy="unset OTEL_CONFIG_FILE")


def test_configuration_file_without_a_tracer_provider(file):
    """The SDK makes none of its own, so that profiling would wait for the application's."""
    code, told, _path = file("file_format: '1.0'\nresource: {attributes: [{name: service.name, value: shop}]}\n")
    assert code == 1
    consequence, remedy = "waits until the application sets a tracer provider", "Add tracer_provider"
    assert_named(told, "fault", fact="has no tracer_provider", consequence=consequence, remedy=remedy)


def test_configuration_file_that_disables_the_sdk(file):
    """The file is named as what switches profiling off."""
    code, told, path = file("file_format: '1.0'\ndisabled: true\n")
    assert code == 1
    remedy = "Take that out of the file"
    assert_named(told, "fault", fact="profiling is switched off by ", consequence="and nothing traced", remedy=remedy)
    assert f"{path.name}: disabled" in facts(told, "fault")


def test_traces():
    """Who takes no traces is named, by HTTP and by gRPC."""
    with server_that({"/v1/traces": 200}) as collector:
        for protocol in ("http/protobuf", "grpc"):
            environ = {
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{closed_port()}",
            }
            (finding,) = traces.findings(environ, has_file=False)
            assert finding.level is Level.WARNING
            assert finding.remedy
            environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://{collector}"
            (finding,) = traces.findings(environ, has_file=False)
            assert finding.level is (Level.OK if protocol == "http/protobuf" else Level.WARNING)


def test_few_samples_a_second(receiver):
    """The self-test works at a rate of its own: with one sample a second, a second of work might have none."""
    code, told = doctor(environment(receiver, OTEL_PROFILING_SAMPLE_RATE="1"))
    assert code == 0
    assert "samples had the labels of their span" in facts(told, "ok")


RUNS = """
import select, sys
print("runs", flush=True)
while not select.select([sys.stdin], [], [], 0.1)[0]:
    pass  # Python handles a signal that arrives just before such a wait when that is over
"""


@contextlib.contextmanager
def running(environ, *before):
    """Yield a process that does nothing until its input ends."""
    with subprocess.Popen(
        [*before, sys.executable, "-c", RUNS],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "runs\n"
        try:
            yield process
        finally:
            _, process.errors = process.communicate("")
    assert process.returncode == 0


@needs_proc
def test_report_where_profiling_is_switched_off(receiver):
    """The signal does not end the process, and the report says why there is nothing to report."""
    variables = {"OTEL_PROFILING_REPORT_SIGNAL": "USR2", "OTEL_PROFILING_ENABLED": "false"}
    with running(environment(receiver, **variables), bin_path("opentelemetry-instrument")) as process:
        process.send_signal(signal.SIGUSR2)
        said = process.stderr.readline()
    assert "profiling is switched off" in said


@needs_proc
def test_running_process(receiver):
    """From outside: what is loaded in it, what it published, and whether its server takes profiles; no secret is shown.

    It reports at its signal.
    """
    variables = {"OTEL_PROFILING_REPORT_SIGNAL": "USR2", "OTEL_PROFILING_BASIC_AUTH_PASSWORD": SECRET}
    with running(environment(receiver, **variables), bin_path("opentelemetry-instrument")) as process:
        report = examine_process(process.pid)
        process.send_signal(signal.SIGUSR2)
        said = process.stderr.readline() + process.stderr.readline()
    assert report.arrives
    told = facts(report.as_json(), "ok")
    for fact in (
        "the agent's library is loaded",
        "the native module is loaded",
        "takes a profile",
        " threads: ",
        " descriptors: ",
    ):
        assert fact in told
    assert f"service.name={SERVICE}" in told
    assert "the span of each thread (tlsdesc_v1_dev)" in told
    assert SECRET not in json.dumps(report.as_json())
    assert f"process {process.pid}" in said
    assert repr(SERVICE) in said
    assert "samples are labelled by aliases" in said + process.errors


@needs_proc
def test_running_process_whose_server_is_down(receiver):
    """It is profiled, and its profiles don't arrive."""
    environ = environment(receiver, OTEL_PROFILING_SERVER_ADDRESS=f"http://127.0.0.1:{closed_port()}")
    with running(environ, bin_path("opentelemetry-instrument")) as process:
        report = examine_process(process.pid)
    assert not report.arrives
    assert "nothing listens there" in facts(report.as_json(), "fault")


@needs_proc
def test_process_that_is_not_profiled(receiver):
    """Is said not to be."""
    with running(environment(receiver)) as process:
        report = examine_process(process.pid)
    assert not report.arrives
    consequence, remedy = "not profiled", "opentelemetry-instrument"
    assert_named(report.as_json(), "fault", fact="library is not loaded", consequence=consequence, remedy=remedy)
    assert "nothing is published" in facts(report.as_json(), "note")


@needs_proc
def test_process_that_is_not_there():
    """Is said not to be."""
    (finding,) = examine_process(2**22 + 1).findings
    assert "there is no process" in finding.fact


def test_start_without_the_native_module(run, tmp_path):
    """Costs one warning with the remedy, where this platform could have it; none where labels by thread were asked for."""
    without = vendor(tmp_path, "sys.modules['otel_profiling_configurator.native._native'] = None")
    for aliases, count in (("true", 1), ("false", 0)):
        app = run("lifecycle.py", "return", OTEL_PROFILING_ALIASES=aliases, **without)
        assert (app.exit_code, app.errors.count("is missing"), app.errors.count("--only-binary")) == (0, count, count)
        assert app.samples_of("busy_work")


def test_folder_of_the_doctor_needs_no_web_server(receiver, tmp_path):
    """Its self-test runs where neither Starlette nor uvicorn is installed, as in an application's environment."""
    for module in ("starlette", "uvicorn"):
        (tmp_path / f"{module}.py").write_text("raise ImportError('not installed')")
    code, told = doctor(environment(receiver, PYTHONPATH=str(tmp_path)))
    assert code == 0
    assert Path(told["findings"][0]["fact"].split(" at ")[1].split(",")[0]).name.startswith("python")
