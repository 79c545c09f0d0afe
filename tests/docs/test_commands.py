"""Every command of README and the documentation is run, in the order of its page, as a reader would type it.

One shell runs all blocks of a page, so that what one block exports holds in the next. It differs from the reader's in this:

- it has an environment where everything is installed, and no package index: ``pip install`` finds that what is named is there;
- `opentelemetry-bootstrap` only says what it would install, and the demo sends traffic for a second instead of ten;
- the doctor asks the same servers as the application would send to;
- addresses on this machine are those of a receiver of ours, which says what has arrived.

A block that can't be run says so on its page: ``<!-- not run: why -->``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_profiling_distro.receiver import Receiver

from .pages import CONTRIBUTING, DOCS, PAGES, README, REPOSITORY, Block, blocks

APP = Path(__file__).with_name("app.py")

SHELL = """
set -eu
opentelemetry-bootstrap() {
    [ "$*" = "-a install" ]
    command opentelemetry-bootstrap -a requirements
}
otel-profiling() {
    if [ "$1" = doctor ]; then command otel-profiling "$@"; return; fi
    if [ "$1" = demo ]; then set -- "$@" --seconds 1; fi
    env -u OTEL_PROFILING_SERVER_ADDRESS -u OTEL_EXPORTER_OTLP_ENDPOINT otel-profiling "$@"
}
"""

RUN = {page: [block for block in blocks(page, "sh") if not block.reason] for page in PAGES}
pages_with_commands = pytest.mark.parametrize(
    "page", [page for page in PAGES if RUN[page]], ids=lambda page: str(page.relative_to(REPOSITORY))
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def environment(receiver: Receiver) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYROSCOPE_", "PIP_", "PYTHON"))}
    folder = str(Path(sys.executable).parent)
    return {
        **kept,
        "PATH": os.pathsep.join([folder, kept.get("PATH", os.defpath)]),
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # Not said by pages whose reader has a collector, and a server, where these are the default.
        "OTEL_PROFILING_SERVER_ADDRESS": receiver.url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }


def run(commands: list[Block], receiver: Receiver, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run blocks, one after the other, in a folder that has an application."""
    (folder / "app.py").write_text(APP.read_text())
    script = SHELL + "".join(f"echo '== {block.place}' >&2\n{block.text}" for block in commands)
    script = re.sub(r"http://localhost:(4040|4317|4318)\b", receiver.url, script)
    done = subprocess.run(
        ["bash", "-c", script],  # noqa: S607 - any bash
        cwd=folder,
        env=environment(receiver),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    print(done.stdout, done.stderr)  # shown by pytest if the test fails
    assert done.returncode == 0
    return done


@pages_with_commands
def test_commands(page: Path, receiver: Receiver, tmp_path: Path) -> None:
    """Each succeeds, and has the application profiled: for a server, under the name that was exported, or for a report."""
    done = run(RUN[page], receiver, tmp_path)
    commands = "\n".join(block.text for block in RUN[page])
    if re.search(r"^(\w+=\S+ )*opentelemetry-instrument ", commands, re.MULTILINE):
        name = re.search(r"^export OTEL_SERVICE_NAME=(.*)$", commands, re.MULTILINE)
        service = name[1] if name else None
        spans = {span.span_id: span.name for span in receiver.spans(service)}
        samples = [sample for sample in receiver.samples(service) if any(frame.function == "busy" for frame in sample.stack)]
        if "OTEL_PROFILING_AGENT_ENABLED=false" in commands:
            assert spans
            assert not samples
            return
        assert samples
        for sample in samples:
            assert sample.label("span_name") == "GET /search" == spans[sample.label("span_id")]
    if "otel-profiling run" in commands:
        assert "GET /search" in done.stderr
    if "otel-profiling demo" in commands:
        assert "POST /checkout" in done.stdout


def test_start_line(receiver: Receiver, tmp_path: Path) -> None:
    """The line that the page shows of a run is the line that comes."""
    page = DOCS / "troubleshooting.md"
    (command,) = [block for block in RUN[page] if "OTEL_PROFILING_LOG_LEVEL=info" in block.text]
    shown = next(block for block in blocks(page, "text") if block.line > command.line)
    said = run([command], receiver, tmp_path).stderr
    expected, _, form = " ".join(shown.text.split()).rpartition(" by ")
    pattern = re.escape(expected).replace(r"\{\.\.\.\}", r"\{.*\}").replace("checkout", r"[\w:]+")
    pattern = pattern.replace(re.escape("http://localhost:4040"), re.escape(receiver.url))
    assert re.search(pattern, said)
    assert form == "aliases"


@pytest.mark.parametrize("block", [block for page in PAGES for block in blocks(page, "python")], ids=lambda block: block.place)
def test_python(block: Block, receiver: Receiver, tmp_path: Path) -> None:
    """Each example in Python runs."""
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=tmp_path,
        env=environment(receiver),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_not_run() -> None:
    """What isn't run is little, and not what most readers begin with."""
    left_out = [block for page in PAGES for block in blocks(page, "sh") if block.reason]
    assert not [block.place for block in left_out if block.page in (README, CONTRIBUTING)]
    assert len(left_out) < sum(map(len, RUN.values()))
