"""The receiver as an ASGI application: what a request is answered with, and who may ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from . import body as bounds
from .intake import PUSH_PATH, Intake
from .model import Refusal
from .origin import Origins
from .rules import RefusedError, error_body

_DECODERS = 4
"""At a time: each may hold what a body decompresses to, and more of them are no faster."""

Delay = Callable[[], Awaitable[None]]
"""Waits as long as a push is to wait for its answer."""


def application(intake: Intake, delay: Delay, origins: Origins, pages: Sequence[BaseRoute] = ()) -> ASGIApp:
    """Return the application.

    Args:
        intake: Takes what is posted.
        delay: Waited for before a push is answered.
        origins: Which hosts and which other pages may ask.
        pages: Routes for browsers, if there are any.
    """

    # Made by the first upload: older anyio want a running loop for that.
    decoding: CapacityLimiter | None = None

    async def take(request: Request) -> Response:
        nonlocal decoding
        decoding = decoding or CapacityLimiter(_DECODERS)
        path = request.url.path
        try:
            body = await _body(request)
            headers = {name.lower(): value for name, value in request.headers.items()}
            # Decoding takes a while; others are to be answered meanwhile.
            await to_thread.run_sync(intake.take, path, headers, body, limiter=decoding)
        except RefusedError as refusal:
            if path == PUSH_PATH:
                await delay()
            intake.remember(Refusal(refusal.status, refusal.words))
            return _refused(path, refusal)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it
        if path == PUSH_PATH:
            await delay()
        return Response(media_type="application/proto" if path == PUSH_PATH else "application/x-protobuf")

    async def nothing(request: Request) -> Response:
        if request.method == "POST":
            return await take(request)
        if pages:
            return PlainTextResponse("nothing here\n", HTTPStatus.NOT_FOUND)
        return PlainTextResponse("this receiver only takes POST requests\n", HTTPStatus.METHOD_NOT_ALLOWED)

    async def failed(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - for the type checker: registered for no other
        return PlainTextResponse(f"{error.detail}\n", error.status_code, headers=error.headers)

    every = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
    routes = [*pages, Route("/{path:path}", nothing, methods=every)]
    app = Starlette(routes=routes, exception_handlers={HTTPException: failed})
    # A path with a slash too many is unknown, and no reason to send the client elsewhere.
    app.router.redirect_slashes = False
    return _Guarded(app, origins, intake)


class _Guarded:
    """Answers requests that no page of another site, and no name that was made to mean this machine, may make."""

    def __init__(self, app: ASGIApp, origins: Origins, intake: Intake) -> None:
        self._app = app
        self._origins = origins
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            complaint = self._origins.complaint(request.headers)
            if complaint:
                if request.method == "POST":
                    self._intake.remember(Refusal(HTTPStatus.FORBIDDEN, complaint))
                await PlainTextResponse(f"{complaint}\n", HTTPStatus.FORBIDDEN)(scope, receive, send)
                return
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        await self._app(scope, receive, send)


async def _body(request: Request) -> bytes:
    """Return the body as sent; raises `RefusedError` where it is too large, before more than that is in memory."""
    try:
        length = int(request.headers.get("content-length", ""))
    except ValueError:
        raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "a request needs a content-length") from None
    too_large = RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {bounds.MAX_BODY} bytes")
    if length > bounds.MAX_BODY:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > bounds.MAX_BODY:
            raise too_large
    return bytes(body)


def _refused(path: str, refusal: RefusedError) -> Response:
    # What has not been read of a body would be taken for the next request.
    unread = refusal.status in {HTTPStatus.LENGTH_REQUIRED, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
    headers = {"connection": "close"} if unread else {}
    if path == PUSH_PATH:
        return Response(error_body(refusal.status, refusal.words), refusal.status, headers, "application/json")
    return PlainTextResponse(f"{refusal.words}\n", refusal.status, headers)


async def no_delay() -> None:
    """Answer at once."""
    await asyncio.sleep(0)
