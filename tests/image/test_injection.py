"""One tree for every Python: traces and labelled profiles arrive, and the application does what it does without us."""

import os
import shutil
from pathlib import Path

import pytest

from ..integration.conftest import assert_accurate, assert_labelled
from .conftest import APPS, ARCH, FRAMEWORKS, IMAGES, OTHER_TREE, VERSIONS, find_python, system_pythons, version_of

FLASK_ROUTE = "GET /items/<item>"
FASTAPI_ROUTE = "GET /items/{item}"


def assert_profiled(app, function, route):
    """The busy function's samples carry the ids of the server's span, which says so; nobody else is disturbed."""
    app.assert_unaffected()
    server_spans = [span for span in app.spans if span.kind == 2]
    assert [span.name for span in server_spans] == [route], app.errors
    expected = {"trace_id": server_spans[0].trace_id, "span_id": server_spans[0].span_id, "span_name": route}
    assert_labelled(app.samples_of(function), expected)
    assert server_spans[0].attributes["pyroscope.profile.id"] == server_spans[0].span_id
    assert server_spans[0].resource["telemetry.distro.name"] == "otel-profiling-distro"


@pytest.mark.parametrize("version", VERSIONS)
def test_flask(application, inject, version):
    """Flask on threads, on each CPython, from the one tree."""
    app = inject(application(version, *FRAMEWORKS), APPS / "flask_service.py")
    assert_profiled(app, "busy_flask", FLASK_ROUTE)
    assert app.errors == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_fastapi(application, inject, version):
    """FastAPI on asyncio, on each CPython, from the one tree."""
    app = inject(application(version, *FRAMEWORKS), APPS / "fastapi_service.py")
    assert_profiled(app, "busy_fastapi", FASTAPI_ROUTE)
    assert app.errors == ""


def assert_accurate_by_aliases(app):
    """The native module is in use, and 99.5 % of all samples have the right one of eight requests that take turns."""
    app.assert_unaffected()
    assert "samples are labelled by aliases" in app.errors, app.errors
    groups = [(app.samples_of(f"busy_{number}"), {"span_name": f"GET /turns-{number}"}) for number in range(8)]
    assert assert_accurate(groups, 0.995, chance=True) > 200


