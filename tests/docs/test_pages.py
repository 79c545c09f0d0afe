"""What pages say is true of what is there: settings and their defaults, links, targets, options. Nothing is run."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from otel_profiling_configurator import environment_variables, settings
from otel_profiling_configurator.agent import words
from otel_profiling_configurator.agent.resource_labels import USUAL_NAMES
from otel_profiling_configurator.agent.server_watch import Losses

from otel_profiling_distro.commands.main import _parser

from .pages import CONTRIBUTING, DOCS, PAGES, README, REPOSITORY, blocks, code, links, prose, sections

VARIABLES = {name for name in vars(environment_variables) if name.startswith("OTEL_PROFILING_")}
LANGUAGES = {"alloy", "dockerfile", "ini", "python", "sh", "text", "yaml"}
HOME = "https://github.com/grafana/otel-profiling-distro"

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


def shell(page: Path) -> list[str]:
    """All commands of a page, one a line: of its blocks, and those within its lines."""
    lines = [line for block in blocks(page, "sh") for line in block.text.splitlines()]
    starts = ("make ", "otel-profiling ", "kubectl ", "docker ", "python tests/", "pytest ")
    return [*lines, *(found for found in code(page) if found.startswith(starts))]


def test_readme_for_five_minutes() -> None:
    """It stays short."""
    assert len(README.read_text().splitlines()) <= 150


def test_index() -> None:
    """Every page is in the index, and in the site's navigation."""
    listed = set(links(DOCS / "index.md"))
    navigation = (REPOSITORY / "mkdocs.yml").read_text()
    for page in DOCS.glob("*.md"):
        assert page.name in listed | {"index.md"}, page.name
        assert f": {page.name}\n" in navigation, page.name


@each_page
def test_links(page: Path) -> None:
    """Each leads to a file that is there, and to a section that it has; those that name our home as well."""
    for link in links(page):
        own = re.match(rf"{HOME}/(?:blob|tree)/main/(.*)|{HOME}(#.*)", link)
        if "://" in link and own is None:
            continue
        path, _, section = (own[1] or own[2] if own else link).partition("#")
        base = page.parent if own is None else REPOSITORY
        target = base / path if path else (README if own else page)
        assert target.exists(), link
        if section:
            assert section in sections(target), link


@each_page
def test_no_command_escapes(page: Path) -> None:
    """Every block says what it is, so that commands are known as such."""
    for block in blocks(page):
        assert block.language in LANGUAGES, block.place
        assert block.language == "sh" or not block.reason, block.place


@each_page
def test_targets_and_options(page: Path) -> None:
    """What a page has one call exists: targets of the Makefile, commands and options of `otel-profiling`, files."""
    makefile = (REPOSITORY / "Makefile").read_text()
    for line in shell(page):
        words = shlex.split(line, comments=True)
        if "make" in words:
            for target in words[words.index("make") + 1 :]:
                assert "=" in target or re.search(rf"^{target}:", makefile, re.MULTILINE), line
        if words and words[0] == "otel-profiling" and "..." not in words:
            _parser().parse_args(words[1:])
        for word in words:
            if re.match(r"(docker|docs|tests|release)/", word):
                assert (REPOSITORY / word).exists(), line


@each_page
def test_shell_syntax(page: Path) -> None:
    """Blocks that can't be run here could be."""
    for block in blocks(page, "sh"):
        done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)  # noqa: S607 - any
        assert done.returncode == 0, block.place + done.stderr


@each_page
def test_variables(page: Path) -> None:
    """Each variable that a page names exists, and each value that it gives makes sense."""
    text = page.read_text()
    assert set(re.findall(r"OTEL_PROFILING_[A-Z_]*[A-Z]", text)) - {"OTEL_PROFILING_X"} <= VARIABLES
    readers = Path(settings.__file__).read_text()
    for name in set(re.findall(r"PYROSCOPE_[A-Z_]*[A-Z]", text)) - {"PYROSCOPE_X"}:
        assert f'"{name}"' in readers
    given = [*code(page), *(line for block in blocks(page) for line in block.text.splitlines())]
    for line in given:
        for name, value in re.findall(r"\b((?:OTEL_PROFILING|PYROSCOPE)_[A-Z_]+)=(\S+)", line):
            assert not settings.read({name: value})[1], line


