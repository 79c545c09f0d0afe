"""Apache's mod_wsgi serves an application in an interpreter of its own, beside the main one, or in that."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from .conftest import APPS, SERVICE, assert_labelled, environment
from .servers import free_port, wait_until

MODULES = Path("/usr/lib/apache2/modules")
MODULE = MODULES / "mod_wsgi.so"
LDD, LS = shutil.which("ldd"), shutil.which("ls")
APACHE = shutil.which("apache2") or shutil.which("apache2", path="/usr/sbin")
VERSION = "{}.{}".format(*sys.version_info)
USER = "nobody"

CONFIGURATION = """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/pid
DefaultRuntimeDir {folder}
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {modules}/mod_wsgi.so
ErrorLog {folder}/error.log
LogLevel info
StartServers 1
ServerLimit 1
ThreadsPerChild 4
MaxRequestWorkers 4
WSGISocketPrefix {folder}/socket
WSGIScriptAlias / {folder}/app.wsgi
<Directory {folder}>
Require all granted
</Directory>
"""
SCRIPT = """
import sys
sys.path[:0] = {path!r}
from apache_app import application
"""


STANDARD_LIBRARY = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
PATH = [
    str(APPS),
    *(entry for entry in sys.path if entry and (not entry.startswith(STANDARD_LIBRARY) or "site-packages" in entry)),
]
"""What mod_wsgi's Python, which is another of the same version, is to find."""


def why_not():
    if APACHE is None or LDD is None or not MODULE.exists():
        return "apache2 and libapache2-mod-wsgi-py3 are not installed"
    if f"libpython{VERSION}" not in subprocess.run([LDD, str(MODULE)], capture_output=True, text=True, check=False).stdout:
        return f"this mod_wsgi is not for Python {VERSION}"
    for entry in PATH if os.geteuid() == 0 else ():
        # As Apache's own user: it does not serve as root.
        if Path(entry).exists() and subprocess.run([LS, entry], user=USER, capture_output=True, check=False).returncode != 0:
            return f"{USER} can't read this environment"
    return None


@pytest.fixture
def folder():
    """A folder that Apache's own user may use; pytest's are for one user only."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
    yield folder
    shutil.rmtree(folder)


class Apache:
    """Apache, running in the foreground until `stop`."""

    def __init__(self, folder, receiver, directives, **variables):
        self.folder, self.port = folder, free_port()
        if os.geteuid() == 0:
            directives = (*directives, f"User {USER}", "Group nogroup")
        configuration = CONFIGURATION.format(folder=folder, port=self.port, modules=MODULES)
        (folder / "httpd.conf").write_text("\n".join([configuration, *directives, ""]))
        (folder / "app.wsgi").write_text(SCRIPT.format(path=PATH))
        variables = {"OTEL_PROFILING_UPLOAD_INTERVAL": "1s", "OTEL_BSP_SCHEDULE_DELAY": "300", **variables}
        (folder / "error.log").unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [APACHE, "-f", str(folder / "httpd.conf"), "-DFOREGROUND"],
            env=environment(receiver, **variables),
            start_new_session=True,
        )

    @property
    def log(self):
        return (self.folder / "error.log").read_text(errors="replace")

    def get(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=60) as response:
            return json.load(response)

    def first(self):
        def answer():
            assert self.process.poll() is None, self.log
            try:
                return self.get()
            except urllib.error.HTTPError as error:
                raise AssertionError(self.log) from error
            except (urllib.error.URLError, ConnectionError):
                return None

        return wait_until(answer, "the first answer")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


MODES = {
    "embedded": (),
    "daemon": ("WSGIDaemonProcess app processes=1 threads=4", "WSGIProcessGroup app"),
}


WRONG = ("Traceback", "panicked", "exit signal", "otel-profiling", "not the last thread", "still did not exit")


@pytest.fixture
def serve(receiver, folder):
    """Serve some requests and stop; return the answers, and what of `WRONG` is in the log."""

    def serve(directives, profiles, **variables):
        apache = Apache(folder, receiver, directives, **variables)
        try:
            told = [apache.first(), *(apache.get() for _ in range(3))]
            if profiles:
                wait_until(lambda: sum(sample.count for sample in receiver.samples(SERVICE)) > 10, "profiles")
            assert apache.stop() == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(apache.process.pid, signal.SIGKILL)
            print(apache.log)  # shown by pytest if the test fails
        return told, {word for word in WRONG if word in apache.log}

    return serve


@pytest.mark.parametrize("mode", MODES)
def test_main_interpreter(receiver, serve, mode):
    """With ``WSGIApplicationGroup %{GLOBAL}`` the application serves, is profiled, and stops without a word."""
    told, wrong = serve((*MODES[mode], "WSGIApplicationGroup %{GLOBAL}"), profiles=True)
    assert all(answer["main"] for answer in told)
    assert wrong == set()
    samples = [sample for sample in receiver.samples(SERVICE) if any(f.function == "busy_request" for f in sample.stack)]
    assert_labelled(samples, {"span_name": "GET /"})
    assert {sample.label("span_id") for sample in samples} <= {answer["span_id"] for answer in told} | {None}


@pytest.mark.parametrize("mode", MODES)
def test_interpreter_of_its_own(receiver, serve, mode):
    """By default the application is in another interpreter than the main one: it is not profiled, and ends as without us.

    With the SDK in one, an embedded one does not end within Apache's 10 s (mod_wsgi 4.9, with us or without).
    """
    _, before = serve(MODES[mode], profiles=False, OTEL_PROFILING_ENABLED="false")
    told, wrong = serve(MODES[mode], profiles=False)
    assert not any(answer["main"] for answer in told)
    assert wrong <= before
    assert {span.name for span in receiver.spans(SERVICE)} == {"GET /"}
    assert receiver.pushes() == []
