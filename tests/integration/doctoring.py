"""What tests of the doctor have in common: how it is asked, and the servers and distros that it is to find out about."""

import contextlib
import json
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from .conftest import bin_path

PUSH = "/push.v1.PusherService/Push"


def doctor(environ, *arguments, before=(), folder=None):
    """Run the command; return its exit code and what it found."""
    done = subprocess.run(
        [*before, bin_path("otel-profiling"), "doctor", "--json", *arguments],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    print(done.stdout, done.stderr)  # shown by pytest if the test fails
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def facts(told, level):
    """The findings of a level, in one text."""
    return " | ".join(f"{found['question']}: {found['fact']}" for found in told["findings"] if found["level"] == level)


def assert_named(told, level, *, fact, consequence, remedy):
    """The one finding of this level that has this fact has this consequence and this remedy."""
    found = [each for each in told["findings"] if each["level"] == level and fact in each["fact"]]
    assert len(found) == 1, facts(told, level)
    assert consequence in found[0]["consequence"]
    assert remedy in found[0]["remedy"]


@contextlib.contextmanager
def server_that(answers, context=None):
    """Yield host and port of a server that answers as it is told.

    Args:
        answers: Path to status, 404 for all others; or what returns the status for a path and headers.
        context: Of TLS; None for none.
    """
    status_of = answers if callable(answers) else lambda path, _headers: answers.get(path, 404)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status_of(self.path, self.headers))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


@contextlib.contextmanager
def grpc_server():
    """Yield host and port of a server that answers like one of gRPC: by the first frame of HTTP/2."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _address = listening.accept()
            except OSError:
                return  # closed
            with connection, contextlib.suppress(OSError):
                connection.recv(9)
                connection.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)  # wakes up who accepts
        listening.close()
        thread.join()


def closed_port():
    """A port at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def vendor(folder, code):
    """Install another distro in a folder, which does this when it is configured; return the variables by which it is picked."""
    (folder / "vendor_distro.py").write_text(
        "import os, sys\nfrom opentelemetry.distro import OpenTelemetryDistro\n"
        f"class Distro(OpenTelemetryDistro):\n    def _configure(self, **kwargs):\n        {code}\n"
    )
    metadata = folder / "vendor_distro-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: vendor-distro\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[opentelemetry_distro]\nvendor = vendor_distro:Distro\n")
    return {"PYTHONPATH": str(folder), "OTEL_PYTHON_DISTRO": "vendor"}
