"""What a user gets does not depend on which distro and which configurator is found first.

Runs with whatever distros are installed beside ours: upstream's always is, vendors' are in an environment of their own.
"""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import otel_profiling_configurator
import pytest

from .conftest import APPS, SERVICE, Run, assert_labelled, environment

OURS = "otel-profiling-distro"
DISTRIBUTIONS = {distribution.name for distribution in importlib.metadata.distributions()}
INSTALLED = [
    name for name in (OURS, "opentelemetry-distro", "splunk-opentelemetry", "elastic-opentelemetry") if name in DISTRIBUTIONS
]
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))

FIRST_FOUND = """
import importlib.metadata
for group in "opentelemetry_distro", "opentelemetry_configurator":
    print(next(iter(importlib.metadata.entry_points(group=group))).value)
"""


def names(group):
    return sorted({entry_point.name for entry_point in importlib.metadata.entry_points(group=group)})


def assert_installed_once(app):
    """One agent, one wrapping, one delegate, and profiles that fit the traces."""
    assert app.exit_code == 0, app.errors
    told = app.told
    assert (told["wrappings"], told["followers"], told["is_sdk"]) == (1, 1, True)
    assert len(app.receiver.pushes()) == 1, "an agent uploads once from a process this short"
    assert_labelled(
        app.samples_of("busy_installed"),
        {"span_id": told["span_id"], "trace_id": told["trace_id"], "span_name": "installed"},
    )
    assert [span.attributes["pyroscope.profile.id"] for span in app.spans] == [told["span_id"]]
    assert "Traceback" not in app.errors


@pytest.fixture
def first(tmp_path):
    """Return a PYTHONPATH on which a distribution's entry points are found before all others'."""

    def first(distribution):
        for info in SITE_PACKAGES.glob(f"{distribution.replace('-', '_')}-*.dist-info"):
            (tmp_path / info.name).symlink_to(info)
        found = subprocess.run(
            [sys.executable, "-c", FIRST_FOUND],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        entry_points = importlib.metadata.distribution(distribution).entry_points
        groups = {entry_point.group for entry_point in entry_points} & {"opentelemetry_distro", "opentelemetry_configurator"}
        assert len(set(found) & {entry_point.value for entry_point in entry_points}) == len(groups), (
            "the test's own trick works"
        )
        return str(tmp_path)

    return first


@pytest.mark.parametrize("distribution", INSTALLED)
def test_found_first(run, first, distribution):
    """Whichever distribution is found first, and nobody has chosen: exactly one agent, exactly one wrapping, and not a word."""
    app = run("installed.py", PYTHONPATH=first(distribution))
    assert_installed_once(app)
    # Of several configurators, each a vendor's, upstream says which it did not take.
    if len({entry.value for entry in importlib.metadata.entry_points(group="opentelemetry_configurator")}) == 1:
        assert app.errors == ""


@pytest.mark.parametrize("configurator", names("opentelemetry_configurator"))
@pytest.mark.parametrize("distro", names("opentelemetry_distro"))
def test_chosen(run, distro, configurator):
    """Whichever distro and configurator are chosen, in any combination."""
    assert_installed_once(run("installed.py", OTEL_PYTHON_DISTRO=distro, OTEL_PYTHON_CONFIGURATOR=configurator))


@pytest.mark.parametrize("configurator", names("opentelemetry_configurator"))
@pytest.mark.skipif(
    importlib.util.find_spec("opentelemetry.configuration") is None, reason="opentelemetry-configuration is not installed"
)
def test_declarative_configuration(run, receiver, tmp_path, configurator):
    """With ``OTEL_CONFIG_FILE`` the SDK is configured by the file, and profiled all the same."""
    file = tmp_path / "otel.yaml"
    file.write_text(
        f"""
file_format: "1.0"
resource:
  attributes:
    - name: service.name
      value: {SERVICE}
    - name: service.namespace
      value: from-file
tracer_provider:
  processors:
    - batch:
        exporter:
          otlp_http:
            endpoint: {receiver.url}/v1/traces
"""
    )
    app = run("installed.py", OTEL_CONFIG_FILE=str(file), OTEL_PYTHON_CONFIGURATOR=configurator)
    assert_installed_once(app)
    assert {sample.series["service_namespace"] for sample in app.samples} == {"from-file"}


def test_called_from_code(run):
    """``initialize()`` called by the application does what ``opentelemetry-instrument`` does."""
    app = run("initialised.py", instrument=False)
    assert app.exit_code == 0, app.errors
    assert (app.told["wrappings"], app.told["followers"]) == (1, 1)
    assert_labelled(app.samples_of("busy_initialised"), {"span_id": app.told["span_id"], "span_name": "initialised"})


@pytest.mark.skipif(OURS not in INSTALLED, reason="the distro is not installed")
def test_resource_names_the_distro(run, first):
    """Under our distro the resource says so."""
    app = run("installed.py", PYTHONPATH=first(OURS))
    assert app.spans[0].resource["telemetry.distro.name"] == OURS
    assert app.spans[0].resource["telemetry.distro.version"] == importlib.metadata.version(OURS)


@pytest.fixture
def run_without(receiver, tmp_path):
    """Run an application where some distributions are not installed, on a view of this environment."""

    def run_without(*hidden, app):
        view = tmp_path / "site-packages"
        view.mkdir()
        prefixes = tuple(f"{name.replace('-', '_')}-" for name in hidden)
        for entry in SITE_PACKAGES.iterdir():
            if not (entry.name.startswith(prefixes) and entry.name.endswith(".dist-info")):
                (view / entry.name).symlink_to(entry)
        path = [str(view)]
        source = Path(otel_profiling_configurator.__file__).parent.parent
        if source != SITE_PACKAGES:  # an editable install
            path.append(str(source))
        # The environment's own interpreter would see all of it.
        command = [sys._base_executable, "-c", "from opentelemetry.instrumentation.auto_instrumentation import run; run()"]
        done = subprocess.run(
            [*command, sys._base_executable, str(APPS / app)],
            env=environment(receiver, PYTHONPATH=os.pathsep.join(path)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        print(done.stdout, done.stderr)
        return Run(done.returncode, done.stdout, done.stderr, receiver)

    return run_without


def test_configurator_beside_upstreams_distro(run_without):
    """The configurator distribution alone, under upstream's distro, does the whole work."""
    others = [name for name in INSTALLED if name != "opentelemetry-distro"]
    app = run_without(*others, app="installed.py")
    assert "telemetry.distro.name" not in app.spans[0].resource
    assert_installed_once(app)


def test_configurator_without_any_distro(run_without):
    """With no distro at all it waits for the application to set its tracer provider."""
    app = run_without(*INSTALLED, app="own_provider.py")
    assert_installed_once(app)
