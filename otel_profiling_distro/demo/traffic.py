"""The customers of the demo shop: a few threads that ask for one page after the other."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field

_CLIENTS = 4
_PAUSE_SECONDS = 0.02
_TIMEOUT_SECONDS = 20.0

_PAGES = (
    ("GET", "/search?q=wooden+tabel"),
    ("GET", "/recommend/17"),
    ("POST", "/checkout?items=24"),
    ("GET", "/search?q=qiuet+blue+lamp"),
    ("GET", "/report"),
    ("POST", "/checkout?items=60"),
    ("GET", "/recommend/342"),
)


@dataclass
class Outcome:
    """What became of the requests."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    """One line for each request that got no answer, or an error."""


def send_traffic(url: str, seconds: float, check: Callable[[], None]) -> Outcome:
    """Ask the shop at `url` for its pages in turn from several threads, and return once all are answered.

    Args:
        url: Where the shop listens.
        seconds: How long to go on asking.
        check: Called a few times a second; what it raises ends the traffic and is passed on.
    """
    outcome = Outcome()
    lock = threading.Lock()
    done = threading.Event()
    # Without the environment's proxies: the shop is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(number: int) -> None:
        while not done.is_set():
            method, page = _PAGES[number % len(_PAGES)]
            number += 1
            failure = None
            try:
                request = urllib.request.Request(url + page, method=method)  # noqa: S310 - the shop's own URL
                with opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                    answer.read()
            except (urllib.error.URLError, OSError) as error:
                failure = f"{method} {page}: {error}"
            with lock:
                if failure is None:
                    outcome.answered += 1
                else:
                    outcome.failures.append(failure)
            done.wait(_PAUSE_SECONDS)

    # Each client begins elsewhere, so that different routes are always running side by side.
    clients = [
        threading.Thread(target=ask, args=(2 * number,), name=f"demo-client-{number}", daemon=True)
        for number in range(_CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            check()
            time.sleep(min(left, 0.2))
    finally:
        done.set()
    for client in clients:
        client.join()
    check()
    return outcome
