"""Which libraries are the application's own, and that they are found as if nothing had been injected."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from pathlib import Path

import pytest

from otel_profiling_distro import injection
from otel_profiling_distro.injection import ApplicationFirst, Refused, check_protocol, own_libraries, parse_version


def install(folder: Path, distribution: str, version: str, module: str | None = None) -> str:
    """Put a distribution with one module, which knows its version, into `folder`."""
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    if module is not None:
        file = folder.joinpath(*module.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"version = {version!r}\n")
    return str(folder)


@pytest.fixture
def application(tmp_path: Path) -> Path:
    return tmp_path / "application"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "tree"


def test_nothing_installed(application: Path) -> None:
    """An application without any of them gets the injected ones."""
    assert own_libraries([str(application)]) == {}


@pytest.mark.parametrize(
    ("distribution", "version", "is_own"),
    [
        ("wrapt", "1.14.0", True),
        ("wrapt", "1.14", True),
        ("wrapt", "2.0.0rc1", True),
        ("wrapt", "1.13.9", False),
        ("typing_extensions", "4.12.0", True),
        ("typing_extensions", "4.9.0", False),
        ("urllib3", "1.26.20", True),
        ("urllib3", "1.25.11", False),
        ("packaging", "unknown", False),
    ],
)
def test_own_if_new_enough(application: Path, distribution: str, version: str, is_own: bool) -> None:
    """The application's own version is for everybody, if telemetry works with it; versions are compared as numbers."""
    path = [install(application, distribution, version)]
    assert own_libraries(path) == ({distribution: distribution.replace("_", "-")} if is_own else {})


def test_companions(application: Path) -> None:
    """What an old requests works with comes from where it comes from, however old; the rest is not touched."""
    for distribution, version in (("requests", "2.20.0"), ("urllib3", "1.24.3"), ("idna", "2.4")):
        install(application, distribution, version)
    assert own_libraries([str(application)]) == {"requests": "requests", "urllib3": "urllib3", "idna": "idna"}


@pytest.mark.parametrize(("version", "refused"), [("3.20.3", True), ("4.25.9", False), ("5.29.6", False)])
def test_protobuf(application: Path, version: str, refused: bool) -> None:
    """Version 3 can't be replaced and is too old for telemetry; 4 can be; 5 is used."""
    path = [install(application, "protobuf", version)]
    if refused:
        with pytest.raises(Refused, match=r"the application has protobuf 3\.20\.3, .* 5\.0 or later"):
            own_libraries(path)
    else:
        assert ("google.protobuf" in own_libraries(path)) is (version == "5.29.6")


@pytest.mark.parametrize(
    ("text", "version"),
    [("1.2.3", (1, 2, 3)), ("v2", (2,)), ("4.0rc1", (4, 0)), ("2023.5.7", (2023, 5, 7)), ("", ()), ("x", ())],
)
def test_parse_version(text: str, version: tuple[int, ...]) -> None:
    """The numbers that it begins with; nothing is older than everything."""
    assert parse_version(text) == version


@pytest.fixture
def finder(application: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> ApplicationFirst:
    """Both have the same two libraries; one of them is to be the application's."""
    for folder, version in ((tree, "2.0"), (application, "1.0")):
        install(folder, "chosen-library", version, "injected_ns.chosen")
        install(folder, "other-library", version, "injected_ns.other")
    monkeypatch.setattr(sys, "path", [str(tree / "start"), str(tree), str(application), *sys.path])
    finder = ApplicationFirst(str(tree), {"injected_ns.chosen": "chosen-library"})
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    for name in ("injected_ns", "injected_ns.chosen", "injected_ns.other"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    return finder


@pytest.mark.usefixtures("finder")
def test_modules_of_one_namespace() -> None:
    """A module is the application's or the injected one each for itself, also in a namespace that both share."""
    assert importlib.import_module("injected_ns.chosen").version == "1.0"
    assert importlib.import_module("injected_ns.other").version == "2.0"


@pytest.mark.usefixtures("finder")
def test_metadata() -> None:
    """Says the version that is imported, in every spelling of the name, and lists what there is once."""
    assert importlib.metadata.version("chosen-library") == "1.0"
    assert importlib.metadata.version("Chosen_Library") == "1.0"
    assert importlib.metadata.version("other-library") == "2.0"
    listed = [found.version for found in importlib.metadata.distributions() if found.name == "chosen-library"]
    assert listed == ["2.0", "1.0"], "as without the finder"


def test_library_without_files(finder: ApplicationFirst, application: Path) -> None:
    """If the application has only the metadata, the injected module is found by the finders that follow."""
    (application / "injected_ns" / "chosen.py").unlink()
    importlib.invalidate_caches()
    assert finder.find_spec("injected_ns.chosen", [str(application / "injected_ns")]) is None
    assert importlib.import_module("injected_ns.chosen").version == "2.0"


@pytest.mark.parametrize("entry", ["/t", "/t/", "/t/a/b", "/t/../t/a"])
def test_inside(entry: str) -> None:
    """Entries of a path may be written in any way."""
    assert injection.is_inside(entry, "/t")


@pytest.mark.parametrize("entry", ["/tt", "/", "", "t", "/t/../u"])
def test_outside(entry: str) -> None:
    """A folder that only begins with the same letters is another one."""
    assert not injection.is_inside(entry, "/t")


@pytest.mark.parametrize("signal", ["", "TRACES_", "METRICS_", "LOGS_"])
def test_grpc(monkeypatch: pytest.MonkeyPatch, application: Path, signal: str) -> None:
    """Is refused in every variable that can ask for it, unless the application has it."""
    variable = f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL"
    monkeypatch.setenv(variable, "grpc")
    with pytest.raises(Refused, match=f"^{variable}=grpc"):
        check_protocol([str(application)])
    check_protocol([install(application, "opentelemetry-exporter-otlp-proto-grpc", "1.30.0")])
    assert os.environ[variable] == "grpc"


@pytest.mark.parametrize(("given", "used"), [(None, "http/protobuf"), ("http/json", "http/json")])
def test_protocol(monkeypatch: pytest.MonkeyPatch, application: Path, given: str | None, used: str) -> None:
    """HTTP, if nobody asked for anything: upstream's own default is gRPC."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", given or "")
    if given is None:
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
    check_protocol([str(application)])
    assert os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == used


def test_module_that_can_not_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Counts as missing afterwards, which upstream skips without a traceback."""
    (tmp_path / "unloadable.py").write_text("raise ImportError('another C library')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "unloadable", raising=False)
    injection.hide_unloadable("unloadable", [], {})
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("unloadable")
    monkeypatch.delitem(sys.modules, "unloadable")


def test_module_that_can_not_be_loaded_but_the_applications(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, application: Path, finder: ApplicationFirst
) -> None:
    """The application's is used by everybody from then on, whatever its version."""
    (tmp_path / "unloadable.py").write_text("raise ImportError('another C library')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "unloadable", raising=False)
    injection.hide_unloadable("unloadable", [install(application, "unloadable", "0.1")], finder._own)
    assert "unloadable" not in sys.modules
    assert finder._own["unloadable"] == "unloadable"
