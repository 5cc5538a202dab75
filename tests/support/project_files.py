"""Files of small projects: Dockerfiles, workloads, and programs that run."""

from __future__ import annotations

import json
from pathlib import Path

Files = dict[str, str]
SHOP = """\
version: 1
cluster: {context: %s}
services:
  web:
    image: shop
    build: {context: web}
    deploy: {deployment: web}
manifests: ["k8s/*.yaml"]
metrics: {listen: "127.0.0.1:0"}
"""
Result = dict[str, tuple[str, str, str]]  # service -> image, context, workloads


def write(root: Path, files: Files) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def shop(context: str) -> Files:
    """One service, web, with a manifest, on this context; its config.yaml is one of the files."""
    return {
        "config.yaml": SHOP % context,
        "web/Dockerfile": dockerfile(". ."),
        "k8s/web.yaml": workload("web", "shop:1"),
    }


def dockerfile(
    *copies: str, base: str = "python:3.12-slim", port: int | None = 8000, command: tuple[str, ...] = ()
) -> str:
    """`command`: main.py on the port if none is given."""
    usual = ["python3", "main.py", *([str(port)] if port else [])]
    words = list(command) or usual
    copied = "".join(f"COPY {one}\n" for one in copies)
    exposed = f"EXPOSE {port}\n" if port else ""
    return f"FROM {base}\nWORKDIR /app\n{copied}{exposed}CMD {json.dumps(words)}\n"


def workload(
    name: str,
    *images: str,
    kind: str = "Deployment",
    namespace: str = "",
    init: str = "",
    more: str = "",
    extra: str = "",
) -> str:
    """A Deployment or StatefulSet. An image is "container=image" or the image; `extra`: of containers."""
    added = f", {extra}" if extra else ""
    boxes = [one if "=" in one else f"{name}={one}" for one in images]
    listed = "".join("        - {{name: {}, image: {}{}}}\n".format(*one.split("="), added) for one in boxes)
    early = (
        "      initContainers:\n        - {{name: {}, image: {}}}\n".format(*init.split("=")) if init else ""
    )
    where = f", namespace: {namespace}" if namespace else ""
    return (
        f"apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}{where}}}\nspec:\n"
        f"  selector: {{matchLabels: {{app: {name}}}}}\n"
        + (f"  serviceName: {name}\n" if kind == "StatefulSet" else "")
        + f"  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n{early}"
        + f"      containers:\n{listed}{more}"
    )


def server(name: str) -> str:
    """main.py: answers every request with one line."""
    return f'''import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = "{name}: one"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(TEXT.encode())


signal.signal(signal.SIGTERM, lambda *_: sys.exit())
print(TEXT, flush=True)
ThreadingHTTPServer(("", int(sys.argv[1])), Answer).serve_forever()
'''


WORKER = """import signal
import sys
import time

TEXT = "worker: one"

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
while True:
    print(TEXT, flush=True)
    time.sleep(60)
"""
