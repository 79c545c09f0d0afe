"""What the doctor sees of a running process from outside: in a folder like that which the kernel shows."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_profiling_distro.doctor import Finding, Level, process, published

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

AGENT = "7f00-7f10 r-xp 00000000 00:01 1 /venv/pyroscope/_native__lib.so"
PUBLISHED = "1000-2000 rw-p 00000000 00:01 2 /memfd:OTEL_CTX (deleted)"
START, MESSAGE_AT = 0x1000, 0x1100


def field(number: int, content: bytes) -> bytes:
    size = bytes([len(content)]) if len(content) < 128 else bytes([len(content) & 0x7F | 0x80, len(content) >> 7])
    return bytes([number << 3 | 2]) + size + content


def text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def message(service: str, *more: KeyValue) -> bytes:
    resource = Resource(attributes=[text("service.name", service)]).SerializeToString()
    return field(1, resource) + b"".join(field(2, item.SerializeToString()) for item in more)


def memory(content: bytes, *, signature: bytes = b"OTEL_CTX", version: int = 2, published_at: int = 1, size: int = -1) -> bytes:
    header = struct.pack("<8sIIQQ", signature, version, len(content) if size < 0 else size, published_at, MESSAGE_AT)
    return bytes(START) + header.ljust(MESSAGE_AT - START, b"\0") + content


@pytest.fixture
def proc(tmp_path: Path) -> Any:
    """Return a folder like ``/proc`` with a process 7, which has these mappings, this environment, and this network."""

    def proc(*mappings: str, network: str = "net:[1]", **environ: str) -> Path:
        folder = tmp_path / "7"
        for name in ("task/7", "fd", "ns"):
            (folder / name).mkdir(parents=True)
        (tmp_path / "self/ns").mkdir(parents=True)
        (folder / "environ").write_bytes(b"".join(f"{name}={value}".encode() + b"\0" for name, value in environ.items()))
        (folder / "cmdline").write_bytes(b"python\0app.py\0")
        (folder / "maps").write_text("\n".join(mappings))
        (folder / "task/7/comm").write_text("python\n")
        (folder / "fd/1").symlink_to("pipe:[3]")
        (folder / "cwd").symlink_to(tmp_path)
        (folder / "ns/net").symlink_to(network)
        (tmp_path / "self/ns/net").symlink_to("net:[1]")
        return tmp_path

    return proc


def of(findings: Any, question: str) -> Finding:
    (found,) = [finding for finding in findings if finding.question == question]
    assert isinstance(found, Finding)
    return found


def test_process_in_another_network(proc: Any) -> None:
    """Its server is not asked: from here the same address may be another server's."""
    finding = of(process.examine(7, proc(AGENT, network="net:[2]")).findings, "server")
    assert finding.level is Level.NOTE
    assert "another network" in finding.fact
    assert finding.consequence
    assert finding.remedy


def test_configuration_file_of_a_process(proc: Any, tmp_path: Path) -> None:
    """It is looked for where the process looks for it, in the folder in which it works."""
    pytest.importorskip("opentelemetry.configuration", reason="comes with opentelemetry-configuration")
    (tmp_path / "otel.yaml").write_text("file_format: '1.0'\ndistribution: {otel_profiling: {profiling_types: wall}}")
    shown = {each.name: each for each in process.examine(7, proc(OTEL_CONFIG_FILE="otel.yaml")).settings}
    assert shown["OTEL_PROFILING_TYPES"].value == "wall"


def test_process_that_ends_meanwhile(proc: Any) -> None:
    """It is said so."""
    folder = proc(AGENT)
    (folder / "7/ns/net").unlink()
    (finding,) = process.examine(7, folder).findings
    assert (finding.level, "has just ended" in finding.fact) == (Level.FAULT, True)


def test_published_context(tmp_path: Path) -> None:
    """The resource's name and the schema of thread contexts are shown, without what could confuse a terminal."""
    content = message("sh\x1bop" + "x" * 200, text("threadlocal.schema_version", "tlsdesc_v1_dev"))
    (tmp_path / "mem").write_bytes(memory(content))
    (finding,) = published.findings(tmp_path, f"{AGENT}\n{PUBLISHED}")
    assert finding.level is Level.OK
    assert "service.name=sh\\x1bopxx" in finding.fact
    assert "the span of each thread (tlsdesc_v1_dev)" in finding.fact
    assert len(finding.fact) < 250


def test_nothing_published(tmp_path: Path) -> None:
    """It is a note that says what a profiler outside then lacks."""
    (finding,) = published.findings(tmp_path, f"{AGENT}\n7f10-7f20 rw-p 00000000 00:00 0")
    assert (finding.level, bool(finding.consequence)) == (Level.NOTE, True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (memory(b"", signature=b"OTHER_ON"), "in a way that is not known"),
        (memory(b"", version=3), "in a way that is not known"),
        (memory(b"", size=1 << 30), "in a way that is not known"),
        (memory(message("shop"), published_at=0), "changes all the time"),
        (memory(b"short", size=100), "ends too early"),
        (memory(b"\x0a\x03\xff\xff\xff"), "no message of that kind"),
        (memory(b"\x0a"), "no message of that kind"),
        (b"", "ends too early"),
        (None, os.strerror(2)),
    ],
    ids=["signature", "version", "size", "changing", "short", "garbage", "cut", "no memory", "not readable"],
)
def test_published_context_that_can_not_be_read(tmp_path: Path, data: bytes | None, reason: str) -> None:
    """It is a note that says why: whatever lies there, the doctor goes on."""
    if data is not None:
        (tmp_path / "mem").write_bytes(data)
    (finding,) = published.findings(tmp_path, PUBLISHED)
    assert finding.level is Level.NOTE
    assert reason in finding.fact
