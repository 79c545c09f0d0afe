"""Notices when the profile server stops taking profiles, and says so: the agent itself is silent about failed uploads.

The agent's uploads can't be seen from here: its only word about them is a line on standard error with each one that fails,
and only if its log was switched on from the start. So the server is asked what it would say: an empty push, with the same
credentials, to the same address, seldom and from a thread of its own. That costs a small request now and then. It tells
everything but what depends on the content of an upload: a server that finds ours too large or too many will accept an empty
one (unless it refuses those too, as most rate limits do).

Nothing here uses `socket`, `http.client` or `threading`: after ``gevent.monkey.patch_all()`` they are a hub's. Nothing is
imported on the thread either: a fork in the middle of an import leaves a child in which that import never ends.
"""

from __future__ import annotations

import _socket
import base64
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from ..log import logger
from ..settings import Settings
from ..threads.os_threads import allocate_lock, start_thread

PUSH_PATH = "/push.v1.PusherService/Push"

ANSWER_SECONDS = 10.0
"""How long the server may take to answer: as long as the agent waits for it."""

CALM = 3
"""While all is well, the server is asked once in this many upload intervals."""

_MOST = 65536
"""Bytes of an answer that are read at once: the first line is among the first of them."""

_REFUSALS = {
    401: "it refuses our credentials (401); see OTEL_PROFILING_BASIC_AUTH_USER and OTEL_PROFILING_HEADERS",
    403: "it forbids us to send (403); see OTEL_PROFILING_BASIC_AUTH_USER and OTEL_PROFILING_TENANT_ID",
    404: "it knows no profiles at that address (404)",
    405: "it takes no profiles at that address (405)",
    407: "a proxy wants credentials (407)",
    413: "it finds the upload too large (413)",
    429: "it limits how much we may send (429)",
}
_FIRST_SERVER_ERROR = 500


class ServerWatch:
    """Asks the server now and then whether it takes profiles, and logs when that changes.

    Args:
        settings: Where the profiles go, and with which credentials.
        is_sending: Says whether an agent of ours runs; while not, nobody is asked and nothing is said.
    """

    def __init__(self, settings: Settings, is_sending: Callable[[], bool]) -> None:
        self._settings = settings
        self._is_sending = is_sending
        self._probe = Probe(settings)
        self._speaking = allocate_lock()
        self._held_for_fork = False
        self._end: Any = None

    def start(self) -> None:
        """Start watching; where it was started before, anew: a forked child lacks its parent's thread."""
        self.stop()
        self._speaking = allocate_lock()
        self._held_for_fork = False
        self._end = end = allocate_lock()
        end.acquire()
        start_thread(self._watch, (end,))

    def stop(self) -> None:
        """End it soon, waiting for nothing."""
        end, self._end = self._end, None
        if end is not None:
            end.release()

    def before_fork(self) -> None:
        """Wait until no line of ours is being written, and let none begin: the child would inherit a handler's lock.

        A handler that takes long is not waited for: that is the application's own.
        """
        if self._speaking.acquire(timeout=0.1):
            self._held_for_fork = True

    def after_fork_in_parent(self) -> None:
        """Let lines be written again."""
        held, self._held_for_fork = self._held_for_fork, False
        if held:
            self._speaking.release()

    def _watch(self, end: Any) -> None:
        try:
            interval = self._settings.upload_interval
            failing_since, suspected = 0.0, False
            pause: float = interval
            while not end.acquire(timeout=pause):
                if not self._is_sending():
                    continue
                problem = self._probe.ask()
                if problem and not (failing_since or suspected):
                    suspected = True  # one request that fails is no outage
                elif problem and not failing_since:
                    failing_since = time.monotonic()
                    self._say(
                        "profiles don't reach %s: %s. The application and its traces go on, profiles are lost meanwhile; "
                        "a line will say when they arrive again.",
                        self._settings.shown_server_address,
                        problem,
                    )
                elif not problem:
                    if failing_since:
                        seconds = time.monotonic() - failing_since
                        self._say("profiles reach %s again, after %d s", self._settings.shown_server_address, seconds)
                    failing_since, suspected = 0.0, False
                pause = interval if problem else CALM * interval
        except Exception:  # noqa: BLE001 - nobody waits for this thread, and the interpreter may be going away
            return

    def _say(self, line: str, *values: object) -> None:
        with self._speaking:
            logger.warning(line, *values)


