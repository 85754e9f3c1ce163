"""Who is let in: names, origins and tokens; and what every answer tells browsers to refuse."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from dualstream.serve.observe import Metrics, log
from dualstream.serve.page_files import PAGE_FILES
from dualstream.serve.refusal import RefusedError
from dualstream.serve.settings import LOOPBACK_NAMES, Settings, ip_address, is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({*PAGE_FILES, "/healthz", "/openapi.json"})
"""What needs no token: the page itself, which asks for it, and what says nothing of anybody."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
)


class Guard:
    """Lets requests in or refuses them, counts them, and marks every answer.

    A page of another site that a browser shows must not be able to use the service, although the
    browser reaches it: neither by its own name for the address (DNS rebinding: the name in `Host`
    must be one of the service's) nor by calling from elsewhere (`Origin` must be the `Host`).

    Args:
        app: that is guarded.
        settings: of the service.
        metrics: that count.
    """

    def __init__(self, app: App, *, settings: Settings, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics
        self._token = settings.token
        self._hosts = {settings.host, *settings.allowed_hosts}
        if is_loopback(settings.host):
            self._hosts |= LOOPBACK_NAMES
        self._is_public = not is_loopback(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, sent = time.perf_counter(), 500, 0

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        try:
            self._check(scope)
        except RefusedError as error:
            await answer_refusal(error, sending)
        else:
            await self._app(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(scope["method"], route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(seconds)
            log(
                "request",
                method=scope["method"],
                route=route,
                status=status,
                seconds=round(seconds, 4),
                sent_bytes=sent,
            )

    def _check(self, scope: Scope) -> None:
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        host = headers.get("host", b"").decode("latin-1")
        name = _host_name(host)
        is_known = name in self._hosts or (self._is_public and ip_address(name) is not None)
        if not is_known:
            raise RefusedError(
                "forbidden",
                f"This service is not known as {name!r}. Call it by its address, or give "
                "--allowed-host when it is started.",
            )
        origin = headers.get("origin")
        if origin is not None:
            scheme, _, origin_host = origin.decode("latin-1").partition("://")
            if scheme not in ("http", "https") or origin_host.lower() != host.lower():
                raise RefusedError("forbidden", "Pages of other origins may not use this service.")
        if self._token is None or scope["path"] in OPEN_PATHS:
            return
        kind, _, given = headers.get("authorization", b"").partition(b" ")
        is_right = hmac.compare_digest(given.strip(), self._token.encode())
        if kind.lower() != b"bearer" or not is_right:
            raise RefusedError(
                "unauthorized",
                "This service wants a token: Authorization: Bearer TOKEN, as it was given by "
                "--token.",
            )


def _host_name(host: str) -> str:
    """The name in a Host header: 'a.b:80' -> 'a.b', '[::1]:80' -> '::1'."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def refusal_document(error: RefusedError) -> dict[str, str]:
    """Return what is told of a refusal."""
    return {"error": error.kind, "message": str(error)}


def refusal_headers(error: RefusedError) -> dict[str, str]:
    """Return the headers that go with a refusal."""
    headers = {"cache-control": "no-store"}
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(error.retry_after_seconds)
    if error.kind == "unauthorized":
        headers["www-authenticate"] = "Bearer"
    return headers


async def answer_refusal(error: RefusedError, send: Send) -> None:
    """Answer a request by a refusal, without the application."""
    body = json.dumps(refusal_document(error)).encode()
    headers = refusal_headers(error) | {"content-type": "application/json"}
    await send(
        {
            "type": "http.response.start",
            "status": error.status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()]
            + [(b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body})
