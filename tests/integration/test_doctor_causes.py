"""Each cause of missing or poor profiles, as it happens: the doctor names it, says what follows, and what to do.

The doctor runs as a user runs it, as a process of its own. Its exit code is 0 only where profiles would arrive.
"""

import os
import shutil
import ssl
import subprocess
import sys

import pytest

from otel_profiling_distro.receiver import Receiver

from .conftest import APPS, bin_path, environment
from .doctoring import PUSH, assert_named, closed_port, doctor, facts, grpc_server, server_that, vendor

SECRET = "hunter2"
LOST = "Profiles are lost"
MAKE_CERTIFICATE = (
    *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
    *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
)
INSTRUMENT = bin_path("opentelemetry-instrument")


@pytest.fixture
def ask(receiver, tmp_path):
    """Ask the doctor about an application with this text, in this environment; return its exit code and what it found."""

    def ask(text="", *, before=(), command=None, **variables):
        (tmp_path / "app.py").write_text(text)
        command = command or [INSTRUMENT, sys.executable, "app.py"]
        return doctor(environment(receiver, **variables), "--", *command, before=before, folder=tmp_path)

    return ask


def test_server_that_is_down(ask):
    """Nothing listens there."""
    code, told = ask(OTEL_PROFILING_SERVER_ADDRESS=f"http://127.0.0.1:{closed_port()}")
    assert (code, told["arrives"]) == (1, False)
    assert_named(told, "fault", fact="nothing listens there", consequence=LOST, remedy="Start the Pyroscope")


def test_wrong_credentials(ask):
    """The server answers 401, or 403; with the right ones it takes the profile."""

    def status_of(_path, headers):
        return 200 if headers["authorization"] == "Basic bWU6aHVudGVyMg==" else 401

    user = {"OTEL_PROFILING_BASIC_AUTH_USER": "me"}
    with server_that(status_of) as server:
        address = {"OTEL_PROFILING_SERVER_ADDRESS": f"http://{server}"}
        code, told = ask(**address, **user, OTEL_PROFILING_BASIC_AUTH_PASSWORD="swordfish")
        right, _ = ask(**address, **user, OTEL_PROFILING_BASIC_AUTH_PASSWORD=SECRET)
    assert (code, right) == (1, 0)
    remedy = "credentials (OTEL_PROFILING_BASIC_AUTH_USER"
    assert_named(told, "fault", fact="the credentials are wrong, or missing", consequence=LOST, remedy=remedy)
    assert "swordfish" not in str(told)


def test_missing_tenant(ask):
    """A server of several tenants answers 401, too; the remedy names the tenant."""
    with Receiver(tenant="shop") as several:
        code, told = ask(OTEL_PROFILING_SERVER_ADDRESS=several.url)
    assert code == 1
    assert_named(told, "fault", fact="are wrong, or missing", consequence=LOST, remedy="OTEL_PROFILING_TENANT_ID")