class Probe:
    """Sends an empty push and reads the first line of the answer."""

    def __init__(self, settings: Settings) -> None:
        parts = urlsplit(settings.server_address)
        self._tls: Any = None
        if parts.scheme == "https":
            import ssl  # noqa: PLC0415 - takes milliseconds, and most agents send to a neighbour

            self._ssl, self._tls = ssl, ssl.create_default_context()
        self._host = parts.hostname or "localhost"
        self._name = _encoded(self._host, self._tls is not None)
        self._port = parts.port or (80 if self._tls is None else 443)
        headers = {
            "host": parts.netloc.rpartition("@")[2],
            "content-type": "application/proto",
            "content-length": "0",
            "connection": "close",
        }
        user, password = settings.basic_auth_user, settings.basic_auth_password
        if not user and parts.username:
            user, password = unquote(parts.username), unquote(parts.password or "")
        if user:
            headers["authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        if settings.tenant_id:
            headers["x-scope-orgid"] = settings.tenant_id
        headers |= {name.lower(): value for name, value in settings.headers.items()}
        lines = [f"POST {parts.path.rstrip('/')}{PUSH_PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._request = "\r\n".join([*lines, "", ""]).encode()

    def ask(self) -> str:
        """Return what is wrong, to be read after the server's address; empty if it takes profiles. Never raises."""
        try:
            status = self._status()
        except TimeoutError:
            return f"no answer within {ANSWER_SECONDS:.0f} s"
        except _socket.gaierror as error:
            return f"its name does not resolve ({error.strerror})"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is why profiles don't arrive
            if self._tls is not None and isinstance(error, self._ssl.SSLCertVerificationError):
                return f"its TLS certificate is not trusted ({error.verify_message})"
            return getattr(error, "strerror", None) or str(error) or type(error).__name__
        # An empty push is itself a bad request to some servers (400); what matters is that they let us in.
        return _REFUSALS.get(status) or (f"it fails ({status})" if status >= _FIRST_SERVER_ERROR else "")

    def _status(self) -> int:
        """Send the request and return the status of the answer."""
        deadline = time.monotonic() + ANSWER_SECONDS
        connection = self._connect(deadline)
        try:
            head = (self._plain if self._tls is None else self._encrypted)(connection, deadline)
        finally:
            connection.close()
        version, _, rest = head.partition(b" ")
        if not version.startswith(b"HTTP/"):
            raise OSError("the answer is not HTTP" if head else "the connection was closed without an answer")
        return int(rest[:3])

    def _connect(self, deadline: float) -> Any:
        failure: Exception = OSError("the name has no address")
        for family, kind, protocol, _, address in _socket.getaddrinfo(self._name, self._port, 0, _socket.SOCK_STREAM):
            connection = _socket.socket(family, kind | getattr(_socket, "SOCK_CLOEXEC", 0), protocol)
            try:
                connection.settimeout(_left(deadline))
                connection.connect(address)
            except Exception as error:  # noqa: BLE001 - the next address may do
                connection.close()
                failure = error
            else:
                return connection
        raise failure

    def _plain(self, connection: Any, deadline: float) -> bytes:
        connection.settimeout(_left(deadline))
        connection.sendall(self._request)
        connection.settimeout(_left(deadline))
        return bytes(connection.recv(_MOST))

    def _encrypted(self, connection: Any, deadline: float) -> bytes:
        received, to_send = self._ssl.MemoryBIO(), self._ssl.MemoryBIO()
        tls = self._tls.wrap_bio(received, to_send, server_hostname=self._host)

        def until_done(step: Callable[[], Any]) -> Any:
            while True:
                try:
                    result = step()
                except self._ssl.SSLWantReadError:
                    result = None
                if to_send.pending:
                    connection.settimeout(_left(deadline))
                    connection.sendall(to_send.read())
                if result is not None:
                    return result
                connection.settimeout(_left(deadline))
                data = connection.recv(_MOST)
                if not data:
                    raise OSError("the connection was closed during the TLS handshake")
                received.write(data)

        until_done(lambda: tls.do_handshake() or True)
        until_done(lambda: tls.write(self._request))
        return bytes(until_done(lambda: tls.read(_MOST)))


def _encoded(host: str, tls: bool) -> bytes:
    """Return the host's name as bytes: given as text, it would be encoded later, by a codec that is imported for it.

    TLS asks for that codec itself, so that it had better be there.
    """
    try:
        return host.encode("ascii" if host.isascii() and not tls else "idna")
    except UnicodeError:
        return host.encode()  # no name at all, as the resolver will say


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
