"""Servers that fork, spawn, recycle and reload, started only with ``opentelemetry-instrument``.

Needs the packages of the dependency group ``servers``, which have an environment of their own (``make servers``).
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

import pytest

from .conftest import APPS, GAVE_UP, SERVICE, bin_path, environment
from .servers import Server, assert_own_instances, assert_profiled, assert_quiet, wait_until

GUNICORN = ("gunicorn", "--bind", "127.0.0.1:{port}", "--graceful-timeout", "10", "--no-control-socket")
WORKERS = {
    "sync": ("web:application",),
    "gthread": ("--threads", "4", "web:application"),
    "gevent": ("web:application",),
    "uvicorn_worker.UvicornWorker": ("web:asgi",),
}
UVICORN = ("uvicorn", "--port", "{port}", "web:asgi")
HYPERCORN = ("hypercorn", "--bind", "127.0.0.1:{port}", "web:asgi")
UWSGI = ("uwsgi", "--http-socket", "127.0.0.1:{port}", "--enable-threads", "--die-on-term", "--wsgi-file", "web.py")
LONG = {"OTEL_PROFILING_UPLOAD_INTERVAL": "60s"}
"""So that nothing arrives but what is sent on the way out."""
RARE = {"OTEL_BSP_SCHEDULE_DELAY": "5000"}
"""OpenTelemetry's default. uWSGI's workers hang, also without us, if a thread of the master wants the GIL as they fork."""


@pytest.fixture
def serve(receiver, tmp_path):
    servers = []

    def serve(*command, needs=None, **variables):
        if command[0] == "uwsgi":  # no module but inside it
            if not Path(bin_path("uwsgi")).exists():
                pytest.skip("uwsgi is not installed")
        else:
            pytest.importorskip(needs or command[0])
        server = Server(command, receiver, tmp_path / f"output-{len(servers)}", **variables)
        servers.append(server)
        return server

    yield serve
    for server in servers:
        server.__exit__()


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
@pytest.mark.parametrize("kind", WORKERS)
def test_gunicorn(serve, kind, preload):
    """Each worker of each kind has its own profile, whether the application is loaded before or after the fork."""
    if kind not in ("sync", "gthread"):
        pytest.importorskip(kind.split(".")[0])
    server = serve(*GUNICORN, "--workers", "2", "--worker-class", kind, *preload, *WORKERS[kind])
    told = server.work()
    assert server.stop() == 0
    assert_own_instances(assert_profiled(server.receiver, told))
    if kind != "gevent":  # patched late, it has OpenTelemetry's own thread fail as it ends
        assert_quiet(server)


def test_gunicorn_recycling(serve):
    """Workers that end after some requests and are replaced: nothing of any of them is lost."""
    server = serve(*GUNICORN, "--workers", "2", "--max-requests", "4", "web:application", **LONG)
    told = [server.first(), *(server.get() for _ in range(15))]
    assert len({answer["pid"] for answer in told}) >= 3
    assert server.stop() == 0
    assert_own_instances(assert_profiled(server.receiver, told))
    assert_quiet(server)


def test_series_of_renewed_workers(serve):
    """A worker that takes another's place has the same labels: the server stores no series more for it."""
    variables = {"OTEL_PROFILING_RESOURCE_LABELS": None, "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop"}
    server = serve(*GUNICORN, "--workers", "2", "--max-requests", "4", "web:application", **LONG, **variables)
    told = [server.first(), *(server.get() for _ in range(15))]
    assert len({answer["pid"] for answer in told}) >= 3
    assert server.stop() == 0
    samples = server.receiver.samples(SERVICE)
    assert len([sample for sample in samples if sample.label("span_id")]) >= 3
    assert len({tuple(sorted(sample.series.items())) for sample in samples}) == 1


def test_gunicorn_reloaded(serve):
    """After ``kill -HUP`` the new workers are profiled, and what the old ones sampled arrives."""
    server = serve(*GUNICORN, "--workers", "2", "web:application", **LONG)
    told = server.work()
    old = {answer["pid"] for answer in told}
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old), "the old workers' end")
    told += server.work()
    assert server.stop() == 0
    instances = assert_profiled(server.receiver, told)
    assert len(instances) == 4
    assert_own_instances(instances)
    assert_quiet(server)


def test_gunicorn_worker_that_is_killed(serve):
    """What a worker had sent before it was killed has arrived, and the one that replaces it is profiled."""
    server = serve(*GUNICORN, "--workers", "1", "web:application")
    told = [server.first(), server.get()]

    def arrived():
        names = {frame.function for sample in server.receiver.samples(SERVICE) for frame in sample.stack}
        return {answer["function"] for answer in told} <= names

    wait_until(arrived, "the profile of a worker that runs on")
    os.kill(told[0]["pid"], signal.SIGKILL)
    told += [server.first(), server.get()]
    assert server.stop() == 0
    assert len(assert_profiled(server.receiver, told)) == 2


