"""What stands before every page: who may ask, from where, how much, and what a browser is told to allow.

A server on one's own machine is reached by every page that the browser has open. So requests must name this server as
their host (against DNS rebinding), and what writes must come from its own pages (against forged requests).
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from cytosae.explorer.accounts import COOKIE, Accounts
from cytosae.explorer.explorer_settings import EVERYWHERE, LOOPBACK, ExplorerSettings

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
FORM_BYTES = 1 << 20
"""Most bytes of a request beside an uploaded image."""
OPEN = ("/login", "/static/", "/health")
"""Paths that need no account."""
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=()",
}
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'nonce-{nonce}'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def add_security(app: FastAPI, settings: ExplorerSettings) -> None:
    """Put the guard before everything that ``app`` answers."""
    accounts = Accounts(settings.accounts) if settings.accounts is not None else None
    app.state.accounts = accounts
    app.add_middleware(Guard, settings=settings, accounts=accounts)


class Guard:
    """ASGI middleware; see the module."""

    app: Any
    settings: ExplorerSettings
    accounts: Accounts | None
    hosts: set[str]

    def __init__(self, app: Any, settings: ExplorerSettings, accounts: Accounts | None) -> None:
        self.app, self.settings, self.accounts = app, settings, accounts
        near = _here(settings) or settings.host in EVERYWHERE
        own = {settings.host, *map(str.casefold, settings.answer_to), *(LOOPBACK if near else ())} - set(EVERYWHERE)
        self.hosts = {settings.proxy} if settings.proxy else own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on and add the headers to the answer."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        nonce = secrets.token_urlsafe(16)
        scope.setdefault("state", {})["nonce"] = nonce

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers["content-security-policy"] = POLICY.format(nonce=nonce)
                if "cache-control" not in headers:
                    headers["cache-control"] = "no-store"
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, guarded)
            return
        await self.app(scope, self._limited(scope, receive), guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """Why a request is not answered; None where it is."""
        headers = Headers(scope=scope)
        if len(headers.getlist("host")) != 1 or _name(headers["host"]) not in self.hosts:
            return PlainTextResponse("This server does not answer to that name.", 421)
        if scope["method"] in WRITES:
            problem = self._forged(headers)
            if problem:
                return _told(scope, problem, 403)
            length = headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > self._most(scope):
                return _told(scope, f"The request is larger than {self._most(scope) >> 20} MiB.", 413)
        if self.accounts is None:
            return None
        user = self.accounts.user_of(Request(scope).cookies.get(COOKIE))
        scope["state"]["user"] = user
        if user is not None or scope["path"].startswith(OPEN):
            return None
        if scope["path"].startswith("/api") or scope["method"] in WRITES:
            return _told(scope, "Sign in first.", 401)
        return RedirectResponse("/login", 303)

    def _forged(self, headers: Headers) -> str:
        """Why a write is taken for forged; empty where it comes from one of our own pages."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if site not in (None, "same-origin", "none") or (origin is None and site is None):
            return "This must be sent from a page of this server (programs: with its address as Origin)."
        if origin is not None:
            scheme, _, host = origin.partition("://")
            if scheme not in ("http", "https") or host.casefold() != headers["host"].casefold():
                return "This must be sent from a page of this server (programs: with its address as Origin)."
        return ""

    def _most(self, scope: Scope) -> int:
        upload = scope["path"] in ("/try", "/api/try")
        return FORM_BYTES + (self.settings.upload_bytes if upload else 0)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """``receive`` that gives up beyond the limit, whatever length was announced."""
        taken, most = 0, self._most(scope)

        async def limited() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise HTTPException(413, f"The request is larger than {most >> 20} MiB.")
            return message

        return limited


def _here(settings: ExplorerSettings) -> bool:
    return settings.host in LOOPBACK


def _name(host: str) -> str:
    """Host name of a Host header, lower case, without the port."""
    host = host.strip().casefold()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _told(scope: Scope, sentence: str, status: int) -> Response:
    if scope["path"].startswith("/api"):
        return JSONResponse({"detail": sentence}, status)
    return PlainTextResponse(sentence, status)
