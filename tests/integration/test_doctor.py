"""The doctor at work, with real servers and real processes: it names the cause of each failure."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from otel_profiling_configurator.settings import read

from otel_profiling_distro.doctor import Level, examine_process, server, traces
from otel_profiling_distro.receiver import Receiver

from .conftest import APPS, SERVICE, bin_path, environment

SECRET = "hunter2"
MAKE_CERTIFICATE = (
    *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
    *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
)
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def doctor(environ, *arguments, before=()):
    """Run the command; return its exit code and what it found, as text by question."""
    done = subprocess.run(
        [*before, bin_path("otel-profiling"), "doctor", "--json", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    print(done.stdout, done.stderr)  # shown by pytest if the test fails
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def facts(told, level):
    return " | ".join(f"{found['question']}: {found['fact']}" for found in told["findings"] if found["level"] == level)


@pytest.fixture
def vendor(tmp_path):
    """Return the variables by which another distro is picked, which does this when it is configured."""

    def vendor(code):
        (tmp_path / "vendor_distro.py").write_text(
            "import os, sys\nfrom opentelemetry.distro import OpenTelemetryDistro\n"
            f"class Distro(OpenTelemetryDistro):\n    def _configure(self, **kwargs):\n        {code}\n"
        )
        folder = tmp_path / "vendor_distro-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: vendor-distro\nVersion: 1\n")
        (folder / "entry_points.txt").write_text("[opentelemetry_distro]\nvendor = vendor_distro:Distro\n")
        return {"PYTHONPATH": str(tmp_path), "OTEL_PYTHON_DISTRO": "vendor"}

    return vendor


@pytest.fixture
def server_that():
    """Return the URL of a server that answers as it is told: path to status, 404 for all others."""
    servers = []

    def server_that(answers, context=None):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(answers.get(self.path, 404))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        listening = HTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            listening.socket = context.wrap_socket(listening.socket, server_side=True)
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        servers.append(listening)
        return f"127.0.0.1:{listening.server_port}"

    yield server_that
    for each in servers:
        each.shutdown()
        each.server_close()


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def of_server(environ):
    (finding,) = server.findings(read(environ)[0], environ)
    return finding


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


def test_much_is_wrong_at_once(receiver, closed_port, vendor):
    """Each cause is named: server, name, sampler, distro, the pure form, the application's agent, a misspelt name."""
    code, told = doctor(
        environment(
            receiver,
            OTEL_PROFILING_SERVER_ADDRESS=f"http://127.0.0.1:{closed_port}",
            OTEL_PROFILING_APPLICATION_NAME="other",
            OTEL_TRACES_SAMPLER="always_off",
            OTEL_PROFILING_SAMPLERATE="50",
            **vendor(
                "os.environ['OTEL_TRACES_EXPORTER'] = 'console'\n"
                "        sys.modules['otel_profiling_configurator.native._native'] = None"
            ),
        ),
        "--",
        sys.executable,
        str(APPS / "own_agent.py"),
    )
    assert (code, told["arrives"]) == (1, False)
    assert "nothing listens there" in facts(told, "fault")
    warned = facts(told, "warning")
    for cause in (
        "profiles are sent as 'other'",
        "no trace that begins here is sampled",
        "did you mean OTEL_PROFILING_SAMPLE_RATE?",
        "overrides the exporter",
        "the native module is missing",
        "own_agent.py:",
    ):
        assert cause in warned


def test_agent_that_can_not_be_loaded(receiver, tmp_path):
    """It is said why, and that profiles don't arrive."""
    (tmp_path / "pyroscope.py").write_text("raise ImportError('made for another libc')")
    code, told = doctor(environment(receiver, PYTHONPATH=str(tmp_path)))
    assert code == 1
    assert "made for another libc" in facts(told, "fault")


def test_sdk_disabled(receiver):
    """The variable is named as the cause."""
    code, told = doctor(environment(receiver, OTEL_SDK_DISABLED="true"))
    assert code == 1
    assert "switched off by OTEL_SDK_DISABLED" in facts(told, "fault")


@needs_proc
def test_process_vm_readv_refused(receiver):
    """It is said that the kernel refuses it, and what that costs; profiles arrive all the same."""
    code, told = doctor(environment(receiver), before=(sys.executable, str(APPS / "no_process_vm_readv.py"), "1"))
    assert code == 0
    assert "the kernel refuses process_vm_readv (EPERM)" in facts(told, "warning")


def test_configuration_file(receiver, tmp_path):
    """Its section is named as the source, and what it says holds."""
    pytest.importorskip("opentelemetry.configuration", reason="comes with opentelemetry-configuration")
    path = tmp_path / "otel.yaml"
    path.write_text(
        "file_format: '1.0'\nresource: {attributes: [{name: service.name, value: shop}]}\n"
        "tracer_provider: {processors: [{simple: {exporter: {console: {}}}}], sampler: {always_off: {}}}\n"
        "distribution: {otel_profiling: {profiling_application_name: store}}\n"
    )
    code, told = doctor(environment(receiver, OTEL_CONFIG_FILE=str(path)))
    assert code == 0
    assert "'store', traces as 'shop'" in facts(told, "warning")
    assert "no trace that begins here is sampled" in facts(told, "warning")
    sources = {setting["name"]: setting["source"] for setting in told["settings"]}
    assert sources["OTEL_PROFILING_APPLICATION_NAME"] == f"{path}: profiling_application_name"


