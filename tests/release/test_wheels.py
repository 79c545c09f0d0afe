"""What `make wheels` puts into dist/, and that nothing wrong with it would be published."""

import shutil
import subprocess
import sys
import tarfile
import zipfile

import check
import headers
import pytest
from platforms import PLATFORMS, PYTHONS, by_name

from .conftest import DIST, REPOSITORY

HERE = tuple(python for python in PYTHONS if headers.find(python))


def native(python, platform):
    return next(DIST.glob(f"*-{by_name(platform).wheel_tag(python)}.whl"))


def rewritten(wheel, folder, name=None, *, add=(), without=()):
    """A copy of a wheel with other contents or another name."""
    copy = folder / (name or wheel.name)
    with zipfile.ZipFile(wheel) as before, zipfile.ZipFile(copy, "w") as after:
        for member in before.namelist():
            if not any(member.endswith(suffix) for suffix in without):
                after.writestr(member, before.read(member))
        for member, content in add:
            after.writestr(member, content)
    return copy


def test_nothing_is_wrong():
    """Names, contents, symbols, metadata, and the wheel that pip takes on each platform."""
    assert list(check.problems(DIST)) == []


def test_wheel_for_each_python_with_headers():
    """Those without have no wheel, and the check for a release says so."""
    missing = set(check.missing(DIST))
    assert missing == {platform.wheel_tag(python) for python in set(PYTHONS) - set(HERE) for platform in PLATFORMS}
    assert HERE


def test_same_bytes_elsewhere(tmp_path):
    """Built again in another folder, by a compiler that has kept nothing: each file is the same."""
    copy = tmp_path / "elsewhere"
    left_out = (".git", ".venv*", ".*_cache", ".hypothesis", "build", "dist", "node_modules", "static", "__pycache__", "*.so")
    shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(*left_out))
    wanted = [f"--platform={platform}" for platform in ("manylinux-x86_64", "musllinux-aarch64", "macos-arm64")]
    build = [
        sys.executable,
        str(copy / "release" / "build.py"),
        f"--output={tmp_path / 'dist'}",
        f"--python={HERE[-1]}",
        *wanted,
    ]
    subprocess.run(build, check=True)
    again = sorted((tmp_path / "dist").iterdir())
    assert len(again) == 4 + 3
    for file in again:
        assert file.read_bytes() == (DIST / file.name).read_bytes(), file.name


def test_source_in_a_wheel(tmp_path):
    """C sources are for source distributions."""
    wheel = rewritten(native(HERE[0], "manylinux-x86_64"), tmp_path, add=[("otel_profiling_configurator/native/a.c", "")])
    assert list(check.wheel_problems(wheel)) == ["otel_profiling_configurator/native/a.c is of no use there"]


def test_wheel_without_its_module(tmp_path):
    """A native tag on a wheel that has no native module, and a pure one with a module in it."""
    wheel = rewritten(native(HERE[0], "musllinux-x86_64"), tmp_path, without=[".so"])
    (problem,) = check.wheel_problems(wheel)
    assert problem.startswith("has native modules [], wanted ['otel_profiling_configurator/")
    pure = next(DIST.glob("otel_profiling_configurator-*-none-any.whl"))
    (problem,) = check.wheel_problems(rewritten(pure, tmp_path, add=[("otel_profiling_configurator/a.so", b"")]))
    assert problem == "has native modules ['otel_profiling_configurator/a.so'], wanted []"


def test_renamed_wheel(tmp_path):
    """The name promises another platform than the metadata and the module in it."""
    name = native(HERE[0], "manylinux-x86_64").name
    wheel = rewritten(native(HERE[0], "musllinux-x86_64"), tmp_path, name)
    found = "\n".join(check.wheel_problems(wheel))
    assert "its metadata says" in found


def test_path_of_the_machine(tmp_path):
    """A module that names the folder it was built in."""
    wheel = native(HERE[0], "manylinux-x86_64")
    with zipfile.ZipFile(wheel) as archive:
        module = next(name for name in archive.namelist() if name.endswith(".so"))
        content = archive.read(module)
    spoiled = rewritten(wheel, tmp_path, without=[module], add=[(module, content + str(REPOSITORY).encode())])
    assert any("where it was built" in problem for problem in check.wheel_problems(spoiled))


@pytest.mark.parametrize("platform", ["manylinux-x86_64", "manylinux-aarch64", "musllinux-x86_64", "musllinux-aarch64"])
def test_module_without_thread_context(linked, tmp_path, platform):
    """A module that keeps all that its tag promises, and in which profilers outside the process find no span."""
    wheel = native(HERE[0], platform)
    with zipfile.ZipFile(wheel) as archive:
        module = next(name for name in archive.namelist() if name.endswith(".so"))
    plain = linked(by_name(platform).target, "int nothing(void) { return 0; }\n", "-s", "-Wl,--build-id=none")
    spoiled = rewritten(wheel, tmp_path, without=[module], add=[(module, plain)])
    assert list(check.wheel_problems(spoiled)) == [
        f"{module} does not export otel_thread_ctx_v1, by which profilers outside the process find its spans"
    ]


def test_pip_would_not_take_it(tmp_path):
    """A wheel that pip passes over for the pure one is noticed."""
    tag = by_name("manylinux-x86_64").wheel_tag(HERE[0])
    for file in DIST.glob("otel_profiling_configurator-*-none-any.whl"):
        shutil.copy(file, tmp_path / file.name.replace("-py3", "-99-py3"))  # its build number makes it the later one
    assert list(check.choice_problems(tmp_path, HERE[0], by_name("manylinux-x86_64"))) == []
    shutil.copy(native(HERE[0], "manylinux-x86_64"), tmp_path / f"otel_profiling_configurator-0.0.1-{tag}.whl")
    (problem,) = check.choice_problems(tmp_path, HERE[0], by_name("manylinux-x86_64"))
    assert problem.startswith(f"pip on manylinux-x86_64 with Python {HERE[0]} takes")


def test_source_distribution(tmp_path):
    """Everything that the tests need is in it, and the wheel that it makes is the one that is published."""
    (sdist,) = DIST.glob("otel_profiling_distro-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    for folder in ("tests", "docker", "docs", "frontend", "release", "otel_profiling_distro", "configurator"):
        for file in (REPOSITORY / folder).rglob("*"):
            relative = file.relative_to(REPOSITORY)
            if file.is_file() and file.suffix != ".so" and not {"__pycache__", "node_modules"} & set(file.parts):
                assert (root / relative).exists(), relative
    build = [sys.executable, str(root / "release" / "build.py"), f"--output={tmp_path / 'dist'}", f"--python={HERE[0]}"]
    subprocess.run([*build, "--platform=manylinux-x86_64"], check=True)
    for file in (tmp_path / "dist").glob("*.whl"):
        assert file.read_bytes() == (DIST / file.name).read_bytes(), file.name
