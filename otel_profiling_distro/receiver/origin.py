"""Keeps other sites out: a page that somebody has open must not read, or add to, what a receiver on the same machine has.

Two ways lead there. A page may ask for an address of this machine; then the browser says the page's origin. Or its site's name
is made to mean this machine (DNS rebinding); then the host that is asked for is that name, where programs that were told of the
receiver ask for an address, ``localhost``, or a name that the receiver was told of.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_LOCAL = ("localhost",)
_OTHERS = frozenset({"cross-site", "same-site"})


@dataclass(frozen=True, slots=True)
class Origins:
    """Which hosts may be asked for.

    Args:
        names: Besides addresses and ``localhost``, in lower case.
    """

    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, names: Iterable[str]) -> Origins:
        """Return the origins with these names."""
        return cls(frozenset(name.lower() for name in names))

    def complaint(self, headers: Mapping[str, str]) -> str | None:
        """Return what is wrong with a request; None where nothing is.

        Args:
            headers: The request's, by names in lower case.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _hostname(f"//{host}")
        if name is None or not self._is_known(name):
            return f"no request for the host {host!r} is answered; --allow-host allows one by name"
        if origin is not None and _netloc(origin) != host.lower():
            return f"no request from pages of {origin!r} is answered"
        # Not all that a page can ask for says its origin: a picture does not. Following a link to here is nobody's attack.
        if headers.get("sec-fetch-site") in _OTHERS and headers.get("sec-fetch-mode") != "navigate":
            return "no request from pages of other sites is answered"
        return None

    def _is_known(self, name: str) -> bool:
        if name in self.names or name in _LOCAL or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _hostname(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises ValueError where it is no port
    except ValueError:
        return None
    return parts.hostname if parts.username is None and not parts.path else None


def _netloc(origin: str) -> str | None:
    """Return the host and port of an origin, in lower case; None where it has none, as ``null``."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme == "http" else None
