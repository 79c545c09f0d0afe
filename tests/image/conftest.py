"""Runs applications as the operator does: with the image's tree on PYTHONPATH, and nothing of ours installed.

The trees are those that `make image` built. Applications run on every CPython that is found: pyenv's, and those on PATH.
"""

import dataclasses
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from otel_profiling_distro.receiver import Receiver

from ..integration.conftest import Run
from ..integration.conftest import environment as service_environment

REPOSITORY = Path(__file__).parents[2]
APPS = Path(__file__).parent / "apps"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
IMAGES = REPOSITORY / "build" / "image"
WHEELS = REPOSITORY / "dist"
MUSL = "musl" in sysconfig.get_config_var("SOABI")
"""Whether this Python runs on musl: then applications do, too, on this Python only."""
TREE, OTHER_TREE = ("autoinstrumentation", "autoinstrumentation-musl")[:: -1 if MUSL else 1]
AUTO_INSTRUMENTATION = "opentelemetry/instrumentation/auto_instrumentation"

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
LOGGING_BUG = ("3.12.0", "3.12.1", "3.12.2")
"""These can't start a thread at exit, which upstream's log handler does (opentelemetry-python issue 4752): a traceback."""
FRAMEWORKS = ("flask", "fastapi", "uvicorn")


def find_python(version):
    """Return an interpreter of this version; skip the test if there is none."""
    if MUSL:
        own = "{}.{}".format(*sys.version_info)
        return sys._base_executable if version == own else pytest.skip(f"no Python {version} for musl here")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for candidate in (*sorted(pyenv.glob(f"versions/{version}.*/bin/python")), *system_pythons()):
        if version_of(candidate) == version:
            return str(candidate)
    return pytest.skip(f"no Python {version} here")


def system_pythons():
    """Return interpreters that any user may run."""
    if MUSL:
        return [Path(sys._base_executable)]
    return [path for folder in ("/usr/bin", "/usr/local/bin") for path in sorted(Path(folder).glob("python3*"))]


def version_of(python, form="%d.%d"):
    """Return an interpreter's version as ``3.11``; empty for what is none."""
    show = f"import sys; sys.stdout.write('{form}' % sys.version_info[:{form.count('d')}])"
    return subprocess.run([str(python), "-c", show], capture_output=True, text=True, check=False).stdout


def operators_pythonpath(tree, own=()):
    """PYTHONPATH as the operator sets it: the start-up folder, then the application's own, then the tree."""
    return os.pathsep.join(map(str, (tree / AUTO_INSTRUMENTATION, *own, tree)))


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build_tree = _load(REPOSITORY / "docker" / "build_tree.py")
headers = _load(REPOSITORY / "release" / "headers.py")
"""Scripts, not parts of a package."""


@pytest.fixture(scope="session")
def public():
    """A folder that any user may enter; pytest's own are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def tree(public):
    """What the init container makes: a copy of the image's tree, here read-only and owned by another user."""
    copy = public / "otel-auto-instrumentation-python"
    shutil.copytree(IMAGES / ARCH / TREE, copy)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return copy


@pytest.fixture(scope="session")
def application(public):
    """Return the interpreter of a virtual environment with just these packages, made once."""
    made = {}

    def application(version, *packages, python=None):
        if (version, packages, python) not in made:
            folder = public / f"application-{len(made)}"
            subprocess.run([python or find_python(version), "-m", "venv", "--without-pip", str(folder)], check=True)
            own = str(folder / "bin" / "python")
            if packages:
                pip = [sys.executable, "-m", "pip", "--python", own, "install", "--quiet", *packages]
                subprocess.run(pip, check=True)
            made[version, packages, python] = own
        return made[version, packages, python]

    return application


@dataclasses.dataclass
class Injected(Run):
    """A finished application beside the same one without telemetry."""

    plain: subprocess.CompletedProcess

    def assert_unaffected(self):
        """Exit code and output are those of the application alone."""
        assert (self.plain.returncode, self.plain.stderr) == (3, ""), self.plain.stderr
        assert (self.exit_code, self.output) == (self.plain.returncode, self.plain.stdout), self.errors
        assert "Traceback" not in self.errors


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def inject(receiver, tree):
    """Run an application with and without the tree."""

    def inject(python, app, *, tree=tree, prefix=(), launcher=(), own=(), **variables):
        alone = {"PYTHONPATH": os.pathsep.join(map(str, own))} if own else {"PYTHONPATH": None}
        command = [*prefix, *launcher, python, str(app)]
        variables = {
            # What the operator sets unless the user has.
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "otlp",
            **({"OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION": "false"} if version_of(python, "%d.%d.%d") in LOGGING_BUG else {}),
            "PYTHONPATH": operators_pythonpath(tree, own),
            **variables,
        }

        def run(command, variables):
            return subprocess.run(
                command,
                env=service_environment(receiver, **variables),
                cwd="/",
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )

        plain = run([*prefix, python, str(app)], alone)
        done = run(command, variables)
        print(done.stdout, done.stderr)
        return Injected(done.returncode, done.stdout, done.stderr, receiver, plain)

    return inject
