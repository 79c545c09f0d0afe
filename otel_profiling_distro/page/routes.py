"""What a browser may ask for: the page's three files, and its data as JSON.

Everything is answered from memory, and by fixed paths: what a request says can't name a file. Names of spans and functions come
from the network; they leave as JSON, and the page puts them in as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from otel_profiling_distro.receiver.store import Store
from otel_profiling_distro.receiver.sums import CPU

from .assets import Assets
from .export import one_file
from .profile import Selection, profile
from .services import overview, routes
from .traces import Filter, trace, traces

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Only what this server gives is run, and no style or script that stands in the page."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

_NO_SUCH_TRACE = {"error": "no such trace, or not any more"}
_MOST_TRACES = 1_000
_LONGEST_NUMBER = 18


class _BadQueryError(ValueError):
    """A query's value makes no sense; the message says which."""


def page_routes(store: Store, assets: Assets) -> list[BaseRoute]:
    """Return the routes of the page that shows `store`."""

    async def api(request: Request) -> Response:
        try:
            data = await run_in_threadpool(answer, store, request.path_params["view"], dict(request.query_params))
        except KeyError:
            return JSONResponse({"error": "no such view"}, 404, HEADERS)
        except _BadQueryError as error:
            return JSONResponse({"error": str(error)}, 400, HEADERS)
        return JSONResponse(data, 404 if data is _NO_SUCH_TRACE else 200, HEADERS)

    async def export(_request: Request) -> Response:
        html = await run_in_threadpool(one_file, store, assets)
        # The file has a policy of its own, for its own parts.
        headers = HEADERS | {"content-disposition": 'attachment; filename="profiles.html"'}
        return Response(html, 200, headers, "text/html; charset=utf-8")

    def fixed(content: str, media_type: str) -> Callable[[Request], Response]:
        return lambda _request: Response(content, 200, HEADERS, media_type)

    return [
        Route("/", fixed(assets.html, "text/html; charset=utf-8")),
        Route("/page.js", fixed(assets.script, "text/javascript; charset=utf-8")),
        Route("/page.css", fixed(assets.style, "text/css; charset=utf-8")),
        Route("/profiles.html", export),
        Route("/api/{view}", api),
    ]


def answer(store: Store, view: str, query: dict[str, str]) -> Any:
    """Return the data of a view.

    Raises:
        KeyError: there is no such view.
        _BadQueryError: the query makes no sense.
    """
    return _VIEWS[view](store, query)


def _state(store: Store, _query: dict[str, str]) -> Any:
    store.expire()
    return {"generation": store.generation}


def _overview(store: Store, _query: dict[str, str]) -> Any:
    return overview(store)


def _routes(store: Store, query: dict[str, str]) -> Any:
    return routes(store, query.get("service", ""))


def _traces(store: Store, query: dict[str, str]) -> Any:
    return traces(
        store,
        Filter(
            service=query.get("service"),
            name=query.get("name") or None,
            trace_id=query.get("id") or None,
            least_cpu_ns=_number(query, "least_cpu_ns", 0),
            limit=min(_number(query, "limit", 200), _MOST_TRACES),
        ),
    )


def _trace(store: Store, query: dict[str, str]) -> Any:
    return trace(store, query.get("id", "").lower()) or _NO_SUCH_TRACE


def _profile(store: Store, query: dict[str, str]) -> Any:
    selection = Selection(
        service=query.get("service"),
        route=query.get("route"),
        outside="outside" in query,
        trace=query.get("trace"),
        span=query.get("span"),
        kind=query.get("kind", CPU),
    )
    return profile(store, selection).plain()


_VIEWS: dict[str, Callable[[Store, dict[str, str]], Any]] = {
    "state": _state,
    "overview": _overview,
    "routes": _routes,
    "traces": _traces,
    "trace": _trace,
    "profile": _profile,
}


def _number(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise _BadQueryError(f"{name}: {json.dumps(text)} is no number")
    return int(text)
