"""Signing in and out, where there are accounts."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Form, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from cytosae.common.errors import UsageError
from cytosae.explorer.accounts import COOKIE, SESSION_SECONDS, Accounts
from cytosae.explorer.answering import html


def add_signing_in(app: FastAPI) -> None:
    """Give the app the page where people sign in, and what says that it is alive."""
    app.get("/health", include_in_schema=False)(health)
    if app.state.accounts is not None:
        app.get("/login", response_class=HTMLResponse, include_in_schema=False)(login)
        app.post("/login", include_in_schema=False)(sign_in)
        app.post("/logout", include_in_schema=False)(sign_out)


def health() -> PlainTextResponse:
    """Say that the server is alive, to whoever watches it."""
    return PlainTextResponse("ok")


def login(request: Request) -> HTMLResponse:
    """The page where people sign in."""
    return html(request, "login.html.j2", {"problem": ""})


def sign_in(
    request: Request,
    name: Annotated[str, Form(max_length=64)],
    password: Annotated[str, Form(max_length=1024)],
) -> Response:
    """Begin a session under a new token, whatever cookie the browser brought."""
    accounts: Accounts = request.app.state.accounts
    try:
        token = accounts.sign_in(name, password)
    except UsageError as problem:
        return html(request, "login.html.j2", {"problem": str(problem)}, status=429)
    if token is None:
        return html(request, "login.html.j2", {"problem": "Name or password are wrong."}, status=401)
    accounts.sign_out(request.cookies.get(COOKIE))
    answer = RedirectResponse("/", 303)
    secure = bool(request.app.state.settings.proxy)
    answer.set_cookie(COOKIE, token, max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=secure)
    return answer


def sign_out(request: Request) -> RedirectResponse:
    """End the session."""
    request.app.state.accounts.sign_out(request.cookies.get(COOKIE))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer
