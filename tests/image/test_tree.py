"""What the build puts into the image, and that it finds what would be wrong with it."""

import os
import re
import shutil
import sys
import zipfile

import pytest

from otel_profiling_distro import injection

from .conftest import ARCH, IMAGES, WHEELS, build_tree

EACH = [(arch, libc) for arch in build_tree.MACHINES for libc in build_tree.FOLDERS]


@pytest.fixture
def copy(tmp_path):
    """A copy to spoil: files are links, to be replaced and not changed."""
    tree = tmp_path / "tree"
    shutil.copytree(IMAGES / "amd64" / "autoinstrumentation", tree, copy_function=os.link)
    return tree


def assert_wrong(tree, problem, libc="glibc", arch="amd64"):
    with pytest.raises(build_tree.TreeError, match=problem):
        build_tree.verify(tree, libc, arch)


@pytest.mark.parametrize(("arch", "libc"), EACH)
def test_complete(arch, libc):
    """For both processors and both C libraries: complete for each CPython, within the limit, readable by all."""
    tree = IMAGES / arch / build_tree.FOLDERS[libc]
    build_tree.verify(tree, libc, arch)
    files, size = build_tree.measure(tree)
    print(f"{libc} {arch}: {files} files, {size / 1e6:.1f} MB, sha256:{build_tree.tree_hash(tree)}")
    for path in tree.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path
    # Said once more, not by the code under test.
    for folder in ("pyroscope", "otel_profiling_configurator/native"):
        natives = sorted(path.name.split("-")[1] for path in (tree / folder).glob("_native.cpython-*.so"))
        assert natives == ["310", "311", "312", "313", "314"], folder
    assert not list((tree / "otel_profiling_configurator").rglob("*.[ch]")), "sources"
    assert not list(tree.rglob("*grpc*/_cython")), "no gRPC"


def test_reproducible(tmp_path):
    """Built again elsewhere it has the same files with the same content."""
    own = build_tree.own_wheels(WHEELS, "musl", ARCH)
    again = tmp_path / "again"
    build_tree.build(again, "musl", ARCH, own)
    assert build_tree.tree_hash(again) == build_tree.tree_hash(IMAGES / ARCH / "autoinstrumentation-musl")


def test_native_module_missing(copy):
    """One CPython's is not there."""
    next((copy / "pyroscope").glob("_native.cpython-312-*")).unlink()
    assert_wrong(copy, r"pyroscope/_native: native modules for 310, 311, 313, 314; needed")


def test_own_native_module_missing(copy):
    """Without it labels would be kept by thread in each application, and nobody would notice here."""
    shutil.rmtree(copy / "otel_profiling_configurator" / "native")
    assert_wrong(copy, "otel_profiling_configurator/native/_native is missing")


def test_own_wheel_missing(tmp_path):
    """The wheels were made where a Python had no headers: the tree would serve that Python without a native module."""
    for wheel in WHEELS.glob("*.whl"):
        if "-cp313-musllinux_1_2_x86_64" not in wheel.name:
            (tmp_path / wheel.name).symlink_to(wheel)
    assert len(build_tree.own_wheels(tmp_path, "musl", "arm64")) == 6
    with pytest.raises(build_tree.TreeError, match=r"0 of otel_profiling_configurator-\*-cp313-cp313-musllinux_1_2_x86_64"):
        build_tree.own_wheels(tmp_path, "musl", "amd64")


def test_name_that_python_does_not_look_for(copy):
    """A module of ours for musl, in the tree for glibc, under the name that it has there: this CPython would not find it."""
    native = next((copy / "otel_profiling_configurator" / "native").glob("_native.cpython-312-*"))
    native.rename(native.with_name(native.name.replace("gnu", "musl")))
    assert_wrong(copy, r"CPython 312: named in different ways: .*linux-musl\.so")


def test_native_module_doubled(copy):
    """One is there in two forms, of which Python would take either."""
    shutil.copyfile(copy / "google" / "_upb" / "_message.abi3.so", copy / "wrapt" / "_wrappers.abi3.so")
    assert_wrong(copy, r"wrapt/_wrappers: native modules for .*abi3.*; needed")


def test_package_missing(copy):
    """A package has its metadata, and no native module at all."""
    shutil.rmtree(copy / "pyroscope")
    assert_wrong(copy, "pyroscope/_native is missing")