def test_every_setting() -> None:
    """The page of settings has every one."""
    assert set(re.findall(r"OTEL_PROFILING_[A-Z_]*[A-Z]", (DOCS / "settings.md").read_text())) >= VARIABLES


@pytest.mark.parametrize("page", [README, DOCS / "settings.md"], ids=lambda page: page.name)
def test_defaults(page: Path) -> None:
    """What a page calls a variable's default is what is used without it."""
    checked = set()
    for row in re.findall(r"^\| `OTEL_PROFILING_.*\|$", prose(page), re.MULTILINE):
        variable, *cells = [cell.strip() for cell in row.strip("|").split("|")]
        name = variable.strip("`")
        for cell in cells:
            default = re.match(r"`([^`]+)`", cell)
            if default and not default[1].startswith("PYROSCOPE_"):
                field = name.removeprefix("OTEL_PROFILING_").lower()
                read, problems = settings.read({name: default[1]})
                assert not problems, row
                assert getattr(read, field) == getattr(settings.Settings(), field), row
                checked.add(name)
                break
    assert len(checked) >= 6


def test_labels_of_the_resource() -> None:
    """The page of labels has every attribute that becomes one by default, under its name."""
    rows = dict(re.findall(r"^\| `([a-z0-9.]+)`[^|]* \| `(\w+)` \|$", (DOCS / "labels.md").read_text(), re.MULTILINE))
    assert rows == {attribute: name for attribute, name in USUAL_NAMES.items() if attribute != "process.pid"}


def test_lost_profiles() -> None:
    """The warning that the page shows is the one that comes, and each answer of a server that has a remedy has a row."""
    page = DOCS / "troubleshooting.md"
    (shown,) = [block for block in blocks(page, "text") if "WARNING" in block.text]
    failures = words.read([b"Sending Session failed 401 no org id"]).failures
    said = f"otel-profiling WARNING: {Losses('http://pyroscope:4040', 30).after(failures, 0.0)}"
    assert re.fullmatch(re.escape(" ".join(shown.text.split())).replace(r"\(\.\.\.\)", r"\(.*\)"), said)
    rows = re.findall(r"^\| (\d{3}(?:, \d{3})*) \|", page.read_text(), re.MULTILINE)
    assert {int(status) for row in rows for status in row.split(", ")} == set(words._REMEDIES)


@each_page
def test_dockerfiles(page: Path) -> None:
    """What a page has one add to an image is what the images that are tested are built with."""
    tested = [path.read_text().replace("--no-cache-dir ", "") for path in (REPOSITORY / "docker").rglob("Dockerfile.*")]
    for block in blocks(page, "dockerfile"):
        for line in re.findall(r"^(?:RUN|USER|ENTRYPOINT) .*$", block.text, re.MULTILINE):
            assert any(line in text for text in tested), f"{block.place} {line}"


def test_named_functions() -> None:
    """The functions and files by which the way of a sample and of a switch is told exist."""
    sources = [path for folder in ("configurator", "otel_profiling_distro") for path in (REPOSITORY / folder).rglob("*.[chp]*")]
    text = "\n".join(path.read_text() for path in sources if path.suffix in {".c", ".h", ".py"})
    ways = [block.text for block in blocks(CONTRIBUTING, "text") if re.match(r" 1 ", block.text)]
    assert len(ways) == 2
    for way in ways:
        assert len(way.splitlines()) == 10
        for name in re.findall(r"\b[a-z]+(?:_[a-z]+)+\b(?!\.)", way):
            assert re.search(rf"\b{name}\b", text), name
        for name in re.findall(r"\b\w+/\w+\.(?:c|py)\b", way):
            assert (REPOSITORY / "configurator" / "otel_profiling_configurator" / name).exists(), name
