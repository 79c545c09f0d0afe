"""Places where little is allowed, and interpreters that the agent is not made for."""

import os
import shutil
import subprocess
import sys

import pytest

from .conftest import APPS, Run, assert_labelled, bin_path, environment

PROFILED = {"span_name": "work"}


@pytest.fixture
def run_under(receiver):
    """Run `lifecycle.py` with a command in front that takes something away; skip where that can't be done here."""

    def run_under(*command, before=(), **variables):
        environ = environment(receiver, PYTHONDONTWRITEBYTECODE="1", **variables)
        try:
            readable = "import os, sys; sys.exit(not os.access(sys.executable, os.X_OK) and 'Python is out of reach')"
            possible = subprocess.run([*command, sys.executable, "-c", readable], capture_output=True, check=False, env=environ)
        except OSError as error:
            pytest.skip(str(error))
        if possible.returncode:
            pytest.skip(possible.stderr.decode(errors="replace"))
        program = [bin_path("opentelemetry-instrument"), sys.executable, *before, str(APPS / "lifecycle.py"), "return"]
        done = subprocess.run(
            [*command, *program], env=environ, capture_output=True, text=True, timeout=60, check=False, cwd="/"
        )
        print(done.stdout, done.stderr)  # shown by pytest if the test fails
        return Run(done.returncode, done.stdout, done.stderr, receiver)

    return run_under


def assert_profiled(app):
    assert (app.exit_code, app.output) == (0, "working\nworked\n")
    assert_labelled(app.samples_of("busy_work"), PROFILED)
    assert "otel-profiling" not in app.errors


NOTHING_ALLOWED = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give up that much")
@pytest.mark.parametrize("user", [(), ("--reuid", "65534", "--regid", "65534", "--clear-groups")], ids=["root", "nobody"])
def test_without_capabilities(run_under, user):
    """No capability, no new privileges, as a container in a restricted namespace: the sampler reads its own process only."""
    assert_profiled(run_under(*NOTHING_ALLOWED, *user))


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare to take it away")
def test_read_only_file_system(run_under):
    """Not a file can be written, anywhere."""
    script = 'mount --make-rprivate / && mount -o remount,bind,ro / && ! touch "$0" 2>/dev/null && exec "$@"'
    assert_profiled(run_under("unshare", "--mount", "sh", "-c", script, "/tmp/otel-profiling-touched"))  # noqa: S108 - must fail


@pytest.mark.parametrize("level", ["1", "2"])
def test_optimized(run_under, level):
    """Nothing of ours depends on `assert` or on docstrings."""
    assert_profiled(run_under("env", f"PYTHONOPTIMIZE={level}"))


def test_faulthandler(run_under):
    """Its signal handlers and the agent get along."""
    assert_profiled(run_under("env", "PYTHONFAULTHANDLER=1"))


@pytest.mark.parametrize("option", ["-I", "-S", "-E"])
def test_interpreter_that_ignores_us(run_under, option):
    """Where `opentelemetry-instrument` can't reach (``PYTHONPATH`` or `site` is off), the application runs as if without it."""
    program = "print('working'); print('worked')"
    app = run_under("env", before=(option, "-c", program))
    assert (app.exit_code, app.output, app.errors) == (0, "working\nworked\n", "")
    assert app.samples == []


MUSL = """
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "pyroscope":
            raise ImportError("Error loading shared library ld-linux-x86-64.so.2: No such file or directory")
sys.meta_path.insert(0, Finder())
"""

INTERPRETERS = {
    "PyPy": ("sys.implementation.name = 'pypy'", "pyroscope-io needs CPython, this is pypy"),
    "free-threaded": ("sys._is_gil_enabled = lambda: False", "free-threaded"),
    "musl": (MUSL, "ld-linux-x86-64.so.2"),
}


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_interpreter_without_an_agent(run, tmp_path, interpreter):
    """Profiling is off, one warning says why, traces go on."""
    pretend, reason = INTERPRETERS[interpreter]
    # Played, in a process of its own: the name is what we go by, and no agent can be loaded under any other.
    script = tmp_path / "pretend.py"
    script.write_text(
        f"import sys\n{pretend}\n"
        f"sys.path.insert(0, {str(APPS)!r})\nsys.argv = ['lifecycle.py', 'return']\n"
        "from opentelemetry.instrumentation.auto_instrumentation import initialize\ninitialize()\n"
        f"import runpy\nrunpy.run_path({str(APPS / 'lifecycle.py')!r}, run_name='__main__')\n"
    )
    app = run(str(script), instrument=False)
    assert (app.exit_code, app.output) == (0, "working\nworked\n")
    (line,) = [line for line in app.errors.splitlines() if "otel-profiling" in line]
    assert "profiling is off, traces go on" in line
    assert reason in line
    assert app.samples == []
    assert [span.name for span in app.spans] == ["work"]
    assert "pyroscope.profile.id" not in app.spans[0].attributes
