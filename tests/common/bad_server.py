"""An HTTP server on this machine that misbehaves on demand."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTENT = bytes(range(256)) * 2000
"""512,000 bytes, more than is read at once."""


@dataclass
class BadServer:
    """What lies at which path, how it misbehaves, and what was asked of it."""

    address: str = ""
    content: dict[str, bytes] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    ranges: list[str | None] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"


class Handler(BaseHTTPRequestHandler):
    """``/<manner>/<name>``: the file ``name``, in that manner."""

    state: BadServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, the base class's name
        pass

    def do_HEAD(self) -> None:
        self.answer(head=True)

    def do_GET(self) -> None:
        self.answer(head=False)

    def answer(self, *, head: bool) -> None:
        manner, _, name = self.path.split("?")[0].strip("/").partition("/")
        first = self.state.asked[self.path] == 0
        self.state.asked[self.path] += not head
        if not head:
            self.state.ranges.append(self.headers.get("Range"))
        if manner == "loop":
            return self.say(302, {"Location": self.path})
        if manner == "busy" and (first or name == "always"):
            return self.say(429, {"Retry-After": "9999" if name == "always" else "0"})
        if name not in self.state.content:
            return self.say(404)
        return self.send_file(self.state.content[name], manner, head=head, first=first)

    def say(self, code: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()

    def send_file(self, content: bytes, manner: str, *, head: bool, first: bool) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found and manner != "deaf" else 0
        if start >= len(content):
            return self.say(416, {"Content-Range": f"bytes */{len(content)}"})
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if head:
            return None
        if (manner in ("cut", "deaf") and first) or manner == "ever-cut":
            body = body[: len(body) // 2]
            self.close_connection = True
        if manner == "slow" and first:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            time.sleep(0.6)
            self.close_connection = True
            return None
        self.wfile.write(body)
        return None


class Quiet(ThreadingHTTPServer):
    """Clients hang up on purpose here."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def bad_server() -> Iterator[BadServer]:
    """Serve while the block runs."""
    state = BadServer(content={"file.bin": CONTENT})
    server = Quiet(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
