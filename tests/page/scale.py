"""Measures what an hour of four workers and 100,000 spans do to a receiver, and whether it keeps up with fifty applications.

Run it by hand: ``python -m tests.page.scale``. It prints; a busy machine's numbers decide nothing.
"""

from __future__ import annotations

import http.client
import json
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from .uploads import PUSH, TRACES, Traffic, an_hour

HEADERS = {"content-type": "application/x-protobuf"}
VIEWS = (
    "overview",
    "routes?service=shop",
    "traces?service=shop",
    "traces?service=shop&name=search&least_cpu_ns=20000000",
    "profile?service=shop",
    "profile?service=shop&route=GET+%2Fsearch",
)


class Connection:
    """A kept-alive connection to the receiver."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, path: str, body: bytes) -> None:
        self._connection.request("POST", path, body, HEADERS)
        answer = self._connection.getresponse()
        said = answer.read()
        assert answer.status == 200, (answer.status, said)

    def get(self, path: str) -> bytes:
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body[:200])
        return body


def memory(pid: int) -> tuple[int, int]:
    """Return the resident memory of a process in MB, now and at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmRSS"].split()[0]) // 1000, int(fields["VmHWM"].split()[0]) // 1000


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> None:
    port = 24040
    command = [sys.executable, "-m", "otel_profiling_distro.commands", "serve"]
    server = subprocess.Popen([*command, "--profiles-port", str(port), "--traces-port", str(port)], stderr=subprocess.PIPE)
    try:
        assert server.stderr is not None
        server.stderr.readline()
        print(f"with nothing: {memory(server.pid)[0]} MB")
        connection = Connection(port)
        began, used = time.monotonic(), cpu(server.pid)
        count = 0
        hours = [an_hour("shop", seed, int((time.time() - 3600) * 1e9), 25_000, 1_000) for seed in range(4)]
        for uploads in zip(*hours, strict=True):
            for profile, spans in uploads:
                connection.post(PUSH, profile)
                connection.post(TRACES, spans)
                count += 1
        spent = cpu(server.pid) - used
        print(f"{count} uploads in {time.monotonic() - began:.0f} s, {1000 * spent / count:.0f} ms of CPU each")
        print(f"an hour of four workers: {memory(server.pid)} MB now and at most")
        overview = json.loads(connection.get("/api/overview"))
        print({key: overview[key] for key in ("dropped", "size")}, overview["services"][0]["spans"], "spans")
        newest = json.loads(connection.get("/api/traces?service=shop"))["traces"][0]["trace_id"]
        for view in (*VIEWS, f"trace?id={newest}", f"profile?trace={newest}"):
            began = time.monotonic()
            body = connection.get(f"/api/{view}")
            print(f"{1000 * (time.monotonic() - began):6.0f} ms  {len(body) // 1000:6} kB  {view[:60]}")
        began = time.monotonic()
        html = connection.get("/profiles.html")
        print(f"{time.monotonic() - began:6.1f} s   {len(html) // 1000:6} kB  profiles.html")
        print(f"after looking: {memory(server.pid)} MB now and at most")
        assert overview["services"][0]["spans"] + overview["dropped"] >= 97_920
        browse(f"http://127.0.0.1:{port}", newest)
        fifty(port, server.pid)
    finally:
        server.terminate()
        server.wait()


def browse(url: str, trace_id: str) -> None:
    """How long a browser takes from an address to what is there to be seen."""
    views = {
        "": "tbody tr",
        "service?service=shop": "tbody tr",
        "traces?service=shop": "tbody tr",
        "traces?service=shop&name=step": "tbody tr",
        f"trace?id={trace_id}": "ol.waterfall > li",
        "profile?service=shop": ".graph g.frame",
        "profile?service=shop&route=GET+%2Fsearch": ".graph g.frame",
        f"profile?trace={trace_id}": ".graph g.frame, .empty",
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        page.wait_for_selector("h1")
        for view, seen in views.items():
            page.goto("about:blank")
            began = time.monotonic()
            page.goto(f"{url}/#/{view}")
            page.wait_for_selector(seen)
            print(f"{1000 * (time.monotonic() - began):6.0f} ms  in a browser  #/{view[:60]}")
        browser.close()


def fifty(port: int, pid: int) -> None:
    """Fifty applications upload at once, again and again: how long a round takes of the ten seconds that there are."""
    bodies = [Traffic(f"application-{n}", n, time.time_ns()).seconds(10, 100, 3, 1_000) for n in range(50)]
    connections = [Connection(port) for _ in bodies]

    def upload(number: int) -> None:
        for path, body in zip((PUSH, TRACES), bodies[number], strict=True):
            connections[number].post(path, body)

    for _ in range(3):
        began, used = time.monotonic(), cpu(pid)
        threads = [threading.Thread(target=upload, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(f"50 applications: {time.monotonic() - began:.1f} s, {cpu(pid) - used:.1f} s of CPU; {memory(pid)} MB")
    kept = json.loads(connections[0].get("/api/overview"))["services"]
    assert [one["samples"] for one in kept if one["name"] != "shop"] == [3_000] * 50
    print(f"this process had at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000} MB")


if __name__ == "__main__":
    main()
