"""What the kubernetes package does on the main path, and why the rest stays out (docs/adr/0004).

    python bench/libraries/kubernetes_package.py

Starts a server of its own on loopback; needs no cluster.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import kubernetes
import yaml
from aiohttp import web
from kubernetes.aio.client import ApiClient, AppsV1Api, Configuration, CoreV1Api
from kubernetes.aio.watch import Watch

from devloop.adapters.kubernetes.api.access import open_access
from devloop.adapters.kubernetes.api.client import MERGE_PATCH, Client

ROUNDS = 100
PATH = "/apis/apps/v1/namespaces/default/deployments/web"
PATCH = {"metadata": {"annotations": {"a": "b"}}}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "default", "resourceVersion": "7"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": f"c{i}", "image": "web:1"} for i in range(5)]},
        },
    },
    "status": {"replicas": 1},
}
WEIGH = """
import sys, time
import aiohttp, anyio, psutil, pydantic, yaml
process = psutil.Process()
memory, cpu = process.memory_info().rss, time.process_time()
exec(sys.argv[1])
print(f"{time.process_time() - cpu:.2f} s CPU, {(process.memory_info().rss - memory) / 1e6:.0f} MB")
"""
MERGER = """
import sys
from kubernetes.aio.config.kube_config import KubeConfigMerger, KubeConfigLoader
loader = KubeConfigLoader(KubeConfigMerger(sys.argv[1]).config, active_context="x", config_base_path=None)
loader._load_cluster_info()
"""


def weigh() -> None:
    for what in (
        "import kubernetes.aio.config.kube_config",
        "from kubernetes.aio.client import AppsV1Api, CoreV1Api",
        "import devloop.adapters.kubernetes.cluster",
        "import docker",
        "import docker, kubernetes.aio.config.kube_config",
        "import watchfiles",
    ):
        best = min(
            subprocess.run([sys.executable, "-c", WEIGH, what], capture_output=True, text=True).stdout.strip()
            for _ in range(5)
        )
        print(f"{what}: {best}")


class Api:
    """Answers the PATCH of one Deployment; its watches end at once; `lists` counts the requests for pods."""

    def __init__(self) -> None:
        self.lists: list[str] = []

    async def __aenter__(self) -> Api:
        app = web.Application()
        app.router.add_patch(PATH, self._patch)
        app.router.add_get("/api/v1/namespaces/default/pods", self._pods)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.server = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _patch(self, request: web.Request) -> web.Response:
        await request.read()
        return web.json_response(DEPLOYMENT)

    async def _pods(self, request: web.Request) -> web.Response:
        self.lists.append(request.query.get("resourceVersion", "none"))
        return web.Response(text="", content_type="application/json")


def kubeconfig(folder: Path, server: str) -> Path:
    path = folder / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "contexts": [{"name": "x", "context": {"cluster": "kind-x", "user": "u"}}],
                "clusters": [{"name": "kind-x", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    return path


async def latency(api: Api, path: Path) -> None:
    configuration = Configuration(host=api.server)
    async with (
        Client(lambda last: open_access([path], "x", allow_remote=False)) as own,
        ApiClient(configuration) as generic,
    ):
        apps = AppsV1Api(generic)
        cases: dict[str, Callable[[], Awaitable[Any]]] = {
            "devloop's client": lambda: own.request("PATCH", PATH, body=PATCH, content_type=MERGE_PATCH),
            "kubernetes.aio AppsV1Api": lambda: apps.patch_namespaced_deployment("web", "default", PATCH),
        }
        took: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(ROUNDS):
            for name, work in cases.items():
                begun = time.perf_counter()
                await work()
                took[name].append((time.perf_counter() - begun) * 1000)
        for name, values in took.items():
            print(f"PATCH, {name}: median {statistics.median(values):.2f} ms, best {min(values):.2f} ms")


async def watch(api: Api) -> None:
    """A server, or a proxy before it, that ends each watch at once."""
    async with ApiClient(Configuration(host=api.server)) as client:
        api.lists.clear()
        with anyio.move_on_after(2):
            async for _ in Watch().stream(CoreV1Api(client).list_namespaced_pod, "default"):
                pass
    print(f"watch that the server ends at once: kubernetes.aio asks {len(api.lists)} times in 2 s")


def merger() -> None:
    """What its reader of kubeconfig files makes of odd ones; devloop's reads each, or names what is wrong."""
    good = {
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty").touch()
        os.mkfifo(folder / "fifo")
        (folder / "good").write_text(yaml.safe_dump(good))
        (folder / "indented").write_text(yaml.safe_dump(good | {"users": [{"name": "u", "token": "s3cret"}]}))
        (folder / "mine").mkdir()
        (folder / "mine" / "me.crt").touch()
        (folder / "mine" / "user").write_text(
            yaml.safe_dump({"users": [{"name": "u", "user": {"client-certificate": "me.crt"}}]})
        )
        (folder / "theirs").write_text(yaml.safe_dump({key: good[key] for key in ("contexts", "clusters")}))
        for what, files in (
            ("an empty file before it", ["empty", "good"]),
            ("a FIFO before it", ["fifo", "good"]),
            ("a user's token on the wrong level", ["indented"]),
            ("a user in another folder than the cluster", ["theirs", "mine/user"]),
        ):
            paths = ":".join(str(folder / one) for one in files)
            try:
                done = subprocess.run(
                    [sys.executable, "-c", MERGER, paths], capture_output=True, text=True, timeout=10
                )
            except subprocess.TimeoutExpired:
                message = "hangs"
            else:
                message = (done.stderr.strip().splitlines() or ["well"])[-1].replace(name, "")
            print(f"KubeConfigMerger, {what}: {message}")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Api() as api:
            await latency(api, kubeconfig(Path(folder), api.server))
            await watch(api)


if __name__ == "__main__":
    print(f"kubernetes {kubernetes.__version__}, Python {sys.version.split()[0]}")
    weigh()
    merger()
    anyio.run(main)