def test_gunicorn_worker_that_hangs(serve, tmp_path):
    """A worker that the master aborts leaves with its profile: the abort gives it the chance."""
    (tmp_path / "hanging.py").write_text(
        "import os, time\n"
        "from web import application as work\n"
        "def application(environ, start_response):\n"
        "    answer = work(environ, start_response)\n"
        "    if environ['PATH_INFO'] == '/hang': time.sleep(60)\n"
        "    return answer\n"
    )
    command = (*GUNICORN, "--workers", "1", "--timeout", "2", "hanging:application")
    server = serve(*command, PYTHONPATH=str(tmp_path), **LONG)
    told = [server.first()]
    with pytest.raises((ConnectionError, http.client.HTTPException, urllib.error.URLError)):
        server.get("/hang")
    told.append(server.first())
    assert server.stop() == 0
    assert told[0]["pid"] != told[1]["pid"]
    assert_profiled(server.receiver, told)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize(
    ("command", "workers"),
    [
        ((*GUNICORN, "--workers", "2", "web:application"), 2),
        ((*GUNICORN, "--workers", "2", "--worker-class", "gevent", "web:application"), 2),
        ((*UVICORN, "--workers", "2"), 2),
        ((*HYPERCORN, "--workers", "1"), 1),  # of several, the first to end has the others killed
        ((*UWSGI, "--master", "--processes", "2"), 2),
    ],
    ids=["gunicorn", "gunicorn-gevent", "uvicorn", "hypercorn", "uwsgi"],
)
def test_last_profile(serve, command, workers, number):
    """What workers sampled since the last upload arrives when their server is told to end."""
    server = serve(*command, **LONG, **(RARE if command[0] == "uwsgi" else {}))
    told = server.work(workers, at_least=1 if workers > 1 else 4)  # the samples of one request are too few
    if command[0] == "uwsgi":
        wait_until_idle(server, told)
    server.stop(number)
    pids = {answer["pid"] for answer in told}
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the workers' end")
    assert_profiled(server.receiver, told)


def test_exit_beside_a_dead_server(serve, receiver):
    """A profile server that hangs does not keep a web server from ending."""
    server = serve(*GUNICORN, "--workers", "2", "web:application", OTEL_PROFILING_LOG_LEVEL="info", **LONG)
    server.work(at_least=1)
    receiver.push_delay = 60.0
    assert server.stop() == 0
    assert server.output.count(GAVE_UP) == 3, "the workers and the master"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the master's CPU time from /proc")
def test_master_that_only_supervises(serve):
    """It uploads nothing while it does nothing, and costs hardly any CPU time."""
    server = serve(*GUNICORN, "--workers", "1", "web:application")
    server.first()
    master = server.process.pid

    def pushes_of_master():
        return [p for p in server.receiver.pushes() if any(s.get("process_pid") == str(master) for s in p.series)]

    time.sleep(2.5)  # what was sampled at start-up goes out
    before, used = len(pushes_of_master()), cpu_seconds(master)
    time.sleep(8)
    used = cpu_seconds(master) - used
    # It uploads every second where it has something to say. Gunicorn wakes up once a second, and may be seen doing so.
    assert len(pushes_of_master()) - before <= 3
    assert used / 8 < 0.05, f"{used / 8:.1%} of a core"
    assert server.stop() == 0


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_first_sample_of_a_worker(serve):
    """It arrives within two upload intervals of the first request, while the worker runs on."""
    server = serve(*GUNICORN, "--workers", "1", "web:application", OTEL_PROFILING_UPLOAD_INTERVAL="2s")
    answer = server.first()

    def uploads():
        return sum(any(s.get("process_pid") == str(answer["pid"]) for s in push.series) for push in server.receiver.pushes())

    def arrived():
        return any(sample.label("span_id") == answer["span_id"] for sample in server.receiver.samples(SERVICE))

    before = uploads()
    wait_until(lambda: arrived() or uploads() >= before + 2, "two uploads")
    assert arrived()
    assert server.stop() == 0


def wait_until_arrived(receiver, told):
    """Return when there are samples with the span id of each answer."""

    def arrived():
        return {answer["span_id"] for answer in told} <= {sample.label("span_id") for sample in receiver.samples(SERVICE)}

    wait_until(arrived, "the profile of every request", 30)


def wait_until_idle(server, told):
    """Return when uWSGI's workers are done with each answer: one that still closes its request leaves without Python's exit.

    A client has its answer before that. (``uwsgi_python_atexit`` of 2.0.31 does nothing in a worker that is busy.)
    """
    wait_until(lambda: server.output.count("=> generated ") == len(told), "the end of each request")
    time.sleep(0.2)  # the request is written to the log shortly before it is over