@pytest.mark.parametrize("serve", [lambda: server_that({"/v1/traces": 200}), grpc_server], ids=["4318", "4317"])
def test_otlp_port_instead_of_pyroscopes(ask, serve):
    """The endpoint is called what it is, whether it takes traces by HTTP or by gRPC."""
    with serve() as server:
        code, told = ask(OTEL_PROFILING_SERVER_ADDRESS=f"http://{server}")
    assert code == 1
    remedy = "OTEL_PROFILING_SERVER_ADDRESS is Pyroscope's, whose port is 4040"
    assert_named(told, "fault", fact="is no Pyroscope but an OTLP endpoint", consequence=LOST, remedy=remedy)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_unknown_authority(ask, tmp_path):
    """Nobody here trusts the certificate; with SSL_CERT_FILE it is trusted."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run([*MAKE_CERTIFICATE, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with server_that({PUSH: 200}, context) as server:
        code, told = ask(OTEL_PROFILING_SERVER_ADDRESS=f"https://{server}")
        trusted, _ = ask(OTEL_PROFILING_SERVER_ADDRESS=f"https://{server}", SSL_CERT_FILE=str(certificate))
    assert (code, trusted) == (1, 0)
    assert_named(
        told, "fault", fact="its certificate is not one that this machine trusts", consequence=LOST, remedy="SSL_CERT_FILE"
    )


def test_proxy(ask, receiver):
    """The way through it is named, whether it wants credentials or is not there; NO_PROXY keeps a server off it."""
    with server_that({receiver.url + PUSH: 407}) as proxy:
        code, told = ask(HTTP_PROXY=f"http://me:{SECRET}@{proxy}")
    assert code == 1
    assert_named(told, "fault", fact="the proxy refuses", consequence=LOST, remedy="credentials")
    assert SECRET not in str(told)
    gone = f"http://127.0.0.1:{closed_port()}"
    code, told = ask(HTTP_PROXY=gone)
    assert code == 1
    assert_named(told, "fault", fact=f"through the proxy {gone} can't be reached", consequence=LOST, remedy="NO_PROXY")
    code, _ = ask(HTTP_PROXY=gone, NO_PROXY="127.0.0.1")
    assert code == 0


@pytest.mark.parametrize(
    "error",
    ["ModuleNotFoundError('No module named pyroscope')", "ImportError('made for another C library')"],
    ids=["missing", "of another C library"],
)
def test_agent_missing_for_this_python(ask, tmp_path, error):
    """It can't be imported, and why."""
    (tmp_path / "pyroscope.py").write_text(f"raise {error}")
    code, told = ask(PYTHONPATH=str(tmp_path))
    assert code == 1
    fact = error.partition("'")[2].removesuffix("')")
    assert_named(told, "fault", fact=fact, consequence="Profiling is off", remedy="Install pyroscope-io for this interpreter")


def test_pure_form_where_native_could_be_had(ask, tmp_path):
    """Profiles arrive, less exact."""
    variables = vendor(tmp_path, "sys.modules['otel_profiling_configurator.native._native'] = None")
    code, told = ask(**variables)
    assert code == 0
    remedy = "--only-binary :all: --force-reinstall"
    assert_named(told, "warning", fact="native module is missing", consequence="labelled less exactly", remedy=remedy)


def test_application_name_that_differs(ask):
    """Profiles arrive, and nobody finds them from a trace."""
    code, told = ask(OTEL_PROFILING_APPLICATION_NAME="store", OTEL_SERVICE_NAME="shop")
    assert code == 0
    fact, remedy = "profiles are sent as 'store', traces as 'shop'", "Unset OTEL_PROFILING_APPLICATION_NAME"
    assert_named(told, "warning", fact=fact, consequence="finds none", remedy=remedy)


@pytest.mark.parametrize(
    ("name", "value", "consequence"),
    [("OTEL_SDK_DISABLED", "true", "and nothing traced"), ("OTEL_PROFILING_ENABLED", "false", "Nothing is profiled.")],
)
def test_switched_off(ask, name, value, consequence):
    """The variable that does it is named."""
    code, told = ask(**{name: value})
    assert code == 1
    assert_named(told, "fault", fact=f"switched off by {name}", consequence=consequence, remedy=f"Unset {name}")


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
    ],
    ids=["always_off", "0 %"],
)
def test_trace_sampler_at_nothing(ask, variables):
    """Profiles arrive, without anything to link to."""
    code, told = ask(**variables)
    assert code == 0
    fact, remedy = "no trace that begins here is sampled", "OTEL_TRACES_SAMPLER_ARG=0.1"
    assert_named(told, "warning", fact=fact, consequence="no trace to link to", remedy=remedy)


def test_framework_without_instrumentation(ask, tmp_path):
    """One that the application imports, and that is not instrumented: its requests have no spans."""
    metadata = tmp_path / "tornado-6.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tornado\nVersion: 6.5\n")
    code, told = ask("import tornado.web", PYTHONPATH=str(tmp_path))
    assert code == 0
    fact, remedy = "tornado is installed, and its instrumentation is not", "opentelemetry-bootstrap -a install"
    assert_named(told, "warning", fact=fact, consequence="requests have no spans", remedy=remedy)


def test_other_distro_that_overrides_the_exporter(ask, tmp_path):
    """What it made of the variable is named, and how to choose the distro."""
    code, told = ask(**vendor(tmp_path, "os.environ['OTEL_TRACES_EXPORTER'] = 'console'"))
    assert code == 0
    fact = "overrides the exporter of traces: OTEL_TRACES_EXPORTER was otlp, and is console"
    remedy = "OTEL_PYTHON_DISTRO=profiling"
    assert_named(told, "warning", fact=fact, consequence="Traces go elsewhere than the environment says", remedy=remedy)


