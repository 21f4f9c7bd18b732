"""``cytosae explore``: a study in the browser."""

from __future__ import annotations

import getpass
import socket
import sys
import threading
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from cytosae.cli.output import Json, Output
from cytosae.common.errors import UsageError
from cytosae.explorer.explorer_settings import EVERYWHERE, ExplorerSettings

explore_app: App = App(
    name="explore",
    help="""The explorer: a finished study in the browser, on this machine, without the internet.

    **cytosae explore STUDY** serves it and opens a browser.
    """,
)


@explore_app.default
def explore(
    study: Path | None = None,
    *,
    settings: ExplorerSettings | None = None,
    browser: bool = True,
    as_json: Json = False,
) -> None:
    """Look at a finished study in the browser: click, search, judge. Nothing leaves this machine.

    Parameters
    ----------
    study
        Folder of the study.
    browser
        Open a browser.
    """
    serve(replace(settings or ExplorerSettings(), study=study), Output(as_json=as_json), browser=browser)


@explore_app.command
def accounts(
    name: str,
    /,
    *,
    file: Path,
    role: Literal["coordinator", "rater", "reader"] = "reader",
    password_from_input: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> None:
    """Give somebody an account, or another password or role; needed where other machines can reach the explorer.

    Parameters
    ----------
    name
        Name to sign in with.
    file
        File of accounts for `--accounts`; made where it is missing.
    role
        What the account may do.
    password_from_input
        Read the password from standard input instead of asking for it.
    """
    from cytosae.explorer.accounts import add_account

    output = Output(as_json=as_json)
    password = sys.stdin.readline().rstrip("\n") if password_from_input else getpass.getpass("Password: ")
    add_account(file, name, password, role)
    output.line(f"{name} is a {role}. Serve with: cytosae explore STUDY --host ADDRESS --accounts {file}")
    output.result(name=name, role=role, file=file)
    output.finish()


def serve(settings: ExplorerSettings, output: Output, *, browser: bool) -> None:
    """Serve until it is interrupted; the address is printed when the server listens."""
    try:
        import uvicorn

        from cytosae.explorer import create_app
    except ModuleNotFoundError as problem:
        raise UsageError(f"{problem.name} is missing; install it with: pip install 'cytosae[explorer]'.") from problem
    app = create_app(settings)
    listening = _listen(settings.host, settings.port)
    host, port = listening.getsockname()[:2]
    address = f"http://{'127.0.0.1' if host in EVERYWHERE else host}:{port}/"
    output.line(f"The explorer is at {address} (Ctrl-C ends it).")
    output.result(address=address)
    output.finish()
    for ahead in (app.state.library.prepare, app.state.library.prepare_places):
        threading.Thread(target=ahead, daemon=True).start()
    if browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    config = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=5,
        limit_concurrency=300,
        h11_max_incomplete_event_size=32 << 10,
    )
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens; one sentence where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # who comes before the server is ready waits
    except OSError as problem:
        listening.close()
        raise UsageError(f"{host}:{port} cannot be listened on ({problem.strerror}); give another --port.") from problem
    return listening
