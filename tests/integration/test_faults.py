"""A profile server that fails in every way costs one line when it begins, one when it ends, and nothing else."""

import json
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading

import pytest

from otel_profiling_distro.receiver import Receiver

from .conftest import APPS, SERVICE, bin_path, environment
from .servers import free_port, wait_until

BEGIN, END = "profiles don't reach", "profiles reach"


class Application:
    """`steady.py`, or another, running, with the lines that it has written to standard error."""

    def __init__(self, receiver, app="steady.py", **variables):
        self.lines = []
        self._process = subprocess.Popen(
            [bin_path("opentelemetry-instrument"), sys.executable, str(APPS / app)],
            env=environment(
                receiver, **{"OTEL_PROFILING_UPLOAD_INTERVAL": "1s", "OTEL_BSP_SCHEDULE_DELAY": "300", **variables}
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._process.stdout.readline() == "ready\n"

    def _read(self):
        for line in self._process.stderr:
            print(line, end="")  # shown by pytest if the test fails
            self.lines.append(line.rstrip())

    def said(self, text):
        return [line for line in self.lines if text in line]

    def wait_for(self, text, seconds=30):
        wait_until(lambda: self.said(text), text, seconds)

    def end(self):
        """Let it end, and return what it told."""
        self._process.stdin.close()
        told = json.loads(self._process.stdout.read())
        assert self._process.wait(30) == 0
        self._reader.join()
        return told

    def kill(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture
def start(receiver):
    """Start the application; its traces always go to `receiver`."""
    applications = []

    def start(address, **variables):
        applications.append(Application(receiver, OTEL_PROFILING_SERVER_ADDRESS=address, **variables))
        return applications[-1]

    yield start
    for application in applications:
        application.kill()


def assert_unharmed(application, receiver, lines=2):
    """As many lines of ours as told, and an application that noticed nothing."""
    told = application.end()
    assert len(application.said("otel-profiling")) == lines, application.lines
    assert receiver.spans(SERVICE), "traces go on"
    return told


def labelled(server):
    return [sample for sample in server.samples(SERVICE) if sample.label("span_name") == "steady"]


@pytest.mark.parametrize(
    ("status", "word"),
    [(401, "OTEL_PROFILING_TENANT_ID"), (413, "OTEL_PROFILING_UPLOAD_INTERVAL"), (429, "limit"), (500, "log")],
)
def test_server_that_refuses(start, receiver, status, word):
    """The line says what the server answers, and profiles arrive once it takes them."""
    with Receiver(push_status=status) as profiles:
        application = start(profiles.url)
        application.wait_for(BEGIN)
        assert labelled(profiles) == []
        profiles.push_status = 200
        application.wait_for(END)
        wait_until(lambda: labelled(profiles), "a profile")
        assert_unharmed(application, receiver)
        (begin,) = application.said(BEGIN)
        assert word in begin
        assert str(status) in begin
        assert profiles.url in begin


def test_server_that_starts_late(start, receiver):
    """Down at first."""
    port = free_port()
    application = start(f"http://127.0.0.1:{port}")
    application.wait_for(BEGIN)
    assert "does a Pyroscope listen there" in application.said(BEGIN)[0]
    with Receiver(port=port) as profiles:
        application.wait_for(END)
        wait_until(lambda: labelled(profiles), "a profile")
        assert_unharmed(application, receiver)


def test_server_that_goes_away(start, receiver):
    """Up, down, and up again: two lines."""
    with Receiver() as first:
        application = start(first.url)
        wait_until(lambda: labelled(first), "a profile")
        port = int(first.url.rpartition(":")[2])
    application.wait_for(BEGIN)
    with Receiver(port=port) as second:
        application.wait_for(END)
        wait_until(lambda: labelled(second), "a profile")
        assert_unharmed(application, receiver)


def test_command_that_is_over_before_an_upload(run):
    """Its only upload is the last one: what the server answers is said on the way out, at info."""
    with Receiver(push_status=503) as profiles:
        server = {"OTEL_PROFILING_SERVER_ADDRESS": profiles.url}
        assert run("lifecycle.py", "return", **server).errors == "to stderr\n"
        app = run("lifecycle.py", "return", OTEL_PROFILING_LOG_LEVEL="info", **server)
        (line,) = [line for line in app.errors.splitlines() if BEGIN in line]
        assert f"{profiles.url}: it answers 503" in line
        assert "The last profile of this process is lost" in line


def test_workers_that_are_over_before_an_upload(run):
    """Of workers that live shorter than an upload interval one warns, for all of them."""
    with Receiver(push_status=503) as profiles:
        server = {"OTEL_PROFILING_SERVER_ADDRESS": profiles.url, "OTEL_PROFILING_UPLOAD_INTERVAL": "60s"}
        app = run("children.py", "process-fork", **server)
        (line,) = [line for line in app.errors.splitlines() if "otel-profiling" in line]
        assert f"{BEGIN} {profiles.url}: it answers 503" in line


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory from /proc")
def test_server_that_is_slow(start, receiver):
    """Answers that take 30 s: one line, memory stays bounded, and profiles arrive when it is quick again."""
    with Receiver(push_delay=30.0) as profiles:
        application = start(profiles.url)
        application.wait_for(BEGIN, 60)
        assert "within 10 s" in application.said(BEGIN)[0]
        profiles.push_delay = 0.0
        application.wait_for(END, 60)
        told = assert_unharmed(application, receiver)
        assert told["grown"] < 30_000_000


@pytest.fixture
def resetting_port():
    """A server that resets each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_connections_that_are_reset(start, receiver, resetting_port):
    """It is said once, however long it goes on."""
    application = start(f"http://127.0.0.1:{resetting_port}")
    application.wait_for(BEGIN)
    threading.Event().wait(2.5)
    assert_unharmed(application, receiver, lines=1)


def test_name_that_does_not_resolve(start, receiver):
    """A name that DNS does not know."""
    application = start("http://does-not-exist.invalid:4040")
    application.wait_for(BEGIN, 60)
    assert "does-not-exist.invalid" in application.said(BEGIN)[0]
    assert_unharmed(application, receiver, lines=1)


def test_requests(start, receiver):
    """The server gets uploads and nothing else: it refuses none of them, and each has a profile."""
    application = start(receiver.url)
    wait_until(lambda: len(receiver.pushes()) >= 4, "four uploads")
    assert_unharmed(application, receiver, lines=0)
    pushes = receiver.pushes()
    assert all(push.status == 200 and push.series for push in pushes)


@pytest.mark.skipif(sys.platform != "linux", reason="the agent's words are caught on Linux")
def test_sampler_that_stops(start, receiver):
    """An agent that says that a thread of its has panicked is started again, with one line; its profiles go on arriving."""
    application = start(receiver.url, app="panicking.py")
    application.wait_for("started again")
    (line,) = application.said("otel-profiling")
    assert "it panicked at src/sampler.rs:1:2" in line
    before = len(labelled(receiver))
    wait_until(lambda: len(labelled(receiver)) > before, "a profile of the new agent")
    assert_unharmed(application, receiver, lines=1)


@pytest.mark.parametrize("address", ["not an address", "http://:4040", "ftp://host", "http://host:port"])
def test_invalid_address(run, address):
    """It costs one warning at the start; the application goes on with the default."""
    app = run("lifecycle.py", "return", OTEL_PROFILING_SERVER_ADDRESS=address)
    assert app.exit_code == 0
    (line,) = [line for line in app.errors.splitlines() if "otel-profiling" in line]
    assert "OTEL_PROFILING_SERVER_ADDRESS" in line
    assert address in line
    assert [span.name for span in app.spans] == ["work"]


@pytest.fixture
def certificate(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem -subj /CN=localhost -addext"
    subprocess.run([*command.split(), "subjectAltName=DNS:localhost"], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


@pytest.fixture
def tls_port(receiver, certificate):
    """TLS in front of `receiver`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    host, port = receiver.url.removeprefix("http://").split(":")

    def copy(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        finally:
            target.close()

    def serve(listener):
        while True:
            try:
                connection, _ = listener.accept()
            except ssl.SSLError:
                continue
            except OSError:
                return
            upstream = socket.create_connection((host, int(port)))
            for pair in ((connection, upstream), (upstream, connection)):
                threading.Thread(target=copy, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as plain, context.wrap_socket(plain, server_side=True) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_tls_with_unknown_ca(start, receiver, tls_port):
    """A certificate that nobody vouches for is not trusted, and the line names what would vouch for it."""
    application = start(f"https://localhost:{tls_port}")
    application.wait_for(BEGIN)
    assert "SSL_CERT_FILE" in application.said(BEGIN)[0]
    assert labelled(receiver) == []
    assert_unharmed(application, receiver, lines=1)


def test_tls_with_known_ca(start, receiver, tls_port, certificate):
    """With ``SSL_CERT_FILE`` both trust it: profiles arrive, and nothing is said."""
    application = start(f"https://localhost:{tls_port}", SSL_CERT_FILE=str(certificate / "cert.pem"))
    wait_until(lambda: labelled(receiver), "a profile")
    threading.Event().wait(2.5)
    assert_unharmed(application, receiver, lines=0)