def test_agent_started_by_the_application(ask):
    """The line that starts it is named."""
    code, told = ask((APPS / "own_agent.py").read_text())
    assert code == 0
    consequence, remedy = "Its agent replaces ours", "OTEL_PROFILING_AGENT_ENABLED=false"
    assert_named(told, "warning", fact="starts Pyroscope itself", consequence=consequence, remedy=remedy)
    assert "app.py:9" in facts(told, "warning")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("from gevent import monkey\nmonkey.patch_all()", None),
        ("", [INSTRUMENT, "gunicorn", "-k", "gevent", "app:app"]),
    ],
    ids=["the application", "gunicorn"],
)
def test_gevent_patched_too_late(ask, tmp_path, text, command):
    """Who patches is named; the variable that patches in time is the remedy."""
    program = tmp_path / "gunicorn"
    program.write_text(f"#!{sys.executable}\n")
    program.chmod(0o755)
    code, told = ask(text, command=command, PATH=os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    assert code == 0
    remedy = "OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH=patch_all"
    assert_named(told, "warning", fact="too late", consequence="requests may hang", remedy=remedy)


@pytest.mark.parametrize(
    ("text", "command"),
    [("import click", None), ("", [INSTRUMENT, bin_path("flask"), "run"])],
    ids=["the application", "flask run"],
)
def test_click_command_around_a_server(ask, text, command):
    """The span that lasts as long as the server is explained, and how to be without it."""
    code, told = ask(text, command=command)
    assert code == 0
    consequence, remedy = "all requests may share one trace", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=click"
    assert_named(told, "warning", fact="makes a span of all of it", consequence=consequence, remedy=remedy)


@pytest.mark.skipif(sys.platform != "linux", reason="a matter of Linux's seccomp")
def test_process_vm_readv_refused(ask):
    """Profiles arrive, less exact."""
    code, told = ask(before=(sys.executable, str(APPS / "no_process_vm_readv.py"), "1"))
    assert code == 0
    fact = "the kernel refuses process_vm_readv (EPERM)"
    assert_named(told, "warning", fact=fact, consequence="labelled by thread", remedy="a seccomp profile must have")


def test_name_that_nobody_knows(ask):
    """The nearest one is named, and what was meant has no effect."""
    code, told = ask(OTEL_PROFILING_SAMPLERATE="50")
    assert code == 0
    fact = "OTEL_PROFILING_SAMPLERATE is no setting and has no effect; did you mean OTEL_PROFILING_SAMPLE_RATE?"
    consequence = "without what was meant"
    assert_named(told, "warning", fact=fact, consequence=consequence, remedy="Correct the name")


@pytest.mark.parametrize(
    ("command", "fact"),
    [
        ([INSTRUMENT, "no-such-program", "app.py"], "there is no program no-such-program"),
        ([INSTRUMENT, sys.executable, "no_such_file.py"], "there is no file no_such_file.py"),
    ],
    ids=["program", "file"],
)
def test_command_that_can_not_start(ask, command, fact):
    """What is missing is named."""
    code, told = ask(command=command)
    assert code == 1
    assert_named(told, "fault", fact=fact, consequence="does not start", remedy="in the folder and with the PATH")


def test_command_without_opentelemetry_instrument(ask):
    """Nothing would be profiled; the remedy is the whole command."""
    code, told = ask(command=["env", "A=b", sys.executable, "app.py"])
    assert code == 1
    remedy = f"opentelemetry-instrument {sys.executable} app.py"
    assert_named(told, "fault", fact="does not stand before the command", consequence="nothing is profiled", remedy=remedy)


def test_environment_without_the_package(receiver, tmp_path):
    """Another interpreter's environment, which has nothing installed, is named as the cause."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    bare = str(tmp_path / "bin" / "python")
    code, told = doctor(environment(receiver), "--", INSTRUMENT, bare, "-c", "pass")
    assert code == 1
    fact, remedy = "Python can't be started under opentelemetry-instrument", "Install otel-profiling-distro"
    assert_named(told, "fault", fact=fact, consequence="not instrumented", remedy=remedy)
