"""``cytosae explore``: a study in the browser."""

from __future__ import annotations

import socket
import threading
import webbrowser
from typing import TYPE_CHECKING

from cytosae.common.errors import UsageError

if TYPE_CHECKING:
    from cytosae.cli.output import Output
    from cytosae.explorer.explorer_settings import ExplorerSettings


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
    address = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}/"  # noqa: S104  only told, not bound
    output.line(f"The explorer is at {address} (Ctrl-C ends it).")
    output.result(address=address)
    output.finish()
    if browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    config = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=5,
        limit_concurrency=200,
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
    except OSError as problem:
        listening.close()
        raise UsageError(f"{host}:{port} cannot be listened on ({problem.strerror}); give another --port.") from problem
    return listening