@pytest.mark.parametrize("version", VERSIONS)
def test_flask_taking_turns(application, inject, version):
    """Short requests on threads that come and go, on each CPython."""
    assert_accurate_by_aliases(
        inject(application(version, *FRAMEWORKS), APPS / "flask_turns.py", OTEL_PROFILING_LOG_LEVEL="info")
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_fastapi_taking_turns(application, inject, version):
    """Requests that share a thread in turns of 0.2 ms, on each CPython."""
    assert_accurate_by_aliases(
        inject(application(version, *FRAMEWORKS), APPS / "fastapi_turns.py", OTEL_PROFILING_LOG_LEVEL="info")
    )


@pytest.mark.parametrize("app", ["flask_service.py", "fastapi_service.py"])
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv to become another user")
def test_arbitrary_user(application, inject, tree, app):
    """A user that no file knows, who may write nowhere in the tree."""
    known = [python for python in system_pythons() if version_of(python) in VERSIONS]
    if not known:
        pytest.skip("no Python here that another user may run")
    python = application(version_of(known[0]), *FRAMEWORKS, python=str(known[0]))
    before = sorted(tree.rglob("*"))
    done = inject(python, APPS / app, prefix=("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"))
    function, route = {
        "flask_service.py": ("busy_flask", FLASK_ROUTE),
        "fastapi_service.py": ("busy_fastapi", FASTAPI_ROUTE),
    }[app]
    assert_profiled(done, function, route)
    assert done.errors == ""
    assert sorted(tree.rglob("*")) == before


def test_application_without_any_dependency(application, inject):
    """Nothing but the standard library: it runs, and its work is profiled without a span."""
    app = inject(application("3.11"), APPS / "bare.py")
    app.assert_unaffected()
    assert app.errors == ""
    assert_labelled(app.samples_of("busy_bare"), {"span_id": None, "span_name": None})


@pytest.mark.parametrize(
    "packages",
    [
        ("protobuf==6.33.6",),
        ("protobuf==5.29.6",),
        ("protobuf==4.25.9",),
        ("wrapt==1.15.0",),
        ("wrapt==2.0.1",),
        ("requests==2.25.1",),
        ("requests==2.20.0", "urllib3==1.24.3", "idna==2.7"),
        ("typing-extensions==4.8.0", "packaging==20.0", "asgiref==3.6.0", "psutil==5.8.0"),
        ("opentelemetry-api==1.20.0", "opentelemetry-sdk==1.20.0"),
        ("opentelemetry-api==1.30.0",),
        ("opentelemetry-distro==0.45b0", "opentelemetry-instrumentation-flask==0.45b0", "setuptools<80"),
        ("splunk-opentelemetry==2.13.2",),
    ],
    ids=lambda packages: packages[0],
)
def test_applications_own_libraries(application, inject, packages):
    """The application has versions of its own of what is injected: it works as without us, and is profiled."""
    app = inject(application("3.11", "flask", *packages), APPS / "own_libraries.py")
    assert_profiled(app, "busy_flask", FLASK_ROUTE)


@pytest.mark.parametrize(
    "packages",
    [("protobuf==5.29.6",), ("protobuf==6.33.6",), ("wrapt==1.15.0",), ("requests==2.25.1", "urllib3==1.26.20")],
    ids=lambda packages: packages[0],
)
def test_applications_own_version_is_the_one_in_use(application, inject, packages):
    """Where telemetry works with it, everybody uses the application's, and its metadata says the same version."""
    app = inject(application("3.11", "flask", *packages), APPS / "versions.py")
    app.assert_unaffected()
    for package in packages:
        assert package.replace("==", " ") in app.output


def test_generated_code_of_the_applications_protobuf(application, inject):
    """Generated code refuses a protobuf that is two major versions newer: it must not get the injected one."""
    app = inject(application("3.11", "protobuf==5.29.6"), APPS / "generated_code.py")
    app.assert_unaffected()
    assert app.errors == ""


def test_protobuf_that_can_not_be_replaced(application, inject):
    """The application's protobuf 3 is too old for telemetry, its generated code for a newer one: the application wins."""
    app = inject(application("3.11", "flask", "protobuf==3.20.3"), APPS / "own_libraries.py")
    app.assert_unaffected()
    assert_one_line(app, "the application has protobuf 3.20.3, and may not work with the 5.0 or later")


def test_started_by_the_applications_own_opentelemetry_instrument(application, inject):
    """The application's start-up file then comes first, and ours is not asked: still one agent, and the same result."""
    packages = ("flask", "opentelemetry-distro==0.45b0", "opentelemetry-exporter-otlp-proto-http==1.24.0", "setuptools<80")
    python = application("3.11", *packages)
    launcher = (python, str(Path(python).with_name("opentelemetry-instrument")))
    app = inject(python, APPS / "flask_service.py", launcher=launcher)
    assert_profiled(app, "busy_flask", FLASK_ROUTE)
    assert len({push.headers["user-agent"] for push in app.receiver.pushes()}) == 1


def assert_one_line(app, *words):
    """All that was said is one line, it has these words, and nothing was sent."""
    assert app.errors.count("\n") == 1
    assert app.errors.startswith("otel-profiling: no traces and no profiles, the application runs without: ")
    assert all(word in app.errors for word in words), app.errors
    assert (app.receiver.pushes(), app.spans) == ([], [])


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7", "3.8", "3.9"])
def test_python_that_is_too_old(inject, version):
    """The application runs, and one line says why there is no telemetry; nothing of the tree can be imported."""
    app = inject(find_python(version), APPS / "bare.py")
    app.assert_unaffected()
    assert_one_line(app, f"this is cpython {version}" if version != "2.7" else "this is python 2.7", "3.10, 3.11, 3.12")


def test_python_that_came_after_the_image(inject, tree, tmp_path):
    """The same where the tree has no native modules for a newer CPython. No such Python can be had, so the tree is older."""
    older = tmp_path / "older"
    shutil.copytree(tree, older, symlinks=True, copy_function=os.link)
    (older / "pyroscope").chmod(0o755)
    for native in (older / "pyroscope").glob("_native.cpython-311-*"):
        native.unlink()
    app = inject(find_python("3.11"), APPS / "bare.py", tree=older)
    app.assert_unaffected()
    assert_one_line(app, "this is cpython 3.11", "3.10, 3.12, 3.13, 3.14")


@pytest.mark.parametrize(
    ("own", "app"), [((), "flask_service.py"), (("psutil==5.8.0",), "own_libraries.py")], ids=["", "own psutil"]
)
def test_tree_for_the_other_c_library(application, inject, tmp_path, own, app):
    """Somebody forgot the annotation that names the platform: traces arrive, and one line says why profiles don't."""
    other = shutil.copytree(IMAGES / ARCH / OTHER_TREE, tmp_path / "tree")
    app = inject(application("3.11", *FRAMEWORKS, *own), APPS / app, tree=other)
    app.assert_unaffected()
    assert [span.name for span in app.spans if span.kind == 2] == [FLASK_ROUTE]
    assert app.errors.count("\n") == 1
    assert "profiling is off, traces go on: pyroscope-io can't be loaded" in app.errors


def test_damaged_tree(inject, tree, tmp_path):
    """A copy that was cut short: the application runs, and one line names what failed."""
    damaged = tmp_path / "damaged"
    shutil.copytree(tree, damaged, symlinks=True, copy_function=os.link)
    for path in (damaged, damaged / "opentelemetry"):
        path.chmod(0o755)
    (damaged / "opentelemetry" / "sdk").rename(tmp_path / "elsewhere")
    app = inject(find_python("3.11"), APPS / "bare.py", tree=damaged)
    app.assert_unaffected()
    assert_one_line(app, "ModuleNotFoundError: No module named 'opentelemetry.sdk'")


def test_sitecustomize_of_the_application(application, inject, tmp_path):
    """It runs as it would without us, before telemetry starts; a fault of it is reported as Python does, once."""
    (tmp_path / "sitecustomize.py").write_text("import builtins\nbuiltins.said_by_sitecustomize = 'yes'\n")
    app = inject(application("3.11"), APPS / "sitecustomized.py", own=[tmp_path])
    app.assert_unaffected()
    assert app.output == "yes\n"


def test_grpc_asked_for(application, inject):
    """There is no gRPC in the image, so nothing could be sent: one line says what to set."""
    app = inject(application("3.11", *FRAMEWORKS), APPS / "flask_service.py", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    app.assert_unaffected()
    assert_one_line(app, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")
