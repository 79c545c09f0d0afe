"""What PyPI shows of both distributions, and the places that state the version."""

import email.parser
import re
import zipfile

import pytest
from platforms import PYTHONS

from .conftest import DIST, REPOSITORY

HOME = "https://github.com/grafana/otel-profiling-distro"


@pytest.fixture(params=["otel_profiling_distro", "otel_profiling_configurator"])
def metadata(request):
    (wheel,) = DIST.glob(f"{request.param}-*-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.parser.Parser().parsestr(archive.read(name).decode())


def test_links_of_the_readme(metadata):
    """Each leads somewhere from PyPI's page too: to a section of it, or to an address; pictures to their bytes."""
    text = metadata.get_payload()
    assert metadata["Description-Content-Type"] == "text/markdown"
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", text)
    assert links
    for picture, link in links:
        assert re.match(r"https?://|#", link), link
        if picture:
            assert re.match(r"https://raw\.githubusercontent\.com/.*\.(svg|png)$", link), link
        own = re.match(r"https://(?:raw\.githubusercontent|github)\.com/grafana/otel-profiling-distro/(?:blob/)?(\S+)", link)
        if own and not own[1].startswith(("security/", "issues")):
            branch, _, file = own[1].partition("/")
            assert branch in (f"v{metadata['Version']}", "main"), link
            assert (REPOSITORY / file.partition("#")[0]).exists(), link


def test_addresses(metadata):
    """Both name one home, where issues and changes are."""
    urls = dict(entry.split(", ") for entry in metadata.get_all("Project-URL"))
    assert urls.keys() == {"Homepage", "Documentation", "Changelog", "Issues", "Source"}
    assert urls["Homepage"] == HOME
    assert all(url.startswith(HOME) for url in urls.values())
    assert HOME in (REPOSITORY / "SECURITY.md").read_text()


def test_classifiers(metadata):
    """Each Python that has wheels, and no other."""
    stated = re.findall(r"Programming Language :: Python :: (3\.\d+)", "\n".join(metadata.get_all("Classifier")))
    assert tuple(stated) == PYTHONS


def test_one_version(metadata):
    """Both distributions, what one requires of the other, the image and the changes say the same."""
    version = metadata["Version"]
    for file in ("configurator/otel_profiling_configurator/version.py", "otel_profiling_distro/version.py"):
        assert f'__version__ = "{version}"' in (REPOSITORY / file).read_text(), file
    assert f"otel-profiling-configurator == {version}" in (REPOSITORY / "pyproject.toml").read_text()
    assert f"ARG VERSION={version}\n" in (REPOSITORY / "docker" / "Dockerfile").read_text()
    assert re.search(rf"^## {re.escape(version)} ", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_workflow_does_what_the_makefile_does():
    """Each target that the release workflow makes exists here."""
    workflow = (REPOSITORY / ".github" / "workflows" / "release.yml").read_text()
    targets = re.findall(r"\bmake (?:--\S+ )?([a-z-]+)", workflow)
    makefile = (REPOSITORY / "Makefile").read_text()
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
