"""The Dockerfiles, built without a Docker engine: by buildah, from base images that are made of what Debian has.

Needs root, buildah, a static busybox, and the folder with Debian's Python that `.ci/run` makes for Python 3.14. So the Alpine
image is not built here, and neither is anything for another processor.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from ..integration.conftest import assert_labelled, environment
from .conftest import ARCH, IMAGES, REPOSITORY, WHEELS, build_tree, headers

DEBIAN = Path(tempfile.gettempdir()) / "otel-profiling-python-3.14"
BUSYBOX = Path("/bin/busybox")

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah's chroot isolation needs root"),
    pytest.mark.skipif(not shutil.which("buildah"), reason="buildah is not installed"),
    pytest.mark.skipif(not (DEBIAN / "ready").exists(), reason=".ci/run has not made a folder with Debian's Python"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="busybox-static is not installed"),
]


class Buildah:
    """Buildah with a store of its own."""

    def __init__(self, store):
        self._command = ["buildah", "--root", f"{store}/root", "--runroot", f"{store}/run", "--storage-driver", "vfs"]

    def __call__(self, *arguments):
        done = subprocess.run([*self._command, *map(str, arguments)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def start(self, container, *arguments, user):
        command = ["run", "--isolation", "chroot", "--user", user, container, "--", *arguments]
        return subprocess.Popen([*self._command, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    @contextlib.contextmanager
    def mounted(self, container):
        yield Path(self("mount", container))
        self("umount", container)

    def build(self, dockerfile, context, tag, **arguments):
        ignored = REPOSITORY / "docker" / f"{dockerfile}.dockerignore"
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        given += [f"--ignorefile={ignored}"] if ignored.exists() else []
        options = ("--isolation", "chroot", "--layers=false", "--format", "docker", "--pull-never")
        self("build", *options, *given, "--file", REPOSITORY / "docker" / dockerfile, "--tag", tag, context)


@pytest.fixture(scope="module")
def buildah():
    """Buildah, with base images: Debian's Python for official ones, folders with the headers of the others, and a busybox."""
    with tempfile.TemporaryDirectory() as store:
        buildah = Buildah(store)
        container = buildah("from", "scratch")
        with buildah.mounted(container) as root:
            for entry in DEBIAN.iterdir():
                if entry.name not in ("src", "proc", "sys", "ready"):
                    subprocess.run([shutil.which("cp"), "-a", str(entry), str(root)], check=True)
            for folder in ("proc", "sys"):
                (root / folder).mkdir(exist_ok=True)
            # Not published yet; the Dockerfiles of applications ask for it by name.
            shutil.copytree(WHEELS, root / "wheels")
            put_headers(root, "3.13")
        buildah("run", "--isolation", "chroot", container, "--", "python3", "-m", "venv", "/usr/local")
        buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", "--env", "PIP_FIND_LINKS=/wheels", container)
        buildah("commit", "--quiet", "--rm", container, "localhost/python:3.13-slim")

        for version in ("3.10", "3.11", "3.12", "3.14"):
            container = buildah("from", "scratch")
            with buildah.mounted(container) as root:
                put_headers(root, version)
            buildah("commit", "--quiet", "--rm", container, f"localhost/python:{version}-slim")

        container = buildah("from", "scratch")
        with buildah.mounted(container) as root:
            (root / "bin").mkdir()
            shutil.copy(BUSYBOX, root / "bin" / "busybox")
            for name in ("cp", "sh", "ls"):
                (root / "bin" / name).symlink_to("busybox")
        buildah("commit", "--quiet", "--rm", container, "localhost/busybox:1.37")
        yield buildah


def put_headers(root, version):
    """Put the headers of a CPython where the official images have them; `make image` has found them all."""
    headers.prepare(headers.find(version), root / "usr" / "local" / "include" / f"python{version}")


def test_operators_image(buildah, public):
    """Built from its Dockerfile it has the trees that `make image` makes, and any user can copy them out of it."""
    bases = {"BASE": "localhost/busybox:1.37", "PYTHON": "localhost/python"}
    buildah.build("Dockerfile", REPOSITORY, "localhost/operator", TARGETARCH=ARCH, **bases)
    container = buildah("from", "--pull-never", "localhost/operator")
    assert buildah("inspect", "--format", "{{.OCIv1.Config.User}}", container) == "65532:65532"
    labels = buildah("inspect", "--format", "{{.OCIv1.Config.Labels}}", container)
    assert "org.opencontainers.image.licenses:Apache-2.0" in labels
    target = public / "volume"
    target.mkdir()
    target.chmod(0o777)
    for folder in build_tree.FOLDERS.values():
        copy = target / folder
        command = ("cp", "-r", f"/{folder}/.", f"/volume/{folder}")
        volume = ("--volume", f"{target}:/volume", "--user", "12345:12345")
        buildah("run", "--isolation", "chroot", *volume, container, "--", *command)
        assert copy.stat().st_uid == 12345
        assert build_tree.tree_hash(copy) == build_tree.tree_hash(IMAGES / ARCH / folder)


@pytest.mark.parametrize("dockerfile", ["application/Dockerfile.debian", "compose/service.Dockerfile"])
def test_application_image(buildah, receiver, dockerfile):
    """Its entry point serves requests as a user that is not root, and traces and labelled profiles arrive.

    Ours is a native wheel in it.
    """
    context = REPOSITORY / "docker" / "application" if dockerfile.startswith("application") else REPOSITORY
    buildah.build(dockerfile, context, "localhost/application")
    container = buildah("from", "--pull-never", "localhost/application")
    with buildah.mounted(container) as root:
        assert list(root.glob("usr/local/lib/python3.*/site-packages/otel_profiling_configurator/native/_native.*.so"))
    for name, value in environment(receiver).items():
        if name.startswith("OTEL_"):
            buildah("config", "--env", f"{name}={value}", container)
    buildah("config", "--env", "OTEL_PROFILING_UPLOAD_INTERVAL=1s", container)
    entry_point = buildah("inspect", "--format", "{{.OCIv1.Config.Entrypoint}}", container).strip("[]").split()
    application = buildah.start(container, *entry_point, user="65532:65532")
    try:
        ask("http://127.0.0.1:8000/sum/200000")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not (receiver.spans() and samples_of_work(receiver)):
            time.sleep(0.5)
    finally:
        application.terminate()
        print(application.communicate(timeout=30)[0])
    spans = [span for span in receiver.spans() if span.kind == 2]
    assert [span.name for span in spans] == ["GET /sum/<int:rounds>"]
    assert_labelled(samples_of_work(receiver), {"span_id": spans[0].span_id, "span_name": spans[0].name})


def samples_of_work(receiver):
    return [sample for sample in receiver.samples() if any(frame.function == "work" for frame in sample.stack)]


def ask(url):
    """Get the page, once the server listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - the application's own URL
                return answer.read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
