"""Workers that are renewed for ever, against a server that takes only so many series, as a real Pyroscope does.

Needs gunicorn, of the dependency group ``servers`` (``make servers``).
"""

import math
import os
import time
import urllib.request

import pytest

from otel_profiling_distro.receiver import Receiver
from otel_profiling_distro.receiver.model import PROFILE_ID
from otel_profiling_distro.receiver.rules import series_of

from .conftest import SERVICE
from .servers import Server, wait_until

REQUESTS = 600
"""Each of the three workers is renewed three times meanwhile."""
SECONDS = float(os.environ.get("SERIES_SECONDS", "0"))
"""Serve for so long, however many requests that takes; 0: `REQUESTS`. A minute (60) on a quiet machine before a release."""
GUNICORN = ("gunicorn", "--bind", "127.0.0.1:{port}", "--graceful-timeout", "10", "--no-control-socket")
RENEWED = (*GUNICORN, "--workers", "3", "--max-requests", "60", "routes:application")
STABLE = {"OTEL_PROFILING_RESOURCE_LABELS": None, "OTEL_PROFILING_UPLOAD_INTERVAL": None}
"""What a user has who sets neither: labels that stay when a process is renewed, an upload every 10 s."""
BEGIN, END = "profiles don't reach", "profiles reach"


@pytest.fixture
def serve(tmp_path):
    """Start the workers against a receiver that takes so many series; they have been sampled before the first request."""
    pytest.importorskip("gunicorn")
    opened = []

    def serve(series_limit, **variables):
        receiver = Receiver(series_limit=series_limit)
        opened.append(receiver.__enter__())
        opened.append(Server(RENEWED, receiver, tmp_path / "output", **{**STABLE, **variables}).__enter__())
        return opened[-1]

    yield serve
    while opened:
        opened.pop().__exit__(None, None, None)


class Client:
    """Asks for routes in turns, one after another: workers that had to wait for a processor would be another test."""

    def __init__(self, server, routes="abcd"):
        self._server = server
        self._routes = routes
        self.asked = 0

    def ask(self, requests):
        """Ask so often, and return when all of that is answered."""
        for number in range(self.asked, self.asked + requests):
            path = f"/{self._routes[number % len(self._routes)]}"
            with urllib.request.urlopen(f"http://127.0.0.1:{self._server.port}{path}", timeout=30) as response:
                assert response.read() == b"done"
        self.asked += requests


def wait_until_listening(server):
    def listens():
        assert server.process.poll() is None, "the server ended early"
        return "Booting worker" in server.output

    wait_until(listens, "the first worker")


def spans_and_sampled(receiver):
    """Return the spans that used 20 ms of CPU, and those of them that have samples of their own."""
    sampled = {sample.label("span_id") for sample in receiver.samples(SERVICE)}
    spans = [span for span in receiver.spans(SERVICE) if span.attributes.get("cpu_seconds", 0) >= 0.02]
    return spans, [span for span in spans if span.attributes[PROFILE_ID] in sampled]


def test_room_for_all(serve):
    """However often workers are renewed they make no series more: nothing is refused, and spans have samples."""
    server = serve(60)
    wait_until_listening(server)
    client = Client(server)
    end = time.monotonic() + SECONDS
    client.ask(60 if SECONDS else REQUESTS)
    while time.monotonic() < end:
        client.ask(60)
    assert server.stop() == 0
    receiver = server.receiver
    assert receiver.refusals() == []
    spans, found = spans_and_sampled(receiver)
    workers = server.output.count("Booting worker")
    series = {series_of(sample) for sample in receiver.samples(SERVICE)}
    # Shown by pytest if the test fails, or asked with -rP.
    print(f"{len(found) / len(spans):.2%} of {len(spans)} spans have samples; {workers} workers, {len(series)} series")
    undisturbed = [span for span in spans if span.attributes["cpu_seconds"] >= 0.8 * (span.end_ns - span.start_ns) / 1e9]
    share = len([span for span in undisturbed if span in found]) / max(len(undisturbed), 1)
    print(f"{share:.2%} of the {len(undisturbed)} that had a processor for 80 % of their time; the others had to wait for one")
    assert len(receiver.spans(SERVICE)) == client.asked
    assert workers > 5
    assert len(series) <= 5, series
    # Which spans of 20 ms are met is chance, more so where the sampler has to wait for a processor, and these are some hundred.
    chance = 0 if SECONDS else 4 * math.sqrt(0.97 * 0.03 / len(spans))
    assert len(found) / len(spans) >= 0.97 - chance
    assert "otel-profiling" not in server.output


def test_room_for_few(serve):
    """What is lost is said once when that begins, in the server's words, and once when it has ended, by whichever worker."""
    server = serve(3, OTEL_PROFILING_UPLOAD_INTERVAL="1s")

    def kept():
        return {sample.label("span_name") for sample in server.receiver.samples(SERVICE)}

    wait_until(lambda: None in kept(), "the profile of what is no request, such as a worker's start")
    all_routes = Client(server)
    while BEGIN not in server.output:
        all_routes.ask(30)
    all_routes.ask(300)  # workers that are new find out themselves
    assert server.receiver.refusals()
    known_routes = Client(server, "".join(name[-1] for name in kept() if name))
    while END not in server.output:
        known_routes.ask(30)
    refused = len(server.receiver.refusals())
    known_routes.ask(200)
    assert server.stop() == 0
    assert len(server.receiver.refusals()) == refused
    lines = [line for line in server.output.splitlines() if "otel-profiling" in line]
    (begin, end) = lines
    assert BEGIN in begin
    assert "Maximum active series limit exceeded (3/3)" in begin
    assert END in end
