"""Writes what came to files that others open: pprof (`go tool pprof`, speedscope), OTLP JSON, the page as one HTML file."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from otel_profiling_distro.receiver.otlp import SpanRecord, request_of
from otel_profiling_distro.receiver.protos import otel_profiling_pprof_pb2 as pprof_pb2
from otel_profiling_distro.receiver.store import Store
from otel_profiling_distro.receiver.sums import CPU

from .assets import AssetsError, load_assets
from .export import one_file
from .profile import Selection, Tree, profile

_MOST_TRACES = 1_000
"""With most CPU time: a file each."""

_LONGEST_NAME = 80


def keep(store: Store, folder: Path) -> str:
    """Write everything into `folder`, over what is there of an earlier time; return what it was, in words.

    Raises:
        OSError: it can't be written.
    """
    with store.lock:
        services = sorted({group.service for segment in store.segments for group in segment.groups})
        routes = _keep_routes(store, folder / "routes", services)
        traces = _keep_traces(store, folder / "traces")
        spans = _keep_spans(store, folder / "traces.json")
        try:
            (folder / "profiles.html").write_text(one_file(store, load_assets()), "utf-8")
            page = "profiles.html, "
        except AssetsError:
            page = ""
    return f"{page}{routes} profiles of routes, {traces} of traces, and {spans} spans in traces.json"


def _keep_routes(store: Store, folder: Path, services: list[str]) -> int:
    groups = sorted(
        {group for segment in store.segments for group in segment.groups},
        key=lambda group: (group.service, group.kind, group.route or ""),
    )
    for group in groups:
        own = folder / file_name(group.service or "no service name") if len(services) > 1 else folder
        own.mkdir(parents=True, exist_ok=True)
        outside = group.route is None
        selection = Selection(group.service, group.route, outside, kind=group.kind)
        name = "outside any span" if group.route is None else group.route
        suffix = "" if group.kind == CPU else f".{file_name(group.kind)}"
        (own / f"{file_name(name)}{suffix}.pb.gz").write_bytes(to_pprof(profile(store, selection), group.kind))
    return len(groups)


def _keep_traces(store: Store, folder: Path) -> int:
    cpu: defaultdict[str, int] = defaultdict(int)
    for segment in store.segments:
        for trace_id, value in segment.cpu_by_trace.items():
            cpu[trace_id] += value
    busiest = sorted(cpu, key=lambda trace_id: (-cpu[trace_id], trace_id))[:_MOST_TRACES]
    if busiest:
        folder.mkdir(parents=True, exist_ok=True)
    for trace_id in busiest:
        tree = profile(store, Selection(trace=trace_id))
        (folder / f"{file_name(trace_id)}.pb.gz").write_bytes(to_pprof(tree, CPU))
    return len(busiest)


def _keep_spans(store: Store, file: Path) -> int:
    """Write all spans as one export request in OTLP's JSON; return how many."""
    count = 0
    separator = ""
    with file.open("w", encoding="utf-8") as out:
        # By and by: all of them at once, as JSON has them, would take many times what the store does.
        out.write('{"resourceSpans":[')
        for segment in store.segments:
            by_source: defaultdict[int, list[SpanRecord]] = defaultdict(list)
            for span in segment.spans:
                by_source[span.source].append(span)
            for number, spans in by_source.items():
                request = request_of([(segment.sources[number], spans)])
                plain = _with_hex_ids(MessageToDict(request, use_integers_for_enums=True), request)
                for resource_spans in plain["resourceSpans"]:
                    out.write(separator)
                    out.write(json.dumps(resource_spans))
                    separator = ",\n"
                count += len(spans)
        out.write("]}\n")
    return count


def _with_hex_ids(plain: dict[str, Any], request: Any) -> dict[str, Any]:
    """Return OTLP's own JSON: ids are hex there, where protobuf's has base64."""
    for resource, resource_message in zip(plain["resourceSpans"], request.resource_spans, strict=True):
        for scope, scope_message in zip(resource["scopeSpans"], resource_message.scope_spans, strict=True):
            for span, message in zip(scope["spans"], scope_message.spans, strict=True):
                _set_ids(span, message)
                for link, link_message in zip(span.get("links", ()), message.links, strict=True):
                    _set_ids(link, link_message)
    return plain


def _set_ids(plain: dict[str, Any], message: Any) -> None:
    for name, value in (
        ("traceId", message.trace_id),
        ("spanId", message.span_id),
        ("parentSpanId", getattr(message, "parent_span_id", b"")),
    ):
        if value:
            plain[name] = value.hex()


def to_pprof(tree: Tree, kind: str) -> bytes:
    """Return a profile in the pprof format, compressed."""
    strings: dict[str, int] = {"": 0}

    def string(text: str) -> int:
        return strings.setdefault(text, len(strings))

    message = pprof_pb2.Profile()
    message.sample_type.add(type=string(kind), unit=string(tree.unit))
    functions: dict[tuple[str, str], int] = {}
    for number, frame in enumerate(tree.frames, start=1):
        named = (frame.function, frame.filename)
        if named not in functions:
            functions[named] = len(functions) + 1
            message.function.add(id=functions[named], name=string(frame.function), filename=string(frame.filename))
        message.location.add(id=number).line.add(function_id=functions[named], line=frame.line)
    for node, value in enumerate(tree.self_values):
        if value:
            stack = []
            above = node
            while above > 0:
                stack.append(tree.frame_of[above] + 1)
                above = tree.parents[above]
            message.sample.add(location_id=stack, value=[value])
    message.string_table.extend(strings)
    return gzip.compress(message.SerializeToString(), mtime=0)


def file_name(text: str) -> str:
    """Return a file's name that says `text`: only plain characters, not too long, and others for other texts."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:_LONGEST_NAME]
    if plain and plain == text:
        return plain
    return f"{plain or 'x'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