def test_wrong_credentials():
    """A tenant that the server does not know is a matter of credentials."""
    with Receiver(tenant="shop") as receiver:
        environ = {"OTEL_PROFILING_SERVER_ADDRESS": receiver.url}
        assert "credentials are wrong, or missing" in of_server(environ).fact
        assert of_server({**environ, "OTEL_PROFILING_TENANT_ID": "shop"}).level is Level.OK


def test_otlp_instead_of_pyroscope(server_that):
    """An endpoint that takes traces, and knows nothing of profiles, is named as what it is."""
    finding = of_server({"OTEL_PROFILING_SERVER_ADDRESS": f"http://{server_that({'/v1/traces': 200})}"})
    assert "is no Pyroscope but an OTLP endpoint" in finding.fact


def test_grpc_instead_of_pyroscope():
    """So is one that speaks gRPC's protocol only."""

    def serve():
        for _ in range(2):
            connection, _address = listening.accept()
            with connection:
                connection.recv(9)
                connection.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        finding = of_server({"OTEL_PROFILING_SERVER_ADDRESS": f"http://127.0.0.1:{listening.getsockname()[1]}"})
        thread.join()
    assert "it speaks gRPC's protocol" in finding.fact


def test_proxy(server_that, closed_port, receiver):
    """The way through a proxy is named, whether it wants credentials or is not there; NO_PROXY keeps off it."""
    environ = {"OTEL_PROFILING_SERVER_ADDRESS": receiver.url}
    path = f"{receiver.url}/push.v1.PusherService/Push"
    refused = of_server({**environ, "HTTP_PROXY": f"http://me:{SECRET}@{server_that({path: 407})}"})
    assert "the proxy refuses" in refused.fact
    assert SECRET not in str(refused)
    gone = of_server({**environ, "HTTP_PROXY": f"http://127.0.0.1:{closed_port}"})
    assert f"through the proxy http://127.0.0.1:{closed_port}" in gone.fact
    assert of_server({**environ, "HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}).level is Level.OK


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_unknown_authority(server_that, tmp_path):
    """A certificate that nobody here trusts is the cause; with SSL_CERT_FILE it is trusted."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [*MAKE_CERTIFICATE, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    address = f"https://{server_that({'/push.v1.PusherService/Push': 200}, context)}"
    environ = {"OTEL_PROFILING_SERVER_ADDRESS": address}
    finding = of_server(environ)
    assert "certificate" in finding.fact
    assert "SSL_CERT_FILE" in finding.remedy
    assert of_server({**environ, "SSL_CERT_FILE": str(certificate)}).level is Level.OK


def test_traces(server_that, closed_port):
    """Who takes no traces is named, by HTTP and by gRPC."""
    for protocol in ("http/protobuf", "grpc"):
        environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{closed_port}"}
        (finding,) = traces.findings(environ, has_file=False)
        assert finding.level is Level.WARNING
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://{server_that({'/v1/traces': 200})}"
        (finding,) = traces.findings(environ, has_file=False)
        assert finding.level is (Level.OK if protocol == "http/protobuf" else Level.WARNING)


RUNS = "import sys; print('runs', flush=True); sys.stdin.read()"


@needs_proc
def test_running_process(receiver):
    """From outside: the agent and the native module are in it; its secrets stay its own. It reports at its signal."""
    command = [bin_path("opentelemetry-instrument"), sys.executable, "-c", RUNS]
    variables = {"OTEL_PROFILING_REPORT_SIGNAL": "USR2", "OTEL_PROFILING_BASIC_AUTH_PASSWORD": SECRET}
    with subprocess.Popen(
        command,
        env=environment(receiver, **variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "runs\n"
        report = examine_process(process.pid)
        process.send_signal(signal.SIGUSR2)
        said = process.stderr.readline() + process.stderr.readline()
        _, errors = process.communicate("")
    assert report.arrives
    told = " | ".join(f"{found.question}: {found.fact}" for found in report.findings)
    assert "the agent's library is loaded" in told
    assert "the native module is loaded" in told
    assert SECRET not in json.dumps(report.as_json())
    assert f"process {process.pid}" in said
    assert repr(SERVICE) in said
    assert "samples are labelled by aliases" in said + errors
    assert process.returncode == 0


@needs_proc
def test_process_that_is_not_profiled():
    """Is said not to be; one that is not there is said not to be there."""
    assert not examine_process(os.getpid()).arrives or "pyroscope" in sys.modules
    (finding,) = examine_process(2**22 + 1).findings
    assert "there is no process" in finding.fact


def test_start_without_the_native_module(run, vendor):
    """Costs one warning with the remedy, where this platform could have it; none where labels by thread were asked for."""
    without = vendor("sys.modules['otel_profiling_configurator.native._native'] = None")
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
