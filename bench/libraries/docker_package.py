"""Where the docker package stays out, and why (docs/adr/0001): run it against a Docker engine.

    python bench/libraries/docker_package.py

1. The docker CLI's contexts, as the package finds them.
2. What a call costs that both can make.
3. A pull that does not get on, whose caller is cancelled: does the engine end it?
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import docker
from anyio import to_thread

from devloop.adapters.docker.endpoint import current
from devloop.adapters.docker.engine import Engine
from devloop.adapters.docker.housekeeping import open_client

ROUNDS = 30


class SlowRegistry(ThreadingHTTPServer):
    """Has one image, whose layer never comes to its end; `layers` is how many downloads are open now."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.layers = 0
        self.config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {}}).encode()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, SlowRegistry)
        layer = {"digest": "sha256:" + "1" * 64, "size": 1 << 30}
        config = {"digest": "sha256:" + hashlib.sha256(server.config).hexdigest(), "size": len(server.config)}
        kind = "application/vnd.docker."
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{kind}distribution.manifest.v2+json",
            "config": {"mediaType": f"{kind}container.image.v1+json", **config},
            "layers": [{"mediaType": f"{kind}image.rootfs.diff.tar.gzip", **layer}],
        }
        if "/manifests/" in self.path:
            self.answer(json.dumps(manifest).encode(), str(manifest["mediaType"]))
        elif self.path.endswith(str(config["digest"])):
            self.answer(server.config, "application/octet-stream")
        elif "/blobs/" in self.path:
            self.drip(server)
        else:
            self.answer(b"{}", "application/json")

    do_HEAD = do_GET

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(body).hexdigest())
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def drip(self, server: SlowRegistry) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 30))
        self.end_headers()
        server.layers += 1
        try:
            self.wfile.write(b"x" * 2000)
            self.connection.settimeout(60)
            self.rfile.read(1)  # until the engine hangs up
        except OSError:
            pass
        finally:
            server.layers -= 1
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


async def pulls() -> None:
    endpoint = current(os.environ)
    engine = Engine.at(endpoint)
    client: Any = open_client(endpoint)
    pulling = threading.Event()

    async def raw(name: str) -> None:
        async with aclosing(engine.pull(name, "1", "", "")) as answers:
            async for _ in answers:
                pass

    async def packaged(name: str) -> None:
        def work() -> None:
            pulling.set()
            for _ in client.pull(name, "1", stream=True, decode=True):
                pass
            pulling.clear()

        await to_thread.run_sync(work, abandon_on_cancel=True)

    for how, pull in (("raw", raw), ("docker package", packaged)):
        registry = SlowRegistry()
        with anyio.move_on_after(5):
            await pull(f"127.0.0.1:{registry.server_port}/slow-{how.split()[0]}")
        held = registry.layers
        await anyio.sleep(10)
        print(
            f"pull of a layer that does not get on, {how}: downloads of the engine {held} when the caller is"
            f" cancelled, {registry.layers} ten seconds later; a thread hangs: {pulling.is_set()}"
        )
    await engine.aclose()


CONTEXTS = """
import sys, time
from docker.context import ContextAPI
print(ContextAPI.kwargs_from_context() or "nothing: the default socket, without a word")
"""


def contexts() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        key = hashlib.sha256(b"far").hexdigest()
        meta = home / ".docker" / "contexts" / "meta" / key
        meta.mkdir(parents=True)
        (meta / "meta.json").write_text(
            json.dumps({"Name": "far", "Metadata": {}, "Endpoints": {"docker": {"Host": "tcp://10.0.0.9:1"}}})
        )
        environ = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
        environ |= {"HOME": folder, "DOCKER_CONTEXT": "far"}

        def by_package() -> str:
            command = [sys.executable, "-c", CONTEXTS]
            try:
                done = subprocess.run(
                    command, env=environ, cwd=folder, capture_output=True, text=True, timeout=5
                )
            except subprocess.TimeoutExpired:
                return "hangs"
            return (done.stdout or done.stderr).strip().splitlines()[-1]

        print(
            "DOCKER_CONTEXT=far, no config.json: devloop:", current(environ).host, "- package:", by_package()
        )
        environ["DOCKER_CONTEXT"] = "gone"
        print("DOCKER_CONTEXT=gone: package:", by_package(), "- devloop: an error that names it")
        os.mkfifo(home / ".docker" / "config.json")
        environ["DOCKER_CONTEXT"] = "far"
        print("config.json is a FIFO: devloop:", current(environ).host, "- package:", by_package())


def tiny_image(size: int) -> bytes:
    """A `docker save` archive of one layer of so many bytes."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        member = tarfile.TarInfo("data")
        member.size = size
        tar.addfile(member, io.BytesIO(os.urandom(size)))
    diff_id = "sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    ).encode()
    manifest = json.dumps(
        [{"Config": "config.json", "RepoTags": ["devloop-bench-load:1"], "Layers": ["layer.tar"]}]
    ).encode()
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in (
            ("config.json", config), ("layer.tar", layer.getvalue()), ("manifest.json", manifest)
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


async def latencies() -> None:
    endpoint = current(os.environ)
    engine = Engine.at(endpoint)
    client: Any = open_client(endpoint)
    ref = next(image.refs[0] for image in await engine.images() if image.refs)

    async def raw_load() -> None:
        async for _ in engine.load(tiny_image(100_000)):
            pass

    def load() -> None:
        list(client.load_image(tiny_image(100_000), quiet=True))

    async def threaded(work: Callable[[], object]) -> None:
        await to_thread.run_sync(work)

    cases: dict[str, Callable[[], Awaitable[object]]] = {
        "load of 100 KB, raw": raw_load,
        "load of 100 KB, docker package": lambda: threaded(load),
        "inspect, raw": lambda: engine.inspect(ref),
        "inspect, docker package": lambda: threaded(lambda: client.inspect_image(ref)),
        "list, raw": lambda: engine._json("GET", "/images/json"),
        "list, docker package": engine.images,
    }
    took: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, work in cases.items():
            begun = time.perf_counter()
            await work()
            took[name].append((time.perf_counter() - begun) * 1000)
    for name, values in took.items():
        print(f"{name}: median {statistics.median(values):.1f} ms, best {min(values):.1f} ms")
    await engine.remove("devloop-bench-load:1")
    await engine.aclose()


if __name__ == "__main__":
    print(f"docker {docker.__version__}, Python {sys.version.split()[0]}")
    contexts()
    anyio.run(latencies)
    anyio.run(pulls)
    os._exit(0)  # the package's thread still hangs in its pull
