"""Who is answered: this machine's own pages and programs, or whoever has the token.

A page elsewhere can make a browser send requests to 127.0.0.1, directly (CSRF) or under a name of
its own that suddenly resolves to 127.0.0.1 (DNS rebinding). The first shows in ``Origin`` and
``Sec-Fetch-Site``, the second in ``Host``; both are refused.
"""

import asyncio
import hmac
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import URL, Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

COOKIE = "edgekeeper"
OWN_NAMES = ("127.0.0.1", "localhost", "[::1]")
"""This machine's own names, as they stand in ``Host``."""

PATIENCE_WITH_HEADERS = 30.0
"""Seconds after which a connection that asks nothing whole is looked at; at the second it ends."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True, kw_only=True)
class Guard:
    """An ASGI application that hands on to ``app`` what may be answered.

    Attributes:
        names: the hosts that the server goes by, without port; None: any, where a token is asked.
        token: what a request must show; None: nothing.
    """

    app: ASGIApp
    names: tuple[str, ...] | None = OWN_NAMES
    token: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await (self._refusal(scope) or self.app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, url = Headers(scope=scope), URL(scope=scope)
        host = headers.get("host", "")
        if self.names is not None and host.rpartition(":")[0] not in self.names:
            bare = host if host.endswith("]") or ":" not in host else ""
            if bare not in self.names:
                return _refused(421, "This server does not go by that name.")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        # A proxy that speaks TLS hands on as http what the page asked for by https.
        schemes = (url.scheme,) if self.names == OWN_NAMES else (url.scheme, "https")
        if origin is not None and origin not in [f"{scheme}://{host}" for scheme in schemes]:
            return _refused(403, "Requests of other pages are not answered.")
        page = url.path == "/" or url.path.startswith("/p/")  # which a link elsewhere may open
        opened = page and scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if site not in (None, "same-origin", "none") and not opened:
            return _refused(403, "Requests of other pages are not answered.")
        return None if self.token is None else self._without_token(headers, url)

    def _without_token(self, headers: Headers, url: URL) -> Response | None:
        assert self.token is not None
        in_url = url.path == "/" and url.query.startswith("token=")
        given = url.query.removeprefix("token=") if in_url else _token_of(headers)
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return _refused(401, "This server asks for its token: open the address it printed.")
        if not in_url:
            return None
        answer = RedirectResponse("/", 303)  # so that the token leaves the address bar
        answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict", path="/")
        return answer


class ImpatientProtocol(H11Protocol):
    """HTTP whose connections end when they only hold a place: uvicorn waits for headers for ever.

    A server has a thousand places or so, and nobody needs a token to take one.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look at what becomes of a connection."""
        super().connection_made(transport)
        self._look(False)

    def _look(self, was_idle: bool) -> None:
        if self.transport.is_closing():
            return
        idle = self.cycle is None or self.cycle.response_complete
        if was_idle and idle:
            self.transport.close()
        else:
            self.loop.call_later(PATIENCE_WITH_HEADERS, self._look, idle)


def _token_of(headers: Headers) -> str:
    """Return the token that a request shows, in a header or as a cookie."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if cookie is None else cookie.value


def _refused(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