@pytest.mark.parametrize(
    "options",
    [("--master", "--processes", "2"), ("--master", "--processes", "2", "--lazy-apps"), ()],
    ids=["master", "lazy-apps", "alone"],
)
def test_uwsgi(serve, options):
    """Workers are profiled though uWSGI forks in C, and end as they would without us."""
    server = serve(*UWSGI, *options, OTEL_PROFILING_UPLOAD_INTERVAL="1s", **RARE)
    told = server.work(workers=2 if options else 1)
    if options:
        wait_until_idle(server, told)
    else:  # without a master uWSGI does not always let Python exit, and then the last profile is lost
        wait_until_arrived(server.receiver, told)
    assert server.stop() in ((0,) if options else (0, 30))  # alone, uWSGI may leave with its own "end" code
    assert_profiled(server.receiver, told)
    assert_quiet(server)
    assert "signal 6" not in server.output
    if options:
        assert str(server.process.pid) not in {s.series["process_pid"] for s in server.receiver.samples(SERVICE)}


def test_uwsgi_with_a_hook_of_the_application(serve, tmp_path):
    """The application's own post-fork hook is called too."""
    (tmp_path / "hooked.py").write_text(
        "import os, uwsgidecorators\nfrom web import application\n"
        "@uwsgidecorators.postfork\ndef forked(): print('postfork in', os.getpid(), flush=True)\n"
    )
    options = ("--master", "--processes", "2", "--wsgi-file", str(tmp_path / "hooked.py"))
    server = serve(*UWSGI[:-2], *options, **RARE)
    told = server.work()
    wait_until_idle(server, told)
    assert server.stop() == 0
    for pid in assert_profiled(server.receiver, told):
        assert f"postfork in {pid}" in server.output


def test_uvicorn_workers(serve):
    """Spawned workers are instrumented and profiled like the first process."""
    server = serve(*UVICORN, "--workers", "2")
    told = server.work()
    server.stop()
    assert_own_instances(assert_profiled(server.receiver, told))


def test_hypercorn_workers(serve):
    """Its workers too, as long as they run: at the end it kills all but the first that ends (0.18)."""
    server = serve(*HYPERCORN, "--workers", "2")
    told = server.work()
    wait_until_arrived(server.receiver, told)
    server.stop()
    assert_own_instances(assert_profiled(server.receiver, told))


@pytest.fixture
def sources(tmp_path):
    """A copy of the applications that a test may touch."""
    folder = tmp_path / "sources"
    shutil.copytree(APPS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def touch_until_new_process(server, file, old):
    """Change a source file, again if it went unnoticed, until another process answers."""

    def renewed():
        file.write_text(file.read_text() + "\n")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            answer = server.first()
            if answer["pid"] != old:
                return answer
            time.sleep(0.1)
        return None

    return wait_until(renewed, "a reload")


def test_uvicorn_reload(serve, sources):
    """Before and after a change of the source."""
    server = serve(*UVICORN, "--reload", "--reload-dir", str(sources), folder=sources)
    told = [server.first(), server.get()]
    told.append(touch_until_new_process(server, sources / "web.py", told[0]["pid"]))
    told.append(server.get())
    server.stop()
    assert_profiled(server.receiver, told)


def test_django_runserver(serve, sources):
    """Django's development server works in a child process that its reloader replaces."""
    command = ("python", "site_django.py", "runserver", "127.0.0.1:{port}")
    server = serve(*command, needs="django", folder=sources)
    told = [server.first(), server.get()]
    assert told[0]["pid"] != server.process.pid
    told.append(touch_until_new_process(server, sources / "web.py", told[0]["pid"]))
    told.append(server.get())
    time.sleep(2)  # the development server is ended without a chance
    assert_profiled(server.receiver, told)


@pytest.mark.parametrize("interval", ["1s", "60s"])
def test_celery(serve, tmp_path, receiver, interval):
    """Prefork workers that are replaced after some tasks; they leave with ``os._exit``."""
    command = ("celery", "-A", "tasks_celery", "worker", "-c", "2", "-P", "prefork", "--max-tasks-per-child", "3")
    variables = {"BROKER_FOLDER": str(tmp_path), "C_FORCE_ROOT": "1"}
    server = serve(*command, OTEL_PROFILING_UPLOAD_INTERVAL=interval, **variables)
    send = "import tasks_celery\nfor _ in range(10): tasks_celery.compute.delay()"
    environ = environment(receiver, **variables)
    subprocess.run([sys.executable, "-c", send], cwd=APPS, env=environ, check=True, timeout=60)
    file = tmp_path / "told"
    told = wait_until(lambda: file.exists() and (t := file.read_text().splitlines()) and len(t) == 10 and t, "10 tasks")
    told = [json.loads(line) for line in told]
    assert len({answer["pid"] for answer in told}) >= 3
    server.stop()
    assert_own_instances(assert_profiled(server.receiver, told))
    assert_quiet(server)