def test_other_processor(copy):
    """Modules for another processor are found by what is in them, not by their names."""
    assert_wrong(copy, r"pyroscope/_native\.cpython-310-x86_64-linux-gnu\.so: not for arm64", arch="arm64")


@pytest.mark.parametrize("module", ["pyroscope/_native", "otel_profiling_configurator/native/_native"])
@pytest.mark.parametrize(("folder", "libc"), [("autoinstrumentation", "musl"), ("autoinstrumentation-musl", "glibc")])
def test_other_c_library(folder, libc, module):
    """Some modules for musl have the names of those for glibc."""
    assert_wrong(IMAGES / "amd64" / folder, rf"{module}\.cpython-310-x86_64-linux-gnu\.so: not for {libc}", libc)


def test_distributions(copy):
    """Missing, doubled, of another version, not asked for, or needing what is not there."""
    metadata = {path.name.split("-")[0]: path for path in copy.glob("*.dist-info")}
    shutil.rmtree(metadata["requests"])
    shutil.copytree(metadata["idna"], copy / "idna-0.dist-info")
    (copy / "numpy-2.dist-info").mkdir()
    (copy / "numpy-2.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 2\nRequires-Dist: blas>=1\n")
    with pytest.raises(build_tree.TreeError) as caught:
        build_tree.verify(copy, "glibc", "amd64")
    for problem in (
        r"requests is missing",
        r"idna is there as .*, .*; wanted",
        r"numpy was not asked for",
        r"numpy needs blas>=1",
        r"opentelemetry-exporter-otlp-proto-http needs requests",
    ):
        assert re.search(problem, str(caught.value)), problem


def test_too_large(copy, monkeypatch):
    """The operator's volume has a limit."""
    monkeypatch.setattr(build_tree, "MAX_BYTES", 10_000_000)
    assert_wrong(copy, r"MB, which is more than 10")


def test_upstreams_start_up_file(copy):
    """It would start in any Python, and fail there."""
    (copy / build_tree.AUTO_INSTRUMENTATION / "sitecustomize.py").unlink()
    (copy / build_tree.AUTO_INSTRUMENTATION / "sitecustomize.py").write_text("initialize()\n")
    assert_wrong(copy, r"sitecustomize\.py is not ours")


def test_wheels_that_do_not_fit_together(tmp_path):
    """Two files of one name and different content can't both be there."""
    for name, content in (("a", "1"), ("b", "2")):
        with zipfile.ZipFile(tmp_path / f"{name}.whl", "w") as wheel:
            wheel.writestr("package/module.py", content)
            wheel.writestr("package/same.py", "same")
    with pytest.raises(build_tree.TreeError, match=r"package/module\.py: a\.whl and b\.whl") as caught:
        build_tree._merge([tmp_path / "a.whl", tmp_path / "b.whl"], tmp_path / "tree")
    assert "same.py" not in str(caught.value)


def test_oldest_versions_that_telemetry_works_with():
    """The start-up code's table says what the distributions in the tree require."""
    tree = IMAGES / ARCH / "autoinstrumentation"
    required = {}
    for file in tree.glob("*.dist-info/METADATA"):
        for line in re.findall(r"^Requires-Dist: ([^;\n]+?)$", file.read_text(), flags=re.MULTILINE):
            name = build_tree._normalised(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0])
            for version in re.findall(r"[>~]=\s*([\d.]+)", line):
                required.setdefault(name, set()).add(injection.parse_version(version))
    for shared in injection.SHARED:
        least = max(required[shared.distribution])
        assert shared.least == least[: len(shared.least)], (shared, least)
        assert not any(least[len(shared.least) :]), (shared, least)


def test_every_library_is_in_the_table():
    """What is in the tree and may be in an application too is either OpenTelemetry's or in the table."""
    listed = {shared.distribution for shared in injection.SHARED}
    others = {name for name in build_tree.requirements() if not name.startswith("opentelemetry-")}
    assert others - listed == {"pyroscope-io"}, "pyroscope-io has one agent a process; ours must fit it"


def test_limit_is_that_of_the_product():
    """120 MB, and every supported CPython."""
    assert build_tree.MAX_BYTES == 120_000_000
    running = "{}.{}".format(*sys.version_info)
    assert running in build_tree.PYTHONS
