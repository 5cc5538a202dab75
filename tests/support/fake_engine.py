"""An engine that only knows its API versions: for what a real one cannot be made to do in a test."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class FakeEngine(socketserver.ThreadingUnixStreamServer):
    """Answers on a unix socket, in its `versions` (lowest, highest) alone: lists, tags, removals."""

    daemon_threads = True

    def __init__(self, socket: Path, lowest: str = "1.24", highest: str = "1.41") -> None:
        super().__init__(str(socket), _Handler)
        self.host = f"unix://{socket}"
        self.versions = lowest, highest
        self.refusal = ""  # of whatever is created
        self.refused_ping = 0  # the HTTP code
        self.tells_version_in_ping = True
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeEngine

    def setup(self) -> None:
        self.client_address = ("unix", 0)
        super().setup()

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        lowest, highest = self.server.versions
        first, _, rest = self.path.removeprefix("/").partition("/")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        version = first.removeprefix("v") if first.startswith("v1.") else ""
        if version and not _number(lowest) <= _number(version) <= _number(highest):
            how, limit = ("old", lowest) if _number(version) < _number(lowest) else ("new", highest)
            bound = "Minimum" if how == "old" else "Maximum"
            text = f"client version {version} is too {how}. {bound} supported API version is {limit}"
            self.answer(400, {"message": text})
        elif self.path == "/_ping" and self.server.refused_ping:
            self.answer(self.server.refused_ping, {"message": "not here"})
        elif self.server.refusal and rest.startswith("containers/create"):
            self.answer(404, {"message": self.server.refusal})
        elif (rest if version else first).startswith("version"):
            self.answer(200, {"ApiVersion": highest} if highest else {})
        else:
            self.answer(200, [] if "images/json" in self.path else {})

    do_POST = do_DELETE = do_HEAD = do_GET

    def answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        if self.server.versions[1] and (self.path != "/_ping" or self.server.tells_version_in_ping):
            self.send_header("Api-Version", self.server.versions[1])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
